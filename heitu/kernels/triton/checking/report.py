"""What is said of the accesses that were found wrong: at once, and at the end of the program."""

from __future__ import annotations

import atexit
import ctypes
import linecache
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from heitu.errors import ExitCode
from heitu.kernels.triton.checking.extents import Extent
from heitu.kernels.triton.checking.library import Kind, library
from heitu.kernels.triton.lowering.checked import SiteFlag


@dataclass
class Finding:
    """One way in which one operation of a kernel accesses memory wrongly.

    Args:
        kernel: its name.
        place: file and line; empty where they are not known.
        program: of the first such access; so are `element`, `address` and what follows.
        element: its place in the tile, a number for each axis.
        argument: the name of the kernel's argument; empty: not known.
        count: how many such accesses there were in all launches.
        told: the address of a count, of 64 bits, that somebody else keeps of them; 0: nobody does.
    """

    kind: Kind
    kernel: str
    place: str
    program: tuple[int, int, int]
    element: tuple[int, ...]
    argument: str
    text: str
    count: int = 0
    launches: int = field(default=0)
    told: int = field(default=0)


# Given kind, kernel, file and line of the access, argument and text, it gives the address of a count, or 0.
Told = Callable[[str, str, tuple[str, int] | None, str, str], int]

_tell: Told | None = None
_found: dict[str, Finding] = {}
_limited: set[str] = set()


def tell(listener: Told | None) -> None:
    """Has somebody hear of each new finding, and of how many such accesses there are."""
    global _tell
    _tell = listener


def add(
    kernel: str, number: int, kind: Kind, finding: Any, sites: Sequence[Any], extents: Sequence[Any]
) -> None:
    """Takes in what a launch found at one site, and says it if it is new.

    Args:
        kernel: its name.
        number: of the site.
        finding: a CFinding.
        sites: those of the kernel, as `instrument` gives them.
        extents: those of the launch's arguments.
    """
    site = sites[number]
    # What autotuning compiles of a kernel has the same sites under other numbers.
    key = f"{kernel} {site['operation']} {site['file']}:{site['line']}:{site['column']} {kind}"
    known = _found.get(key)
    if known is None:
        if not _found:
            atexit.register(_end)
        known = _found[key] = describe(kernel, number, kind, finding, sites, extents)
        print(f"heitu: {known.text}", file=sys.stderr, flush=True)
        if _tell is not None:
            at = (site["file"], site["line"]) if site["file"] else None
            known.told = _tell(TITLES[kind], kernel, at, known.argument, known.text)
    known.count += finding.count
    if known.told:
        ctypes.c_uint64.from_address(known.told).value += finding.count
    known.launches += 1


def say_limited(kernel: str) -> None:
    """Says once for a kernel that races were no longer looked for."""
    if kernel not in _limited:
        _limited.add(kernel)
        said = f"heitu: kernel {kernel}: races were looked for in a part of a launch only, whose accesses"
        print(f"{said} would have taken more than 2 GiB to remember", file=sys.stderr, flush=True)


def found() -> list[Finding]:
    """What was found since the program began, or since `forget`."""
    return list(_found.values())


def forget() -> None:
    """Drops what was found, so that the program ends as if it had not been."""
    _found.clear()


def _end() -> None:
    """At the end of the program: the sums, and the exit code if nothing else is the matter."""
    if not _found:
        return
    kernels = _number(len({finding.kernel for finding in _found.values()}), "kernel")
    lines = [f"heitu: --check-kernels found {_number(len(_found), 'defect')} in {kernels}:"]
    for finding in _found.values():
        where = f" at {finding.place}" if finding.place else ""
        accesses = _number(finding.count, "access", "accesses")
        launches = _number(finding.launches, "launch", "launches")
        lines.append(f"heitu:   {finding.kernel}{where}: {TITLES[finding.kind]}, {accesses} in {launches}")
    print(*lines, sep="\n", file=sys.stderr, flush=True)
    library().heitu_check_end_with(int(ExitCode.KERNEL_DEFECTS))


TITLES = {
    Kind.OUT_OF_BOUNDS: "out of bounds",
    Kind.OUTSIDE_OF_VIEW: "outside of the tensor, inside of its storage",
    Kind.UNINITIALISED: "uninitialised memory read",
    Kind.RACE: "race between program instances",
}


def describe(
    kernel: str, number: int, kind: Kind, finding: Any, sites: Sequence[Any], extents: Sequence[Any]
) -> Finding:
    """The finding, with what is printed of it."""
    site = sites[number]
    program = (finding.program[0], finding.program[1], finding.program[2])
    element = _unflattened(finding.element, site["shape"])
    extent = extents[site["argument"]] if site["argument"] is not None else None
    in_tile = f", element {_tuple(element)} of a tile of {_tuple(site['shape'])}" if site["shape"] else ""
    lines = [
        f"{TITLES[kind]}: {_verb(site)} of {_number(site['bytes'], 'byte')}",
        f"kernel   {kernel}, program {_tuple(program)}{in_tile}",
        f"at       {_source(site)}",
    ]
    if kind is Kind.RACE:
        other = sites[finding.other_site]
        whom = _tuple((finding.other_program[0], finding.other_program[1], finding.other_program[2]))
        lines += [
            f"and      {_source(other)}",
            f"         {_verb(other)} of the same memory by program {whom}, and nothing orders the two",
        ]
    lines.append(f"tensor   {_tensor(extent, finding.address, site)}")
    lines.append(f"count    {_number(finding.count, 'such access', 'such accesses')} in this launch")
    place = f"{site['file']}:{site['line']}" if site["file"] else ""
    text = "\n         ".join(lines)
    return Finding(kind, kernel, place, program, element, extent.name if extent else "", text)


def _verb(site: Any) -> str:
    if site["flags"] & SiteFlag.ATOMIC:
        return "an atomic operation" if site["operation"] != "tt.load" else "a volatile read"
    return "a write" if site["flags"] & SiteFlag.WRITES else "a read"


def _source(site: Any) -> str:
    if not site["file"]:
        return "a line that is not known"
    line = linecache.getline(site["file"], site["line"]).strip()
    return f"{site['file']}:{site['line']}" + (f": {line}" if line else "")


def _tensor(extent: Extent | None, address: int, site: Any) -> str:
    """Which tensor, and where in it or how far from it."""
    if extent is None:
        return f"unknown: address {address:#x} comes from no argument of the launch"
    if extent.tensor is None:
        return f"{extent.name}: {'None was given' if extent.known else 'an address'}; accessed {address:#x}"
    tensor = extent.tensor
    size = tensor.element_size()
    offset, rest = divmod(address - extent.view_first, size)
    last = (extent.view_last - extent.view_first) // size - 1
    where = f"element {offset}" + (f" and {_number(rest, 'byte')}" if rest else "")
    holds = f"it has elements 0 to {last} from its first on" if last >= 0 else "it has no elements"
    if extent.first <= address < extent.last and not extent.view_first <= address < extent.view_last:
        storage = (extent.last - extent.first) // size
        holds += f", in a storage of {storage}"
    kind = str(tensor.dtype).removeprefix("torch.")
    strides = "" if tensor.is_contiguous() else f" with strides {_tuple(tensor.stride())}"
    return f"{extent.name}: {kind} {_tuple(tensor.shape)}{strides} on {tensor.device}; {where}: {holds}"


def _unflattened(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    index = []
    for extent in reversed(shape):
        flat, at = divmod(flat, extent)
        index.append(at)
    return tuple(reversed(index))


def _tuple(numbers: Sequence[int]) -> str:
    return f"({', '.join(map(str, numbers))}{',' if len(numbers) == 1 else ''})"


def _number(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
