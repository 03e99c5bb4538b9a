"""Reports and their differences as text for a terminal, in tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from heitu.rehearsal import terminal
from heitu.rehearsal.difference import Difference, Side
from heitu.rehearsal.html import shapes
from heitu.rehearsal.report import Report
from heitu.rehearsal.wording import amount, count, counted, duration, roughly, share, size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_STYLES = {"native": "green", "fallback": "yellow", "refused": "red", "unknown": "magenta", "absent": "dim"}
_STYLES |= dict.fromkeys(("narrowed", "emulated", "stated_no"), "yellow")
NATIVE_ROWS = 12


def report_text(report: Report) -> Iterable[RenderableType]:
    """What to change, the estimate's parts, and the operators: those not native, and the longest natives."""
    from rich.text import Text

    if report.advice:
        yield Text("\nWhat to change, in order of worth", style="bold")
        table = _table("verdict", "what", "calls>", "copied>", "where", "suggestion")
        for one in report.advice:
            where = terminal.shown(one.place, 40) if one.place else ""
            copied = size(one.bytes) if one.bytes else ""
            table.add_row(*_cells(one.verdict, one.subject, count(one.calls), copied, where, one.suggestion))
        yield table
    if report.estimate.parts:
        yield Text(f"\nTime on the chip a {report.estimate.per}: an estimate", style="bold")
        table = _table("work", "dtype", "calls>", "FLOPs>", "bytes>", "likely>", "best to worst", "bound by")
        for part in report.estimate.parts:
            flops = amount(part.flops, "FLOP") if part.flops else ""
            likely = roughly(part.seconds.likely) if part.seconds else "no number"
            spread = terminal.between(part.seconds) if part.seconds else part.missing
            table.add_row(
                *_cells(
                    part.kind,
                    part.dtype,
                    count(round(part.calls)),
                    flops,
                    size(part.bytes),
                    likely,
                    spread,
                    part.bound,
                )
            )
        yield table
        if report.estimate.launches >= 0.1:
            yield Text(
                f"{share(report.estimate.launches)} of it is launches, which depend on the host", style="dim"
            )
    if report.operators:
        others = [row for row in report.operators if row.verdict != "native"]
        natives = [row for row in report.operators if row.verdict == "native"]
        yield Text("\nOperators", style="bold")
        table = _table("verdict", "operator", "dtypes", "calls>", "time here>", "share>", "shapes", "where")
        for row in [*others, *natives[:NATIVE_ROWS]]:
            place = next((caller.user or caller.site for caller in row.places), None)
            table.add_row(
                *_cells(
                    row.verdict,
                    row.operator,
                    ", ".join(row.dtypes),
                    count(row.calls + row.replays),
                    "" if report.run.dry else duration(row.ns / 1e9),
                    "" if report.run.dry else share(row.share),
                    shapes(row),
                    terminal.shown(place, 40) if place else "",
                )
            )
        yield table
        if len(natives) > NATIVE_ROWS:
            yield Text(f"and {counted(len(natives) - NATIVE_ROWS, 'native row')} that took less", style="dim")
    if report.kernels:
        yield Text("\nKernels", style="bold")
        table = _table("verdict", "kernel", "launches>", "on-chip memory>", "why", "where")
        for kernel in report.kernels:
            table.add_row(
                *_cells(
                    kernel.verdict,
                    kernel.name,
                    count(kernel.launches),
                    terminal.on_chip_memory(kernel),
                    terminal.why(kernel),
                    terminal.shown(kernel.defined, 40) if kernel.defined else "",
                )
            )
        yield table
    if report.defects:
        yield Text("\nDefects in kernels", style="bold")
        table = _table("kernel", "defect", "argument", "accesses>", "where")
        for defect in report.defects:
            at = terminal.shown(defect.at, 40) if defect.at else ""
            accesses = count(defect.accesses)
            table.add_row(*_cells(defect.kernel, defect.kind, defect.argument, accesses, at))
        yield table
    for said in report.documents:
        what = "is not supported" if said.statement == "stated_no" else "may run on the host"
        dtypes = f" in {', '.join(said.dtypes)}" if said.dtypes else ""
        yield Text(f"documents: {said.operator} is native; {said.api} {what}{dtypes}", style="dim")
    for note in report.notes:
        yield Text(f"not read: {note}", style="yellow")


def difference_text(difference: Difference) -> Iterable[RenderableType]:
    """The two sides beside each other, and what changed."""
    from rich.text import Text

    before, after = difference.before, difference.after
    table = _table("", before.title, after.title)
    for name, one, other in sides(difference):
        table.add_row(*_cells(name, one, other))
    yield table
    if difference.changes:
        yield Text("\nWhat changed, the worst first", style="bold")
        table = _table("before", "after", "operator", "dtypes", "calls>", "where", "why")
        for change in difference.changes:
            table.add_row(
                *_cells(
                    change.before,
                    change.after,
                    change.operator,
                    ", ".join(change.dtypes),
                    f"{count(change.calls_before)} → {count(change.calls_after)}",
                    terminal.shown(change.place, 40) if change.place else "",
                    change.reason,
                )
            )
        yield table
    else:
        yield Text("\nNo operator or kernel has another verdict.")
    left = [
        f"{counted(difference.same, 'operator')} with the same verdict",
        f"{count(difference.only_before)} native ones met only before" if difference.only_before else "",
        f"{count(difference.only_after)} native ones met only after" if difference.only_after else "",
    ]
    yield Text(", ".join(filter(None, left)), style="dim")


def sides(difference: Difference) -> Iterable[tuple[str, str, str]]:
    """A name, and what each side has of it."""
    before, after = difference.before, difference.after
    yield "program", " ".join(before.command), " ".join(after.command)
    for one in difference.counts:
        yield f"{one.verdict} calls", count(one.before), count(one.after)
    yield "peak memory", _memory(before), _memory(after)
    yield "estimated time", _time(before), _time(after)
    if before.ended or after.ended:
        yield "ended", before.ended or "well", after.ended or "well"


def _memory(side: Side) -> str:
    if not side.capacity:
        return size(side.peak)
    return f"{size(side.peak)} of {size(side.capacity)} ({share(side.peak / side.capacity)})"


def _time(side: Side) -> str:
    if side.seconds is None:
        return "no number" if not side.known.best else f"more than {roughly(side.known.best)} a {side.per}"
    return f"{roughly(side.seconds.likely)} a {side.per} ({terminal.between(side.seconds)})"


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold dim")
    for title in titles:
        table.add_column(title.removesuffix(">"), justify="right" if title.endswith(">") else "left")
    return table


def _cells(*texts: str) -> Iterable[Text]:
    from rich.text import Text

    for text in texts:
        yield Text(terminal.printable(text), style=_STYLES.get(text, ""))
