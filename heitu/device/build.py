"""Finds a compiled library of Heitu's for the torch that is installed, and has it built where it is missing.

A stamp in the private cache holds sizes and times of the sources and of the library. While they are as
recorded, nothing is hashed and no compiler is asked; the modules that compile are not even imported.
"""

from __future__ import annotations

import binascii
import json
import os
import sys
from errno import ENOSPC
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from heitu.cache import cache_path, check_private, private_cache, write_whole
from heitu.device.installed_torch import InstalledTorch, require_torch
from heitu.device.library import Library
from heitu.errors import ExitCode, HeituError

PACKAGE = Path(__file__).resolve().parent.parent
SOURCE_DIRS = (PACKAGE / "device" / "csrc", PACKAGE / "collectives" / "csrc")
PYTHONS = ((3, 10), (3, 13))


def core() -> Library:
    """The description of the core: the cuda device itself."""
    return Library("the core", "the cuda device", "heitu_core", SOURCE_DIRS)


def core_library() -> Path:
    """The compiled core; see `library_file`."""
    return library_file(core())


def library_file(library: Library) -> Path:
    """The compiled library for the installed torch, built first if need be.

    Raises:
        HeituError: no torch, an unsuitable one, no compiler, a failed build, a cache that is not private,
            a full disk, a platform other than Linux.
    """
    check_platform()
    torch = require_torch()
    cache = private_cache()
    stamp = Stamp(cache, torch, library)
    return stamp.read() or _build_under_lock(cache, torch, library, stamp)


def is_built(torch: InstalledTorch, library: Library | None = None) -> bool:
    """Whether `library`, or else the core, is there already. Makes no directory and builds nothing."""
    cache = cache_path()
    if not cache.is_dir():
        return False
    check_private(cache)
    return Stamp(cache, torch, library or core()).read() is not None


def check_platform() -> None:
    """Raises HeituError on anything but Linux with Python 3.10 to 3.13."""
    if not sys.platform.startswith("linux"):
        raise HeituError(
            f"Heitu runs on Linux; this is {sys.platform}.",
            hint="Use WSL2 on Windows, or a Linux container or virtual machine on macOS.",
            exit_code=ExitCode.PLATFORM,
        )
    oldest, newest = PYTHONS
    if not oldest <= sys.version_info[:2] <= newest:
        raise HeituError(
            f"Heitu runs on Python {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}; "
            f"this is {sys.version_info[0]}.{sys.version_info[1]}.",
            hint="Make a virtual environment with one of those, for instance `uv venv --python 3.13`.",
            exit_code=ExitCode.PLATFORM,
        )


class Stamp:
    """What was true when the library was last found whole, for one torch and one Python."""

    def __init__(self, cache: Path, torch: InstalledTorch, library: Library) -> None:
        self._library = library
        self._identity = [*library.identity(), str(torch.root), EXTENSION_SUFFIXES[0]]
        name = binascii.crc32("\n".join(self._identity).encode())
        self._file = cache / f"stamp-{name:08x}.json"
        self._version_file = torch.root / "version.py"

    def read(self) -> Path | None:
        """The library, if nothing has changed since the stamp was written; else None."""
        try:
            recorded = json.loads(self._file.read_bytes())
            library = recorded["library"]
            if self.inputs() == recorded["inputs"] and _state(library) == recorded["state"]:
                return Path(library)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def write(self, library: Path, inputs: list[Any]) -> None:
        """Records that `library` is whole and made from `inputs`, which were noted before it was made."""
        content = {"inputs": inputs, "library": str(library), "state": _state(library)}
        write_whole(self._file, json.dumps(content).encode())

    def inputs(self) -> list[Any]:
        """What the library depends on, as it is now."""
        # The compiler counts only by name: a library made with one that has since gone is still good.
        sources = [[os.fspath(entry), *_size_and_time(entry.stat())] for entry in self._library.inputs()]
        version = _size_and_time(self._version_file.stat())
        return [self._identity, version, [os.environ.get(name, "") for name in ("CXX", "CXXFLAGS")], sources]


def _size_and_time(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns]


def _state(library: str | Path) -> list[int]:
    # The time of the inode's last change cannot be set back, as that of the content can.
    status = os.stat(library)
    return [*_size_and_time(status), status.st_ctime_ns, status.st_ino]


def _build_under_lock(cache: Path, torch: InstalledTorch, wanted: Library, stamp: Stamp) -> Path:
    from filelock import FileLock, Timeout

    from heitu.device.build_progress import say
    from heitu.device.compilation import build_library, prebuilt_library
    from heitu.device.toolchain import disk_full

    torch.check_usable()
    try:
        lock = FileLock(cache / "build.lock", mode=0o600)
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            say(f"another process is building {wanted.name}; waiting for it")
            lock.acquire()
        try:
            # Another process may have built it in the meantime.
            inputs = stamp.inputs()
            path = stamp.read() or prebuilt_library(torch, wanted) or build_library(cache, torch, wanted)
            stamp.write(path, inputs)
            return path
        finally:
            lock.release()
    except OSError as error:
        if error.errno == ENOSPC:
            raise disk_full(f"of {cache}") from None
        raise HeituError(
            f"The cache directory {cache} is not usable: {error.strerror or error}.",
            hint="Set HEITU_CACHE_DIR to a directory that you can write to.",
            exit_code=ExitCode.CACHE_REFUSED,
        ) from None


def main() -> None:
    """Builds the core and prints its path; with --prebuild, the one that a wheel carries."""
    from heitu.device.compilation import prebuild

    try:
        print(prebuild() if "--prebuild" in sys.argv[1:] else core_library())
    except HeituError as failure:
        print(f"heitu: {failure}", file=sys.stderr)
        raise SystemExit(failure.exit_code) from None


if __name__ == "__main__":
    main()
