"""What is different between two reports: of two chips, or of one before and after a change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heitu.rehearsal.estimate import Span
from heitu.rehearsal.record import Place
from heitu.rehearsal.report import KernelRow, OperatorRow, Report

KIND = "heitu-report-difference"
ABSENT = "absent"
WORST_FIRST = ("refused", "fallback", "narrowed", "stated_no", "emulated", "unknown", "native", ABSENT)


@dataclass(frozen=True)
class Side:
    """One of the two reports. `seconds` is estimated on the chip; None without a number."""

    chip: str
    title: str
    command: tuple[str, ...]
    start: float | None
    ended: str
    operators: int
    peak: int
    capacity: int
    per: str
    seconds: Span | None
    known: Span


@dataclass(frozen=True)
class Count:
    """Calls of one verdict on either side."""

    verdict: str
    before: int
    after: int


@dataclass(frozen=True)
class Change:
    """An operator, in one phase and with one combination of dtypes, or a kernel, whose verdict is another.

    Attributes:
        operator: "kernel NAME" for a kernel, which has no phase and no dtypes.
        before: a verdict, or what a dtype rule says of a native one ("narrowed", "emulated", "stated_no");
            "absent" where the operator was not met.
        reason: of the worse one.
        place: where it is called, on the side that has a place.
    """

    operator: str
    phase: str
    dtypes: tuple[str, ...]
    before: str
    after: str
    calls_before: int
    calls_after: int
    reason: str
    place: Place | None


@dataclass(frozen=True)
class Difference:
    """All of it; `changes` has first what became worse."""

    kind: str
    before: Side
    after: Side
    counts: tuple[Count, ...]
    changes: tuple[Change, ...]
    same: int
    only_before: int
    only_after: int


def differences(before: Report, after: Report) -> Difference:
    """Compares operator by operator.

    Native operators that one side alone has are counted (`only_before`, `only_after`) and not listed.
    """
    ours, theirs = _by_operator(before.operators), _by_operator(after.operators)
    changes, same, only_before, only_after = [], 0, 0, 0
    for key in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(key, ()), theirs.get(key, ())
        verdicts = _worst(one), _worst(other)
        if verdicts[0] == verdicts[1]:
            same += 1
        elif verdicts == ("native", ABSENT):
            only_before += 1
        elif verdicts == (ABSENT, "native"):
            only_after += 1
        else:
            changes.append(_change(*key, one, other, verdicts))
    changes += _kernel_changes(before.kernels, after.kernels)
    changes.sort(key=lambda one: (_rank(one.after), -_rank(one.before), -one.calls_after, one.operator))
    counts = (
        Count(one.verdict, one.calls, after.count(one.verdict).calls)
        for one in before.verdicts
        if one.calls or after.count(one.verdict).calls
    )
    return Difference(
        KIND, _side(before), _side(after), tuple(counts), tuple(changes), same, only_before, only_after
    )


def _kernel_changes(before: Iterable[KernelRow], after: Iterable[KernelRow]) -> Iterable[Change]:
    """Kernels whose verdict is another; one that a side does not have is not listed."""
    ours, theirs = _by_kernel(before), _by_kernel(after)
    for name in ours.keys() & theirs.keys():
        one, other = ours[name], theirs[name]
        if one.verdict != other.verdict:
            worse = min((one, other), key=lambda row: _rank(row.verdict))
            reason = worse.findings[0].what if worse.findings else ", ".join(worse.unknown)
            place = worse.findings[0].at if worse.findings else worse.defined
            verdicts = one.verdict, other.verdict
            yield Change(f"kernel {name}", "", (), *verdicts, one.launches, other.launches, reason, place)


def _by_kernel(rows: Iterable[KernelRow]) -> dict[str, KernelRow]:
    """The worst verdict of each kernel, without those of variants that a tuner passed over."""
    together: dict[str, list[KernelRow]] = {}
    for row in rows:
        together.setdefault(row.name, []).append(row)
    found = {}
    for name, variants in together.items():
        met = [row for row in variants if row.launches or any(one.rule == "grid" for one in row.findings)]
        found[name] = min(met or variants, key=lambda row: _rank(row.verdict))
    return found


_Key = tuple[str, str, tuple[str, ...]]


def _by_operator(rows: Iterable[OperatorRow]) -> dict[_Key, tuple[OperatorRow, ...]]:
    found: dict[_Key, tuple[OperatorRow, ...]] = {}
    for row in rows:
        key = row.operator, row.phase, row.dtypes
        found[key] = (*found.get(key, ()), row)
    return found


def _rank(verdict: str) -> int:
    return WORST_FIRST.index(verdict) if verdict in WORST_FIRST else WORST_FIRST.index("unknown")


def _verdict(row: OperatorRow) -> str:
    """A native operator with a dtype that the chip narrows, emulates or does not support is not as good."""
    return row.dtype_verdict if row.verdict == "native" and row.dtype_verdict else row.verdict


def _worst(rows: tuple[OperatorRow, ...]) -> str:
    return min(map(_verdict, rows), key=_rank, default=ABSENT)


def _change(
    operator: str,
    phase: str,
    dtypes: tuple[str, ...],
    one: tuple[OperatorRow, ...],
    other: tuple[OperatorRow, ...],
    verdicts: tuple[str, str],
) -> Change:
    worse = min((*one, *other), key=lambda row: _rank(_verdict(row)))
    callers = [caller for row in (worse, *other, *one) for caller in row.places]
    place = next((caller.user or caller.site for caller in callers), None)
    before, after = (sum(row.calls + row.replays for row in rows) for rows in (one, other))
    return Change(operator, phase, dtypes, *verdicts, before, after, worse.reason, place)


def _side(report: Report) -> Side:
    return Side(
        chip=report.chip.name,
        title=report.chip.title,
        command=report.run.command,
        start=report.run.start,
        ended=report.ending.what if report.ending else "",
        operators=len({row.operator for row in report.operators}),
        peak=report.memory.peak_reserved,
        capacity=report.memory.capacity,
        per=report.estimate.per,
        seconds=report.estimate.seconds,
        known=report.estimate.known,
    )
