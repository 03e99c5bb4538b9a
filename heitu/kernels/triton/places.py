"""Where a kernel stands in the program that launches it, whoever compiled it first.

Triton's cache knows a kernel by its text and its first line, not by its file. What was compiled of a copy of
the program comes from there with the copy's places.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ASSERTED = re.compile(r"^(.*device-side assert triggered: )(.*?)(:\d+: .*)$", re.DOTALL)


class Move:
    """From the files of a copy of the program to those of the program itself.

    Args:
        source: of a kernel, as Triton has it.
        metadata: of the compiled kernel, with `defined` (file, line and column, or None), `asserts` and
            `checked_sites`.
    """

    def __init__(self, source: Any, metadata: Any) -> None:
        self._metadata = metadata
        self._there: str = metadata.defined[0] if metadata.defined else ""
        self._here = (_file(source) or self._there) if metadata.defined else ""
        self._roots = _roots(self._there, self._here)

    def metadata(self) -> Any:
        """The metadata, with files of this program."""
        if self._here == self._there:
            return self._metadata
        _, line, column = self._metadata.defined
        sites = [{**site, "file": self._moved(site["file"])} for site in self._metadata.checked_sites]
        return self._metadata._replace(defined=[self._here, line, column], checked_sites=sites)

    def launcher(self, launch: Callable[..., None]) -> Callable[..., None]:
        """What launches, naming files of this program in what it raises."""
        if self._here == self._there or not self._metadata.asserts:
            return launch

        def moved(*arguments: Any) -> None:
            try:
                launch(*arguments)
            except RuntimeError as error:
                found = _ASSERTED.search(str(error))
                if found is None:
                    raise
                raise RuntimeError(found[1] + self._moved(found[2]) + found[3]) from None

        return moved

    def _moved(self, file: str) -> str:
        """The file here. Functions that a kernel calls stand in other files of the copy, or in neither's."""
        if file == self._there:
            return self._here
        before, after = self._roots
        path = Path(file)
        moved = after / path.relative_to(before) if path.is_relative_to(before) else path
        return str(moved) if moved.exists() else file


def _file(source: Any) -> str | None:
    """The file of the function that is the kernel; None where it comes from no function."""
    function: Any = getattr(source, "fn", None)
    while hasattr(function, "fn"):
        function = function.fn
    code = getattr(function, "__code__", None)
    return None if code is None else str(code.co_filename)


def _roots(there: str, here: str) -> tuple[Path, Path]:
    """What two paths to the same file begin with, before all that is the same in them."""
    before, after = Path(there).parts, Path(here).parts
    same = 0
    while same < min(len(before), len(after)) and before[-1 - same] == after[-1 - same]:
        same += 1
    return Path(*before[: len(before) - same]), Path(*after[: len(after) - same])
