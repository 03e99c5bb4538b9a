"""Where in the program an operator was called from."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import lru_cache
from types import FrameType
from typing import NamedTuple


class Place(NamedTuple):
    """A line of Python."""

    file: str
    line: int
    function: str


class Places(NamedTuple):
    """Innermost frames: in the user's own code, and in whatever is neither torch's nor Python's own."""

    user: Place | None
    site: Place | None


_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = tuple(
    os.path.realpath(path) + os.sep
    for name in ("stdlib", "platstdlib")
    if (path := sysconfig.get_path(name)) is not None
)
_SITE = ("/site-packages/", "/dist-packages/")
_TORCH = tuple(f"{site}{package}/" for site in _SITE for package in ("torch", "torchgen", "functorch"))


def here(frame: FrameType | None = None) -> Places:
    """The places of the calling thread's stack; with `frame`, of the stack that ends there."""
    if frame is None:
        frame = sys._getframe(1)
    site: Place | None = None
    while frame is not None:
        kind = _kind(frame.f_code.co_filename)
        if kind != "inner":
            if site is None:
                site = _place(frame)
            if kind == "user":
                return Places(_place(frame), site)
        frame = frame.f_back
    return Places(None, site)


def in_user_code(frame: FrameType, line: int) -> Place | None:
    """The frame's place, if it is the user's own code."""
    if _kind(frame.f_code.co_filename) != "user":
        return None
    return Place(frame.f_code.co_filename, line, frame.f_code.co_name)


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def _triton() -> str:
    """Where triton lies, which need not be among the site's packages; else a path that no file has."""
    file = getattr(sys.modules.get("triton"), "__file__", None)
    return os.path.dirname(os.path.realpath(file)) + os.sep if file else "\0"


@lru_cache(maxsize=4096)
def _kind(file: str) -> str:
    """inner: torch's, Python's or ours; library: another package's; user: the rest."""
    if file.startswith("<") and not file.startswith(("<stdin>", "<string>", "<ipython")):
        return "inner"
    path = os.path.realpath(file) if os.path.isabs(file) else os.path.abspath(file)
    slashes = path.replace(os.sep, "/")
    if path.startswith(_OWN) or any(mark in slashes for mark in _TORCH):
        return "inner"
    if any(mark in slashes for mark in _SITE) or path.startswith(_triton()):
        return "library"
    return "inner" if path.startswith(_STANDARD) else "user"
