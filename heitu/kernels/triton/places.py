"""Where a kernel stands in the program that launches it, whoever compiled it first.

Triton's cache knows a kernel by its text and its first line, not by its file. What was compiled of a copy of
the program comes from there with the copy's places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def at_home(source: Any, metadata: Any) -> Any:
    """The metadata of a compiled kernel, with files of this program in the place of those of a copy.

    Args:
        source: of the kernel, as Triton has it.
        metadata: with `defined` (file, line and column, or None) and `checked_sites`.
    """
    file = _file(source)
    if file is None or metadata.defined is None or metadata.defined[0] == file:
        return metadata
    there, line, column = metadata.defined
    roots = _roots(there, file)
    sites = [{**site, "file": _moved(site["file"], there, file, roots)} for site in metadata.checked_sites]
    return metadata._replace(defined=[file, line, column], checked_sites=sites)


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


def _moved(file: str, there: str, here: str, roots: tuple[Path, Path]) -> str:
    """The file here. Functions that the kernel calls stand in other files of the same copy, or of neither."""
    if file == there:
        return here
    before, after = roots
    path = Path(file)
    moved = after / path.relative_to(before) if path.is_relative_to(before) else path
    return str(moved) if moved.exists() else file
