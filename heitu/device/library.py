"""The description of a shared library of Heitu's: what it is made from. `heitu.device.build` makes it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from heitu.cache import write_whole

PRELUDE = "prelude.h"
SOURCES = (".cpp", ".h")


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


@dataclass(frozen=True)
class Library:
    """A shared library and what it is made from.

    Args:
        name: for messages, as in "another process is building the core".
        title: what one has when it is built, as in "building the cuda device for torch 2.13.0".
        module: its name as a Python module.
        source_dirs: every `*.cpp` in and below them is compiled; what lies in the first itself, at -O2.
        include_dirs: further directories whose headers the sources may include.
        directory: where it lies in the cache, relative to it.
        generate: makes further sources, a text by file name, out of what `generated_from` lists.
        generated_from: files that `generate` reads.
    """

    name: str
    title: str
    module: str
    source_dirs: tuple[Path, ...]
    include_dirs: tuple[Path, ...] = ()
    directory: str = "."
    generate: Callable[[], Mapping[str, str]] | None = None
    generated_from: tuple[Path, ...] = ()

    def identity(self) -> list[str]:
        """What tells it from the other libraries."""
        return [str(path) for path in (*self.source_dirs, *self.include_dirs)]

    def entries(self, *suffixes: str) -> Iterator[os.DirEntry[str]]:
        """The files of its own with one of these suffixes, in a fixed order."""
        return _entries(self.source_dirs, suffixes)

    def inputs(self) -> Iterator[os.DirEntry[str] | Path]:
        """Every file that it depends on."""
        yield from self.entries(*SOURCES)
        yield from _entries(self.include_dirs, (".h",))
        yield from self.generated_from

    def sources(self, cache: Path) -> Sources:
        """Its sources as they are now; those that are generated are written into `cache`."""
        if self.generate is None:
            return Sources((*self.source_dirs, *self.include_dirs), self._files(".cpp"), self._all_files())
        place = cache / self.directory / "generated"
        made = []
        for name, text in self.generate().items():
            path = place / name
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.is_file() or path.read_text("utf-8") != text:
                write_whole(path, text.encode())
            made.append(path)
        compiled = [*self._files(".cpp"), *(path for path in made if path.suffix == ".cpp")]
        return Sources((*self.source_dirs, *self.include_dirs, place), compiled, [*self._all_files(), *made])

    def _files(self, *suffixes: str) -> list[Path]:
        return [Path(entry.path) for entry in self.entries(*suffixes)]

    def _all_files(self) -> list[Path]:
        return [*self._files(*SOURCES), *(Path(entry.path) for entry in _entries(self.include_dirs, (".h",)))]


@dataclass(frozen=True)
class Sources:
    """The files that a library is compiled from.

    Args:
        roots: the directories that includes are looked for in; the first has the sources that matter most.
        compiled: the files to compile.
        files: those and all headers.
    """

    roots: tuple[Path, ...]
    compiled: list[Path]
    files: list[Path]

    def include_flags(self) -> list[str]:
        """The compiler's flags for `roots`."""
        return [word for root in self.roots if root.is_dir() for word in ("-I", str(root))]

    def preludes(self) -> list[Path]:
        """The header that every translation unit begins with."""
        return [path for path in (root / PRELUDE for root in self.roots) if path.is_file()]

    def include_closure(self, source: Path) -> list[Path]:
        """`source`, the prelude, and every header of ours that either reaches, whatever its #if says."""
        found: set[Path] = set()
        waiting = [source, *self.preludes()]
        while waiting:
            path = waiting.pop()
            if path in found or not path.is_file():
                continue
            found.add(path)
            text = path.read_text("utf-8", "replace")
            for name in re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.MULTILINE):
                waiting += [Path(os.path.normpath(base / name)) for base in (path.parent, *self.roots)]
        return sorted(found)

    def batches(self) -> list[Batch]:
        """All that is compiled, in two units at most, which take about as long as each other.

        Reading PyTorch's headers takes longer than compiling most sources, so there are only as many units
        as keep two processors busy. Each source then sees what others keep in their unnamed namespaces. (A
        precompiled header takes longer to write than it saves.)
        """
        # What every operator passes through lies in the first folder itself. What lies below it and in the
        # other folder calls other operators, which do the work: optimizing it is time lost.
        passage = tuple(source for source in self.compiled if source.parent == self.roots[0])
        rest = tuple(source for source in self.compiled if source.parent != self.roots[0])
        return [batch for batch in (Batch(passage, "-O2"), Batch(rest, "-O1")) if batch.sources]


def _entries(roots: Iterable[Path], suffixes: tuple[str, ...]) -> Iterator[os.DirEntry[str]]:
    waiting = [str(root) for root in reversed(list(roots)) if root.is_dir()]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir():
                    waiting.append(entry.path)
                elif entry.name.endswith(suffixes):
                    yield entry
