"""What the maker's documents say of operators that ran as native: a remark, and never a verdict.

Documents are written by API and leave out what works, so a dtype that is not named says nothing; only what is
said outright is passed on.
"""

from __future__ import annotations

from collections.abc import Iterable

from heitu.chips import Chip, dtype_statements
from heitu.chips.operators import DtypeStatement
from heitu.rehearsal.report import Documented, OperatorRow

_SPOKEN = ("stated_no", "fallback_noted")
_JOINED = ("linalg", "fft", "special")  # torch.linalg.lstsq is aten::linalg_lstsq


def documented(rows: Iterable[OperatorRow], chip: Chip) -> tuple[Documented, ...]:
    """Statements about operators among `rows` that the chip's plugin registers, each once."""
    by_operator: dict[str, list[DtypeStatement]] = {}
    for statement in dtype_statements(chip):
        if statement.verdict in _SPOKEN:
            by_operator.setdefault(operator_of(statement.api), []).append(statement)
    found: dict[Documented, None] = {}
    for row in rows:
        if row.verdict != "native" or not row.operator.startswith("aten::"):
            continue
        base = row.operator.removeprefix("aten::").partition(".")[0]
        for statement in by_operator.get(base.rstrip("_") or base, ()):
            dtypes = tuple(dtype for dtype in statement.dtypes if dtype in row.dtypes)
            if dtypes or not statement.dtypes:
                found[Documented(row.operator, statement.api, statement.verdict, dtypes)] = None
    return tuple(found)


def operator_of(api: str) -> str:
    """The operator that a documented function is named after; of classes, none ("")."""
    parts = api.split(".")
    leaf = parts[-1]
    if leaf != leaf.lower() or "distributions" in parts or "func" in parts or "nested" in parts:
        return ""
    return f"{parts[-2]}_{leaf}" if len(parts) > 2 and parts[-2] in _JOINED else leaf
