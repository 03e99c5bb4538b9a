"""A launch of a kernel in its checked form."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from heitu.kernels.triton.checking import poison, report
from heitu.kernels.triton.checking.extents import Extent, allocated, extents
from heitu.kernels.triton.checking.library import (
    NO_SITE,
    AreaFlag,
    CArea,
    CArgument,
    CLaunch,
    CSite,
    Kind,
    library,
)
from heitu.kernels.triton.lowering.checked import SiteFlag
from heitu.kernels.triton.signature import BEFORE_ARGUMENTS

# Whoever judges keeps one launch in mind.
_alone = threading.RLock()


class Checked:
    """Launches a kernel, and says what it accessed wrongly.

    Args:
        launcher: what runs the grid.
        kernel: its name.
        kinds: the types of its arguments, as Triton writes them.
        names: theirs.
        sites: the operations that access memory, as `instrument` gives them.
        at_once: whether program instances wait for each other.
    """

    def __init__(
        self,
        launcher: Callable[..., None],
        kernel: str,
        kinds: Sequence[Any],
        names: Sequence[str],
        sites: Sequence[Any],
        at_once: bool,
    ) -> None:
        self.launcher = launcher
        self.kernel = kernel
        self.kinds = kinds
        self.names = names
        self.sites = sites
        self.at_once = at_once
        self._sites = (CSite * max(len(sites), 1))(
            *(CSite(each["flags"], each["bytes"], _number(each["argument"])) for each in sites)
        )
        self._writers = {each["argument"] for each in sites if each["flags"] & SiteFlag.WRITES}
        self._wander = any(each["argument"] is None for each in sites)

    def __call__(self, *arguments: Any) -> None:
        given = extents(self.kinds, self.names, arguments[BEFORE_ARGUMENTS:])
        with _alone:
            launch, kept = self._launch(arguments[:3], given)
            if library().heitu_check_begin(ctypes.byref(launch)) != 0:
                raise MemoryError("no memory to remember what a kernel accesses")
            limited = ctypes.c_int32()
            try:
                self.launcher(*arguments)
            finally:
                findings = library().heitu_check_end(ctypes.byref(limited))
                self._say(findings, given)
                del kept
        if limited.value:
            report.say_limited(self.kernel)

    def _say(self, findings: Any, given: Sequence[Extent | None]) -> None:
        for number in range(len(self.sites)):
            for kind in Kind:
                finding = findings[number * len(Kind) + kind]
                if finding.count:
                    report.add(self.kernel, number, kind, finding, self.sites, given)

    def _launch(self, grid: Sequence[int], given: Sequence[Extent | None]) -> tuple[CLaunch, Any]:
        """The structure, and what has to live as long as it is used."""
        watched = self._watched(given)
        arguments = (CArgument * max(len(given), 1))()
        for number, each in enumerate(given):
            if each is not None and each.known:
                flags = AreaFlag.KNOWN | (AreaFlag.POISONED if each.poisoned else 0)
                flags |= AreaFlag.WATCHED if _overlaps(each, watched) else 0
                storage = CArea(each.first, each.last, flags)
                arguments[number] = CArgument(storage, each.view_first, each.view_last)
        unknown = any(each is not None and not each.known for each in given)
        areas, segments = self._areas(given, watched) if self._wander or unknown else ((CArea * 1)(), [])
        around = (CArea * max(len(segments), 1))(*(CArea(*each, 0) for each in sorted(segments)))
        launch = CLaunch(
            (ctypes.c_int32 * 3)(*grid),
            self.at_once,
            poison.pattern,
            len(self.sites),
            len(given),
            len(areas) if self._wander or unknown else 0,
            len(segments),
            self._sites,
            arguments,
            areas,
            around,
        )
        return launch, (arguments, areas, around)

    def _watched(self, given: Sequence[Extent | None]) -> list[Extent] | None:
        """The arguments through whose storage memory may be written; None: whatever there is."""
        written = [given[number] if number is not None else None for number in self._writers]
        known = [each for each in written if each is not None and each.known]
        return known if len(known) == len(written) else None

    def _areas(
        self, given: Sequence[Extent | None], watched: list[Extent] | None
    ) -> tuple[Any, list[tuple[int, int]]]:
        """What addresses that come from no argument may lie in: sorted, apart."""
        blocks, segments = allocated()
        poisoned = {address: address + count for address, count in poison.live()}
        ranges = dict(blocks)
        ranges.update({each.first: each.last for each in given if each is not None})
        for first, last in poisoned.items():
            ranges[first] = max(last, ranges.get(first, 0))
        found: list[CArea] = []
        for first, last in sorted(ranges.items()):
            if found and first < found[-1].last:
                continue
            own = Extent("", first=first, last=last)
            flags = AreaFlag.KNOWN | (AreaFlag.POISONED if first in poisoned else 0)
            found.append(CArea(first, last, flags | (AreaFlag.WATCHED if _overlaps(own, watched) else 0)))
        return (CArea * max(len(found), 1))(*found), segments


def _number(argument: int | None) -> int:
    return NO_SITE if argument is None else argument


def _overlaps(extent: Extent, others: Iterable[Extent] | None) -> bool:
    return others is None or any(extent.first < each.last and each.first < extent.last for each in others)
