"""Finding chips by name: those that come with the package, and those in a user's files."""

from __future__ import annotations

import difflib
import os
from functools import cache
from pathlib import Path

from heitu.chips.reading import SHIPPED, ChipFile
from heitu.chips.schema import Chip
from heitu.errors import ExitCode, HeituError


def names() -> list[str]:
    """The chips that come with the package, by family and then as their file has them."""
    return [name for file in _shipped() for name in file.names]


def aliases() -> dict[str, str]:
    """Further names, and the chip each of them means."""
    return {alias: name for file in _shipped() for alias, name in file.aliases.items()}


def load(name_or_path: str | os.PathLike[str]) -> Chip:
    """A chip by name or alias (`ascend-910b`), or from a file (`./my-chip.toml`, `./chips.toml:my-chip`).

    Raises:
        HeituError: no chip has that name (UNKNOWN_CHIP), or a file is wrong (CHIP_FILE).
    """
    given = os.fspath(name_or_path)
    path, colon, name = given.rpartition(".toml:")
    if colon:
        return _from_file(Path(f"{path}.toml"), name)
    if given.endswith(".toml") or os.sep in given:
        return _from_file(Path(given), None)
    return _from_catalogue(given)


def _from_file(path: Path, name: str | None) -> Chip:
    file = ChipFile.open(path)
    if name is None and len(file.names) > 1:
        raise HeituError(
            f"{path} has {len(file.names)} chips: {', '.join(file.names)}.",
            hint=f"Say which: {path}:{file.names[0]}",
            exit_code=ExitCode.UNKNOWN_CHIP,
        )
    wanted = file.names[0] if name is None else file.aliases.get(name, name)
    if wanted not in file.names:
        raise _unknown(wanted, file.names, str(path))
    return file.chip(wanted, _from_catalogue)


@cache
def _from_catalogue(name: str) -> Chip:
    for path in _paths():
        # Every process of a rehearsal asks, and parsing all files takes 30 ms.
        if path.stem != name and name.encode() not in path.read_bytes():
            continue
        file = _open(path)
        wanted = file.aliases.get(name, name)
        if wanted in file.names:
            return file.chip(wanted, _from_catalogue)
    raise _unknown(name, [*names(), *aliases()], "the catalogue")


def _unknown(name: str, known: list[str], where: str) -> HeituError:
    close = difflib.get_close_matches(name.lower().replace(" ", "-"), known, n=3, cutoff=0.5)
    hint = f"Close to it: {', '.join(close)}." if close else "`heitu chips` lists them."
    return HeituError(f"The chip {name!r} is not in {where}.", hint=hint, exit_code=ExitCode.UNKNOWN_CHIP)


def _shipped() -> list[ChipFile]:
    return [_open(path) for path in _paths()]


@cache
def _paths() -> tuple[Path, ...]:
    return tuple(sorted((SHIPPED / "data").glob("*.toml")))


@cache
def _open(path: Path) -> ChipFile:
    return ChipFile.open(path)
