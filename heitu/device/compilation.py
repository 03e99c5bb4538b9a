"""Compiles the C++ core.

The library lies in the cache under a key of everything that went into it. Objects are kept by the hash of
what each one was compiled from, so a change of one source, or a build that was killed, costs no more than
what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from heitu.cache import private_cache, write_whole
from heitu.device import build
from heitu.device.build_progress import BuildProgress, say
from heitu.device.installed_torch import InstalledTorch, require_torch
from heitu.device.toolchain import Compiler, ToolError, compile_flags, find_compiler, link_flags, run_tool
from heitu.errors import HeituError
from heitu.settings import settings

PREBUILT = build.PACKAGE / "device" / "_prebuilt"
PRELUDE = "prelude.h"
UNUSED_DAYS = 3  # what no build has used for so long is removed at the end of the next one


def build_library(cache: Path, torch: InstalledTorch) -> Path:
    """The library in `cache`, compiled as far as it is not there yet. The caller holds the lock.

    Raises:
        HeituError: no compiler, or it failed.
        OSError: the cache cannot be written.
    """
    return _build(cache, Recipe(torch, find_compiler()))


def prebuild() -> Path:
    """Builds the library that a wheel carries and puts it into the package; returns its path."""
    build.check_platform()
    torch = require_torch()
    torch.check_usable()
    library = _build(private_cache(), Recipe(torch, find_compiler(), portable=True))
    PREBUILT.mkdir(exist_ok=True)
    target = PREBUILT / f"{_prebuilt_key(torch)}.so"
    write_whole(target, library.read_bytes())
    return target


def prebuilt_library(torch: InstalledTorch) -> Path | None:
    """The library that the wheel carries for this torch, if it carries one."""
    if not PREBUILT.is_dir():
        return None
    library = PREBUILT / f"{_prebuilt_key(torch)}.so"
    return library if library.is_file() else None


def source_files(*suffixes: str) -> list[Path]:
    """The files of the core with one of these suffixes, in a fixed order."""
    return [Path(entry.path) for entry in build.source_entries(*suffixes)]


def preludes() -> list[Path]:
    """The header that every translation unit begins with."""
    return [path for path in (root / PRELUDE for root in build.SOURCE_DIRS) if path.is_file()]


def include_closure(source: Path) -> list[Path]:
    """`source`, the prelude, and every header of ours that either reaches, whatever its #if says."""
    found: set[Path] = set()
    waiting = [source, *preludes()]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        text = path.read_text("utf-8", "replace")
        for name in re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.MULTILINE):
            waiting += [Path(os.path.normpath(base / name)) for base in (path.parent, *build.SOURCE_DIRS)]
    return sorted(found)


@dataclass(frozen=True)
class Batch:
    """Sources that are compiled as one translation unit.

    Args:
        optimization: the compiler's level.
    """

    sources: tuple[Path, ...]
    optimization: str

    @property
    def name(self) -> str:
        """For progress and errors."""
        first, *rest = (source.name for source in self.sources)
        return first if not rest else f"{first} and {len(rest)} more"


def batches(sources: list[Path]) -> list[Batch]:
    """All of `sources`, in two units at most, which take about as long as each other.

    Reading PyTorch's headers takes longer than compiling most sources, so there are only as many units as
    keep two processors busy. Each source then sees what others keep in their unnamed namespaces. (A
    precompiled header takes longer to write than it saves.)
    """
    # What every operator passes through lies in the first folder itself. What lies below it and in the other
    # folder calls other operators, which do the work: optimizing it is time lost.
    passage = tuple(source for source in sources if source.parent == build.SOURCE_DIRS[0])
    rest = tuple(source for source in sources if source.parent != build.SOURCE_DIRS[0])
    return [batch for batch in (Batch(passage, "-O2"), Batch(rest, "-O1")) if batch.sources]


@dataclass(frozen=True)
class Recipe:
    """Everything that goes into the library.

    Args:
        portable: for a wheel, so torch is looked for beside the package and not where it lies now.
    """

    torch: InstalledTorch
    compiler: Compiler
    portable: bool = False

    def flags(self, batch: Batch) -> list[str]:
        """The flags with which `batch` is compiled."""
        return compile_flags(self.torch, batch.optimization) + self._own_includes()

    def _own_includes(self) -> list[str]:
        return [word for root in build.SOURCE_DIRS if root.is_dir() for word in ("-I", str(root))]

    def object_key(self, batch: Batch) -> str:
        """The key of what compiling `batch` gives."""
        # Where the sources lie does not matter: what they say is in the key already.
        files = sorted({path for source in batch.sources for path in include_closure(source)})
        return self._key(files, compile_flags(self.torch, batch.optimization))

    def library_key(self) -> str:
        """The key of the whole library."""
        units = [flag for batch in batches(source_files(".cpp")) for flag in self.flags(batch)]
        return self._key(source_files(".cpp", ".h"), [*units, *link_flags(self.torch, self.portable)])

    def _key(self, files: list[Path], flags: list[str]) -> str:
        return _digest(self.compiler.identity(), flags, _source_key(self.torch, files))


class _SourceChangedError(Exception):
    """A source was edited while it was being compiled, so the object is not what its key says."""


def _build(cache: Path, recipe: Recipe) -> Path:
    while True:
        try:
            return _Build(cache, recipe).run()
        except _SourceChangedError as change:
            say(f"{change} was edited while it was being compiled; starting over with what is there now")


class _Build:
    """One build, in the process that holds the lock."""

    def __init__(self, cache: Path, recipe: Recipe) -> None:
        self._recipe = recipe
        self._log = cache / "build.log"
        self._objects = cache / "objects"
        self._target = cache / "libraries" / f"{recipe.library_key()}.so"
        self._running: set[subprocess.Popen[str]] = set()

    def run(self) -> Path:
        if self._target.exists():
            if self._is_whole():
                return self._target
            say(f"the cached library {self._target} is corrupt; building it anew")
        for directory in (self._objects, self._target.parent):
            directory.mkdir(mode=0o700, exist_ok=True)
        sources = source_files(".cpp")
        if not sources:
            message = f"There are no sources of the core in {build.SOURCE_DIRS[0]}."
            raise HeituError(message, hint="Install heitu anew.")
        objects = {batch: self._objects / f"{self._recipe.object_key(batch)}.o" for batch in batches(sources)}
        missing = {batch: product for batch, product in objects.items() if not product.exists()}
        title = f"building the cuda device for torch {self._recipe.torch.version} (once)"
        try:
            with BuildProgress(title, len(missing) + 1) as progress:
                self._compile_all(missing, progress.step)
                self._link(list(objects.values()))
                progress.step("linking")
        except ToolError as failure:
            write_whole(self._log, failure.output.encode())
            raise failure.explain(self._log) from None
        self._remove_unused(set(objects.values()))
        return self._target

    def _is_whole(self) -> bool:
        try:
            return self._record.read_text().strip() == _file_digest(self._target)
        except (OSError, ValueError):
            return False

    @property
    def _record(self) -> Path:
        return self._target.with_suffix(".sha256")

    def _compile(self, batch: Batch, words: list[str], product: Path) -> None:
        unfinished = product.with_name(f"{product.name}.{os.getpid()}.tmp")
        command = [*self._recipe.compiler.command, *self._recipe.flags(batch), "-c", *words]
        command += ["-o", str(unfinished)]
        try:
            run_tool(batch.name, command, self._running)
            os.replace(unfinished, product)
        finally:
            unfinished.unlink(missing_ok=True)

    def _compile_all(self, wanted: dict[Batch, Path], done: Callable[[str], None]) -> None:
        def one(batch: Batch) -> None:
            *before, last = [*preludes(), *batch.sources]
            words = [word for path in before for word in ("-include", str(path))]
            self._compile(batch, [*words, str(last)], wanted[batch])
            if self._recipe.object_key(batch) != wanted[batch].stem:
                wanted[batch].unlink()
                raise _SourceChangedError(batch.name)
            done(batch.name)

        with ThreadPoolExecutor(settings.build_jobs or len(os.sched_getaffinity(0))) as pool:
            futures = [pool.submit(one, batch) for batch in wanted]
            try:
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # After a failure or Ctrl-C the others are of no use; after success there are none.
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self._running):
                    process.kill()
        for future in futures:
            if future in finished:
                future.result()

    def _link(self, objects: list[Path]) -> None:
        unfinished = self._target.with_name(f"{self._target.name}.{os.getpid()}.tmp")
        flags = link_flags(self._recipe.torch, self._recipe.portable)
        command = [*self._recipe.compiler.command, *map(str, objects), *flags, "-o", str(unfinished)]
        try:
            run_tool("the library", command, self._running)
            write_whole(self._record, _file_digest(unfinished).encode())
            os.replace(unfinished, self._target)
        except ToolError as failure:
            if re.search(r"not recognized|truncated|malformed|corrupt", failure.output):
                # A damaged object would fail every link to come; without it the next build makes it anew.
                for path in objects:
                    path.unlink(missing_ok=True)
            raise
        finally:
            unfinished.unlink(missing_ok=True)

    def _remove_unused(self, used: set[Path]) -> None:
        for path in used:
            os.utime(path)
        oldest = time.time() - UNUSED_DAYS * 86400
        for path in [*self._objects.iterdir(), *self._target.parent.iterdir()]:
            if path.stem != self._target.stem and path.stat().st_mtime < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _prebuilt_key(torch: InstalledTorch) -> str:
    return _source_key(torch, source_files(".cpp", ".h"))


def _source_key(torch: InstalledTorch, files: list[Path]) -> str:
    """A key of the text of `files` and of the torch and the Python that they are compiled for."""
    texts = [(path.name, _file_digest(path)) for path in files]
    return _digest(texts, torch.version, torch.git_version, torch.cxx11_abi, EXTENSION_SUFFIXES[0])


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def _file_digest(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
