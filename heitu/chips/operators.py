"""Lists of operators: what makers register, torch's default kernels, what makers state of dtypes.

All are text files with a head of `# key: value` lines and then one entry a line, in columns parted by tabs.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from heitu.chips.facts import Kind
from heitu.chips.reading import SHIPPED, find_file
from heitu.chips.schema import DTYPES, Chip
from heitu.errors import ExitCode, HeituError


@dataclass(frozen=True)
class OperatorList:
    """What one release of a maker's plugin registers.

    Attributes:
        file: where it is written.
        source: what it was derived from.
        date: of that source.
        kind: what sort of evidence it is.
        complete: False: an operator that is not listed may be there all the same, so nothing follows.
        torch: the release of torch it belongs to.
        overloads: "aten::add.Tensor" → the dispatch keys it is registered on, in the maker's words
            ("PrivateUse1", "AutogradPrivateUse1", "SparsePrivateUse1", …).
    """

    file: Path
    source: str
    date: str
    kind: Kind
    complete: bool
    torch: str
    overloads: Mapping[str, frozenset[str]]


class DefaultClass(str, enum.Enum):
    """The kernel that torch has for an operator on a device that registers none of its own."""

    COMPOSITE_EXPLICIT_NON_FUNCTIONAL = "CEANF"
    COMPOSITE_EXPLICIT = "CEA"
    COMPOSITE_IMPLICIT = "CIA"
    BACKEND = "BACKEND"  # none: each device brings its own
    BACKEND_SELECT = "BS"  # none but the choice of the device
    OTHER = "OTHER"  # none


@dataclass(frozen=True)
class DtypeStatement:
    """What a maker's documents say of the dtypes of one API.

    Attributes:
        api: the documented name ("torch.nn.functional.gelu").
        argument: of that API; empty where the statement is about all.
        dtypes: the ones named; empty where the statement is about the API as such.
        verdict: "stated_ok", "stated_no", or "fallback_noted" (it may run on the host). A dtype that is not
            named in a stated_ok is not thereby refused: documents leave out what works.
        chips: generations it holds for, in the maker's words ("A2"); `Operators.documented_as` of a chip.
    """

    api: str
    argument: str
    dtypes: tuple[str, ...]
    verdict: str
    chips: tuple[str, ...]


@dataclass(frozen=True)
class TritonDtypes:
    """What a maker's Triton takes. A dtype in neither set is one of which nothing certain is known.

    Attributes:
        file: where it is written.
        source: what it was derived from.
        date: of that source.
        kind: what sort of evidence it is.
        taken: operator as `triton.language` names it → dtypes, in torch's names.
        refused: likewise, of those that it does not take.
    """

    file: Path
    source: str
    date: str
    kind: Kind
    taken: Mapping[str, frozenset[str]]
    refused: Mapping[str, frozenset[str]]


def operator_list(chip: Chip) -> OperatorList | None:
    """The list of what the maker registers, or None where none is known.

    Raises:
        HeituError: the file is missing or wrong.
    """
    listed_in = chip.operators.listed_in
    if listed_in is None:
        return None
    return _operator_list(find_file(chip.file, "operators", listed_in.value, "operators.listed_in"))


def dtype_statements(chip: Chip) -> tuple[DtypeStatement, ...]:
    """What the maker's documents say of dtypes, for this chip's generation; empty where nothing is known."""
    named, generation = chip.operators.dtype_statements, chip.operators.documented_as
    if named is None or generation is None:
        return ()
    path = find_file(chip.file, "dtype_statements", named.value, "operators.dtype_statements")
    return tuple(statement for statement in _statements(path) if generation.value in statement.chips)


def triton_dtypes(chip: Chip) -> TritonDtypes | None:
    """What the operators of the chip's Triton take, or None where nothing is known.

    Raises:
        HeituError: the file is missing or wrong.
    """
    named = chip.kernels.triton_dtypes
    if named is None:
        return None
    return _triton_dtypes(find_file(chip.file, "triton_dtypes", named.value, "kernels.triton_dtypes"))


@cache
def default_classes(torch: str = "2.13") -> Mapping[str, DefaultClass]:
    """Overload → class of its default kernel, for a release of torch ("2.13").

    Raises:
        HeituError: there is no table for that release.
    """
    path = SHIPPED / "default_class" / f"{torch}.tsv"
    if not path.is_file():
        tables = ", ".join(sorted(file.stem for file in path.parent.glob("*.tsv")))
        raise HeituError(f"There is no table of default kernels for torch {torch}; there are: {tables}.")
    _, rows = _read(path, columns=2)
    return {overload: DefaultClass(name) for _, (overload, name) in rows}


@cache
def _operator_list(path: Path) -> OperatorList:
    head, rows = _read(path, columns=2)
    kind = _checked_head(path, head, "source", "date", "kind", "complete", "torch")
    if head["complete"] not in ("yes", "no"):
        raise _error(path, 1, f"`# complete: {head['complete']}`: expected yes or no")
    overloads: dict[str, frozenset[str]] = {}
    for line, (overload, keys) in rows:
        if "::" not in overload:
            raise _error(path, line, f"{overload!r}: expected an overload such as aten::add.Tensor")
        overloads[overload] = frozenset(keys.split(",")) if keys else frozenset({"PrivateUse1"})
    complete = head["complete"] == "yes"
    return OperatorList(path, head["source"], head["date"], kind, complete, head["torch"], overloads)


@cache
def _triton_dtypes(path: Path) -> TritonDtypes:
    head, rows = _read(path, columns=3)
    kind = _checked_head(path, head, "source", "date", "kind")
    for line, (_, taken, refused) in rows:
        unknown = [name for name in (*taken.split(), *refused.split()) if name not in DTYPES]
        both = sorted(set(taken.split()) & set(refused.split()))
        if unknown or both:
            found = f"{unknown[0]!r} is not a dtype" if unknown else f"{both[0]} is both taken and refused"
            raise _error(path, line, found)
    return TritonDtypes(
        path,
        head["source"],
        head["date"],
        kind,
        {operator: frozenset(taken.split()) for _, (operator, taken, _) in rows},
        {operator: frozenset(refused.split()) for _, (operator, _, refused) in rows},
    )


@cache
def _statements(path: Path) -> tuple[DtypeStatement, ...]:
    _, rows = _read(path, columns=5)
    return tuple(
        DtypeStatement(api, argument, tuple(dtypes.split()), verdict, tuple(chips.split()))
        for _, (api, argument, dtypes, verdict, chips) in rows
    )


def _checked_head(path: Path, head: Mapping[str, str], *needed: str) -> Kind:
    """The kind of evidence, of a head that has all that is needed."""
    for key in needed:
        if key not in head:
            raise _error(path, 1, f"the head has no line `# {key}: ...`")
    kinds = [kind.value for kind in Kind]
    if head["kind"] not in kinds:
        raise _error(path, 1, f"`# kind: {head['kind']}`: expected one of {', '.join(kinds)}")
    return Kind(head["kind"])


def _read(path: Path, columns: int) -> tuple[dict[str, str], list[tuple[int, list[str]]]]:
    """The head, and each line's number and columns; columns missing at the end are empty."""
    head: dict[str, str] = {}
    rows: list[tuple[int, list[str]]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _error(path, 1, str(error)) from None
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            key, _, value = line[1:].partition(":")
            head[key.strip()] = value.strip()
        elif line.strip():
            cells = line.split("\t")
            if len(cells) > columns:
                raise _error(path, number, f"{len(cells)} columns, expected at most {columns}")
            rows.append((number, cells + [""] * (columns - len(cells))))
    return head, rows


def _error(path: Path, line: int, message: str) -> HeituError:
    return HeituError(f"{path}:{line}: {message}.", exit_code=ExitCode.CHIP_FILE)
