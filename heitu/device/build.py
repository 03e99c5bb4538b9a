"""Builds the C++ core against the torch that is installed, once, and finds it again in milliseconds.

The library lies in the private cache under a key of everything that went into it. A stamp beside it
holds sizes and times of the sources and of the library: while they are as recorded, nothing is hashed
and no compiler is asked. Objects are kept by the hash of what each one was compiled from, so a change
of one source, or a build that was killed, costs no more than what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from errno import ENOSPC
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heitu.cache import private_cache
from heitu.errors import ExitCode, HeituError
from heitu.settings import settings

if TYPE_CHECKING:
    from heitu.device.installed_torch import InstalledTorch
    from heitu.device.toolchain import Compiler

PACKAGE = Path(__file__).resolve().parent.parent
SOURCE_DIRS = (PACKAGE / "device" / "csrc", PACKAGE / "collectives" / "csrc")
PREBUILT = PACKAGE / "device" / "_prebuilt"
PRELUDE = "prelude.h"
UNUSED_DAYS = 14  # objects and libraries not asked for in so long are removed at the next build


def core_library() -> Path:
    """The compiled core for the installed torch, built first if need be.

    Raises:
        HeituError: no torch, an unsuitable one, no compiler, a failed build, a cache that is not private,
            a full disk, a platform other than Linux.
    """
    check_platform()
    cache = private_cache()
    stamp = Stamp(cache)
    ready = stamp.read()
    return ready if ready is not None else _build_under_lock(cache, stamp)


def is_built() -> bool:
    """Whether core_library() would answer at once. Makes no directory and builds nothing."""
    from heitu.cache import cache_path, check_private

    cache = cache_path()
    if not cache.is_dir():
        return False
    check_private(cache)
    return Stamp(cache).read() is not None


def check_platform() -> None:
    """Raises HeituError on anything but Linux with CPython 3.10 to 3.13."""
    if not sys.platform.startswith("linux"):
        raise HeituError(
            f"Heitu runs on Linux; this is {sys.platform}.",
            hint="Use WSL2 on Windows, or a Linux container or virtual machine on macOS.",
            exit_code=ExitCode.PLATFORM,
        )
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise HeituError(
            f"Heitu runs on Python 3.10 to 3.13; this is {sys.version_info[0]}.{sys.version_info[1]}.",
            hint="Make a virtual environment with one of those, for instance `uv venv --python 3.13`.",
            exit_code=ExitCode.PLATFORM,
        )


def source_files(pattern: str = r"\.(cpp|h)$") -> Iterator[Path]:
    """The files of the core in a fixed order."""
    for root in SOURCE_DIRS:
        for directory, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                if re.search(pattern, name):
                    yield Path(directory, name)


def digest(*parts: object) -> str:
    """A key of 20 hex digits for what can be written as JSON."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:20]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        sha = hashlib.sha256()
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _state(path: Path | str) -> list[str | int]:
    status = os.stat(path)
    return [str(path), status.st_size, status.st_mtime_ns]


class Stamp:
    """What was true when the library was last found whole, for this torch and this Python."""

    def __init__(self, cache: Path) -> None:
        from heitu.device.installed_torch import require_torch

        self.torch = require_torch()
        self._cache = cache
        self._file = cache / f"stamp-{digest(SOURCE_DIRS, self.torch.root, sysconfig.get_config_var('SOABI'))}.json"

    def read(self) -> Path | None:
        """The library, if nothing has changed since the stamp was written; else None."""
        try:
            recorded = json.loads(self._file.read_bytes())
            library = Path(recorded["library"])
            if self._inputs() == recorded["inputs"] and self._library_state(library) == recorded["state"]:
                return library
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def write(self, library: Path) -> None:
        """Records that `library` is whole and made from the sources as they are now."""
        content = {"inputs": self._inputs(), "library": str(library), "state": self._library_state(library)}
        _write_whole(self._file, json.dumps(content).encode())

    def _inputs(self) -> list[Any]:
        # The compiler counts only by name: a library made with one that has since gone is still good.
        sources = [_state(path) for path in source_files()]
        return [_state(self.torch.root / "version.py"), os.environ.get("CXX", ""), sources]

    @staticmethod
    def _library_state(library: Path) -> list[int]:
        status = library.stat()
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


@dataclass(frozen=True)
class Recipe:
    """Everything that goes into the library."""

    torch: InstalledTorch
    compiler: Compiler
    portable: bool = False

    @property
    def flags(self) -> list[str]:
        from heitu.device.toolchain import compile_flags

        own = [word for root in SOURCE_DIRS if root.is_dir() for word in ("-I", str(root))]
        return compile_flags(self.torch) + own

    def object_key(self, source: Path) -> str:
        """The key of what compiling `source` gives: its text, its headers', flags, torch, compiler."""
        return digest(self.compiler.identity(), self.flags, source_key(self.torch, include_closure(source)))

    def library_key(self) -> str:
        """The key of the whole library."""
        identity = digest(self.compiler.identity(), self.flags, self.portable)
        return digest(identity, source_key(self.torch, tuple(source_files())))


def source_key(torch: InstalledTorch, files: tuple[Path, ...]) -> str:
    """A key of these files' text and the torch and Python they are compiled for."""
    texts = [(path.name, file_digest(path)) for path in files]
    abi = (torch.version, torch.git_version, torch.cxx11_abi, sysconfig.get_config_var("SOABI"))
    return digest(texts, abi)


def include_closure(source: Path) -> tuple[Path, ...]:
    """`source`, the prelude, and every header of ours that either reaches, whatever its #if says."""
    found: dict[Path, None] = {}
    waiting = [source, *(root / PRELUDE for root in SOURCE_DIRS)]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found[path] = None
        for name in re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text("utf-8", "replace"), re.MULTILINE):
            waiting += [Path(os.path.normpath(base / name)) for base in (path.parent, *SOURCE_DIRS)]
    return tuple(sorted(found))


def prebuilt_library(torch: InstalledTorch) -> Path | None:
    """The library that the wheel carries for this torch, if it carries one."""
    if not PREBUILT.is_dir():
        return None
    library = PREBUILT / f"{source_key(torch, tuple(source_files()))}.so"
    return library if library.is_file() else None


def prebuild() -> Path:
    """Builds the library that a wheel carries and puts it into the package; returns its path."""
    from heitu.device.installed_torch import require_torch
    from heitu.device.toolchain import find_compiler

    check_platform()
    torch = require_torch()
    torch.check_usable()
    library = _Build(private_cache(), Recipe(torch, find_compiler(), portable=True)).run()
    target = PREBUILT / f"{source_key(torch, tuple(source_files()))}.so"
    PREBUILT.mkdir(exist_ok=True)
    _write_whole(target, library.read_bytes())
    return target


def _build_under_lock(cache: Path, stamp: Stamp) -> Path:
    from filelock import FileLock, Timeout

    from heitu.device.build_progress import say
    from heitu.device.toolchain import disk_full, find_compiler

    stamp.torch.check_usable()
    lock = FileLock(cache / "build.lock", mode=0o600)
    try:
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            say("another process is building the core; waiting for it")
            lock.acquire()
        try:
            # Another process may have built it in the meantime.
            ready = stamp.read() or prebuilt_library(stamp.torch)
            if ready is None:
                ready = _Build(cache, Recipe(stamp.torch, find_compiler())).run()
            stamp.write(ready)
            return ready
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


class _Build:
    """One build, in the process that holds the lock."""

    def __init__(self, cache: Path, recipe: Recipe) -> None:
        self._cache = cache
        self._recipe = recipe
        self._objects = cache / "objects"
        self._running: set[subprocess.Popen[str]] = set()
        self._log = cache / "build.log"
        self._target = cache / "libraries" / f"{recipe.library_key()}.so"

    def run(self) -> Path:
        from heitu.device.build_progress import BuildProgress, say
        from heitu.device.toolchain import ToolFailed

        damage = self._damage()
        if damage is None:
            return self._target
        if damage:
            say(damage)
        sources = list(source_files(r"\.cpp$"))
        if not sources:
            raise HeituError(f"There are no sources of the core in {SOURCE_DIRS[0]}.", hint="Install heitu anew.")
        self._objects.mkdir(mode=0o700, exist_ok=True)
        self._target.parent.mkdir(mode=0o700, exist_ok=True)
        objects = {source: self._objects / f"{self._recipe.object_key(source)}.o" for source in sources}
        missing = [source for source in sources if not objects[source].exists()]
        prelude = next((root / PRELUDE for root in SOURCE_DIRS if (root / PRELUDE).is_file()), None)
        header = self._prelude_header(prelude) if prelude is not None else None
        make_header = bool(header and missing and not header.with_suffix(".h.gch").exists())
        title = f"building the cuda device for torch {self._recipe.torch.version} (once)"
        try:
            with BuildProgress(title, len(missing) + make_header + 1) as progress:
                if make_header:
                    assert header is not None and prelude is not None
                    self._compile_header(header, prelude)
                    progress.step(PRELUDE)
                self._compile_all({source: objects[source] for source in missing}, header, progress.step)
                self._link(list(objects.values()))
                progress.step(self._target.name)
        except ToolFailed as failure:
            _write_whole(self._log, failure.output.encode())
            raise failure.explain(self._log) from None
        for used in [*objects.values(), *([header.parent] if header else [])]:
            os.utime(used)
        self._remove_unused()
        return self._target

    def _damage(self) -> str | None:
        """None for a whole library with this key; else why not: empty, or a sentence if it is corrupt."""
        record = self._target.with_suffix(".sha256")
        if not self._target.exists():
            return ""
        try:
            if record.read_text().strip() == file_digest(self._target):
                return None
        except (OSError, ValueError):
            pass
        return f"the cached library {self._target} is corrupt; building it anew"

    def _prelude_header(self, prelude: Path) -> Path:
        # A stub of its own in the cache, because GCC wants the precompiled header beside the header.
        directory = self._objects / f"prelude-{digest(self._recipe.object_key(prelude), str(prelude))}"
        return directory / "prelude.h"

    def _compile_header(self, header: Path, prelude: Path) -> None:
        header.parent.mkdir(mode=0o700, exist_ok=True)
        _write_whole(header, f'#include "{prelude}"\n'.encode())
        self._compile(PRELUDE, ["-x", "c++-header", str(header)], header.with_suffix(".h.gch"))

    def _compile(self, what: str, words: list[str], product: Path) -> None:
        from heitu.device.toolchain import run_tool

        unfinished = product.with_name(f"{product.name}.{os.getpid()}.tmp")
        command = [*self._recipe.compiler.command, *self._recipe.flags, "-c", *words, "-o", str(unfinished)]
        try:
            run_tool(what, command, self._running)
            os.replace(unfinished, product)
        finally:
            unfinished.unlink(missing_ok=True)

    def _compile_all(self, wanted: dict[Path, Path], header: Path | None, done: Any) -> None:
        def one(source: Path, product: Path) -> None:
            before = ["-include", str(header)] if header else []
            self._compile(source.name, [*before, str(source)], product)
            done(source.name)

        # The longest first, by size: the last ones then fill the gaps.
        order = sorted(wanted, key=lambda source: -source.stat().st_size)
        with ThreadPoolExecutor(settings.build_jobs or _processors()) as pool:
            futures = [pool.submit(one, source, wanted[source]) for source in order]
            try:
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # After a failure or Ctrl-C the others are of no use; after success this does nothing.
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self._running):
                    process.kill()
        for future in futures:
            if future in finished:
                future.result()

    def _link(self, objects: list[Path]) -> None:
        from heitu.device.toolchain import ToolFailed, link_flags, run_tool

        unfinished = self._target.with_suffix(f".{os.getpid()}.tmp")
        # ABI flags do not matter to a link; the words of the compiler (ccache, --sysroot) do.
        words = [*map(str, objects), *link_flags(self._recipe.torch, self._recipe.portable)]
        try:
            run_tool("the library", [*self._recipe.compiler.command, *words, "-o", str(unfinished)], self._running)
            _write_whole(self._target.with_suffix(".sha256"), file_digest(unfinished).encode())
            os.replace(unfinished, self._target)
        except ToolFailed as failure:
            if re.search(r"not recognized|truncated|malformed|corrupt", failure.output):
                # A damaged object would fail every link to come; without it the next build makes it anew.
                for path in objects:
                    path.unlink(missing_ok=True)
            raise
        finally:
            unfinished.unlink(missing_ok=True)

    def _remove_unused(self) -> None:
        import shutil

        oldest = time.time() - UNUSED_DAYS * 86400
        for path in [*self._objects.iterdir(), *self._target.parent.iterdir()]:
            if path.stem != self._target.stem and path.stat().st_mtime < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees all of it or the one before."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    try:
        print(prebuild() if "--prebuild" in sys.argv[1:] else core_library())
    except HeituError as failure:
        print(f"heitu: {failure}", file=sys.stderr)
        raise SystemExit(failure.exit_code) from None
