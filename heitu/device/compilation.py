"""Compiles a library of Heitu's.

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
from heitu.device.library import Batch, Library, Sources
from heitu.device.toolchain import Compiler, ToolError, compile_flags, find_compiler, link_flags, run_tool
from heitu.errors import HeituError
from heitu.settings import settings

PREBUILT = build.PACKAGE / "device" / "_prebuilt"
UNUSED_DAYS = 3  # what no build has used for so long is removed at the end of the next one


def build_library(cache: Path, torch: InstalledTorch, library: Library) -> Path:
    """The library in `cache`, compiled as far as it is not there yet. The caller holds the lock.

    Raises:
        HeituError: no compiler, or it failed.
        OSError: the cache cannot be written.
    """
    return _build(cache, library, torch)


def prebuild() -> Path:
    """Builds the core that a wheel carries and puts it into the package; returns its path."""
    build.check_platform()
    torch = require_torch()
    torch.check_usable()
    built = _build(private_cache(), build.core(), torch, portable=True)
    PREBUILT.mkdir(exist_ok=True)
    target = PREBUILT / f"{_prebuilt_key(torch, build.core())}.so"
    write_whole(target, built.read_bytes())
    return target


def prebuilt_library(torch: InstalledTorch, library: Library) -> Path | None:
    """The file of `library` that the wheel carries for this torch, if it carries one."""
    if library.generate is not None or not PREBUILT.is_dir():
        return None
    path = PREBUILT / f"{_prebuilt_key(torch, library)}.so"
    return path if path.is_file() else None


@dataclass(frozen=True)
class Recipe:
    """Everything that goes into the library.

    Args:
        portable: for a wheel, so torch is looked for beside the package and not where it lies now.
    """

    library: Library
    sources: Sources
    torch: InstalledTorch
    compiler: Compiler
    portable: bool = False

    def flags(self, batch: Batch) -> list[str]:
        """The flags with which `batch` is compiled."""
        return self._foreign_flags(batch) + self.sources.include_flags()

    def object_key(self, batch: Batch) -> str:
        """The key of what compiling `batch` gives."""
        # Where the sources lie does not matter: what they say is in the key already.
        files = sorted({path for source in batch.sources for path in self.sources.include_closure(source)})
        return self._key(files, self._foreign_flags(batch))

    def library_key(self) -> str:
        """The key of the whole library."""
        units = [flag for batch in self.sources.batches() for flag in self.flags(batch)]
        return self._key(self.sources.files, [*units, *link_flags(self.torch, self.portable)])

    def _foreign_flags(self, batch: Batch) -> list[str]:
        return compile_flags(self.torch, self.library.module, batch.optimization)

    def _key(self, files: list[Path], flags: list[str]) -> str:
        return _digest(self.compiler.identity(), flags, _source_key(self.torch, files))


class _SourceChangedError(Exception):
    """A source was edited while it was being compiled, so the object is not what its key says."""


def _build(cache: Path, library: Library, torch: InstalledTorch, portable: bool = False) -> Path:
    compiler = find_compiler()
    while True:
        try:
            recipe = Recipe(library, library.sources(cache), torch, compiler, portable)
            return _Build(cache / library.directory, recipe).run()
        except _SourceChangedError as change:
            say(f"{change} was edited while it was being compiled; starting over with what is there now")


class _Build:
    """One build, in the process that holds the lock."""

    def __init__(self, directory: Path, recipe: Recipe) -> None:
        self._recipe = recipe
        self._log = directory / "build.log"
        self._objects = directory / "objects"
        self._target = directory / "libraries" / f"{recipe.library_key()}.so"
        self._running: set[subprocess.Popen[str]] = set()

    def run(self) -> Path:
        if self._target.exists():
            if self._is_whole():
                return self._target
            say(f"the cached library {self._target} is corrupt; building it anew")
        for directory in (self._objects, self._target.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        library, batches = self._recipe.library, self._recipe.sources.batches()
        if not batches:
            message = f"There are no sources of {library.name} in {library.source_dirs[0]}."
            raise HeituError(message, hint="Install heitu anew.")
        objects = {batch: self._objects / f"{self._recipe.object_key(batch)}.o" for batch in batches}
        missing = {batch: product for batch, product in objects.items() if not product.exists()}
        title = f"building {library.title} for torch {self._recipe.torch.version} (once)"
        try:
            with BuildProgress(title, len(missing) + 1) as progress:
                self._compile_all(missing, progress.step)
                self._link(list(objects.values()))
                progress.step("linking")
        except ToolError as failure:
            write_whole(self._log, failure.output.encode())
            raise failure.explain(library.name, self._log) from None
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
            *before, last = [*self._recipe.sources.preludes(), *batch.sources]
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


def _prebuilt_key(torch: InstalledTorch, library: Library) -> str:
    return _source_key(torch, library.sources(private_cache()).files)


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
