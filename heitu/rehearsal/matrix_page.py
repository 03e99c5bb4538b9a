"""The table of programs over chips as a page of Markdown."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence

from heitu.chips import load
from heitu.rehearsal.matrix import Cell, Finding, Program

WORDS = {"fallback": "on the host", "narrowed": "narrowed", "emulated": "emulated", "stated_no": "doubtful"}


def page(
    cells: Mapping[tuple[str, str], Cell],
    chips: Mapping[str, list[str]],
    programs: Sequence[Program],
    command: str,
) -> str:
    """The page: the table, then for each program why a chip does not simply run it."""
    lines = [
        "# Programs on chips",
        "",
        f"Made by `{command}` on {time.strftime('%Y-%m-%d')}.",
        "Each program was rehearsed on the CPU by the chip's published rules, so this says what the chip's",
        "plugin would do, not what a chip did. Unknown: nothing is published from which it would follow.",
        "",
        *_legend(),
        *_table(cells, chips, programs),
        "",
        "Chips that stand in one column have the same rules:",
        "",
        *(f"- **{first}**: {_titles(members)}" for first, members in chips.items()),
        "",
        "## Why",
        *_reasons(cells, chips, programs),
    ]
    return "\n".join(lines) + "\n"


def _legend() -> list[str]:
    return [
        "A cell has the share of calls of operators that are native, and what the others are: how many",
        "operators run on the host, are computed in a smaller dtype (*narrowed*), or have a dtype that the",
        "maker says is not supported, without saying what happens (*doubtful*). **refused**: the program",
        "ends there.",
        "",
    ]


def _table(
    cells: Mapping[tuple[str, str], Cell], chips: Mapping[str, list[str]], programs: Sequence[Program]
) -> Iterator[str]:
    yield "| program | " + " | ".join(chips) + " |"
    yield "|---" * (len(chips) + 1) + "|"
    for program in programs:
        words = [_escaped(program.name), *(text(cells[program.name, chip]) for chip in chips)]
        yield f"| {' | '.join(words)} |"


def text(cell: Cell) -> str:
    """A cell's few words."""
    refused = cell.operators("refused")
    if cell.status and refused:
        return f"**refused** {_short(refused[-1])}"
    if cell.status:
        return "**failed**"
    words = [share(cell)]
    unknown = cell.operators("unknown")
    if unknown and len(unknown) < 100 and cell.native:
        words.append(f"{len(unknown)} unknown")
    for verdict, word in WORDS.items():
        if found := cell.operators(verdict):
            words.append(f"{len(found)} {word}")
    if refused:
        words.append(f"{len(refused)} refused")
    return ", ".join(words)


def share(cell: Cell) -> str:
    """The share of native calls; 100 % only if it is all of them."""
    if not cell.calls:
        return "no operator"
    if not cell.native:
        return "unknown"
    if cell.native == cell.calls:
        return "100 %"
    return f"{min(99.9, 100 * cell.native / cell.calls):.1f} %"


def _titles(members: Sequence[str]) -> str:
    return ", ".join(f"{load(name).title} ({name})" for name in members)


def _reasons(
    cells: Mapping[tuple[str, str], Cell], chips: Mapping[str, list[str]], programs: Sequence[Program]
) -> Iterator[str]:
    for program in programs:
        lines = [line for chip in chips for line in _why(cells[program.name, chip])]
        if lines:
            yield from ("", f"### {_escaped(program.name)}", "", *lines)


def _why(cell: Cell) -> Iterator[str]:
    if cell.status and not cell.operators("refused"):
        yield f"- {cell.chip}: failed: {_one_line(cell.ending)}"
    for verdict in ("refused", *WORDS):
        found = [one for one in cell.findings if one.verdict == verdict]
        if not found:
            continue
        word = WORDS.get(verdict, verdict)
        parts = "; ".join(dict.fromkeys(_named(one) for one in found[:6]))
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        yield f"- {cell.chip}: {word}: {parts}{more}. {_one_line(found[0].reason)}"


def _named(finding: Finding) -> str:
    where = f" at {finding.place}" if finding.place else ""
    return f"`{_short(finding.operator)}` ({', '.join(finding.dtypes[:3])}){where}"


def _short(operator: str) -> str:
    return operator.removeprefix("aten::")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return _escaped(line if len(line) <= 300 else line[:297] + "…")


def _escaped(text: str) -> str:
    """As Markdown that shows it letter by letter."""
    return re.sub(r"[\\`*<|\[]", r"\\\g<0>", text)
