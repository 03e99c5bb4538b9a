"""How long the chip would take: a roofline estimate, each of whose inputs is named.

A call takes as long as the slowest of three: its arithmetic at a part of the catalogue's peak rate, its
bytes at a part of the memory's peak bandwidth, and the least time between two launches. The parts are
assumptions: a best case, a likely one and a worst one. A host fallback takes the copies over an assumed link,
and the time measured on this machine. Where the catalogue has no rate there is no number, and the sum says
what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from heitu.chips import Chip, Fact
from heitu.rehearsal.record import Counts, Operator
from heitu.rehearsal.wording import amount
from heitu.rehearsal.work import Kind, Work, work


class Span(NamedTuple):
    """Seconds in the best case, the likely one and the worst."""

    best: float
    likely: float
    worst: float

    def plus(self, other: Span) -> Span:
        return Span(self.best + other.best, self.likely + other.likely, self.worst + other.worst)

    def times(self, factor: float) -> Span:
        return Span(self.best * factor, self.likely * factor, self.worst * factor)


NONE = Span(0.0, 0.0, 0.0)

# Parts of the peak rate that kernels reach: well tuned and large; usual; small or of an unripe library. Those
# of products and of the memory were chosen on one half of the measurements in docs/estimates.md, which says
# what comes out on the other: whole trainings take the likely times, large operators alone are faster.
RATE_PARTS = {
    Kind.PRODUCTS: Span(0.98, 0.65, 0.25),
    Kind.ATTENTION: Span(0.75, 0.40, 0.15),
    Kind.CONVOLUTION: Span(0.85, 0.45, 0.15),
}
BANDWIDTH_PARTS = Span(0.95, 0.80, 0.25)
LINK_PARTS = Span(0.45, 0.35, 0.12)  # of the link between chips, which makers state as the sum of both ways
LAUNCH = Span(2e-6, 5e-6, 20e-6)  # seconds between two operators that a host launches one by one
REPLAYED_LAUNCH = Span(0.5e-6, 1.5e-6, 4e-6)  # the same as part of a graph
# Bytes/s between host and chip: PCIe 5.0 x16, 4.0 x16, and less than eight chips get that copy at once.
HOST_LINK = Span(50e9, 20e9, 5e9)
HOST_WAIT = Span(20e-6, 60e-6, 200e-6)  # seconds: the chip's queue runs dry, twice a fallback
HOST_PARTS = Span(0.25, 1.0, 2.0)  # of the time measured here, on a host beside the chip


@dataclass(frozen=True)
class Part:
    """One line of the estimate: a kind of work in one dtype, all numbers per step (or run).

    Attributes:
        calls: with the replays of graphs.
        flops: counted; of calls of unknown shapes in proportion to their bytes.
        bytes: that cross the chip's memory bus; of fallbacks, what is copied.
        rate: the catalogue's peak, FLOP/s; None where it has none, or none is needed.
        bound: what most of the time goes to: "compute", "memory", "launch", "copies" or "host".
        seconds: None where the catalogue lacks what it takes.
        missing: what it lacks.
    """

    kind: str
    dtype: str
    calls: float
    flops: float
    bytes: float
    rate: float | None
    bound: str
    seconds: Span | None
    missing: str = ""


@dataclass(frozen=True)
class Input:
    """A number that the estimate rests on, and where it is from; an assumption where `kind` says so."""

    name: str
    value: str
    source: str
    date: str
    kind: str


@dataclass(frozen=True)
class Estimate:
    """An estimate of the time on the chip, not a measurement.

    Attributes:
        per: "step", or "run" of one process where no step was counted.
        steps: of all processes.
        between: the work between the first step and the last is divided, not all of the run's.
        seconds: the sum; None where a part has no number.
        known: the sum of the parts that have one.
        launches: of the likely seconds, what calls take that are bound by their launch (0 to 1). That time is
            the host's doing, of which nothing is known here.
        host_measured: whether fallbacks have a time measured on this machine (not in a dry run).
    """

    per: str
    steps: int
    between: bool
    seconds: Span | None
    known: Span
    launches: float
    parts: tuple[Part, ...]
    inputs: tuple[Input, ...]
    missing: tuple[str, ...]
    host_measured: bool = True


@dataclass(frozen=True)
class Pace:
    """What the work is divided by, over all processes.

    Attributes:
        steps: of optimizers.
        intervals: from one step to the next, in one process each; what was executed between the first step
            and the last is divided by them.
        processes: that had work for the device, by which it is divided where no step was counted.
    """

    steps: int
    intervals: int
    processes: int


@dataclass(frozen=True)
class _Cost:
    """One execution of one line of the record."""

    kind: Kind
    dtype: str
    flops: float | None
    bytes: float
    rate: tuple[str, Fact[float]] | None = None
    span: Span | None = None
    bound: str = ""
    missing: str = ""


@dataclass
class _Sum:
    rate: tuple[str, Fact[float]] | None
    calls: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0
    span: Span = NONE
    by_bound: dict[str, float] = field(default_factory=dict)
    missing: str = ""

    def add(self, cost: _Cost, weight: float) -> None:
        self.calls += weight
        self.flops += (cost.flops or 0.0) * weight
        self.bytes += cost.bytes * weight
        self.missing = self.missing or cost.missing
        if cost.span is not None:
            self.span = self.span.plus(cost.span.times(weight))
            self.by_bound[cost.bound] = self.by_bound.get(cost.bound, 0.0) + cost.span.likely * weight

    def part(self, kind: str, dtype: str) -> Part:
        return Part(
            kind=kind,
            dtype=dtype,
            calls=self.calls,
            flops=self.flops,
            bytes=self.bytes,
            rate=self.rate[1].value if self.rate else None,
            bound=max(self.by_bound, key=lambda bound: self.by_bound[bound], default=""),
            seconds=None if self.missing else self.span,
            missing=self.missing,
        )


@dataclass(frozen=True)
class Costs:
    """The estimate, and of each line of the record its seconds over all its executions (None: no number)."""

    estimate: Estimate
    seconds: tuple[Span | None, ...]
    flops: tuple[float | None, ...]


def estimate(lines: Iterable[tuple[Operator, Counts]], chip: Chip, pace: Pace, dry: bool = False) -> Costs:
    """Holds what was counted against the chip's rates.

    Args:
        lines: of all processes.
        chip: whose rates.
        pace: what the work is divided by.
        dry: nothing was computed, so fallbacks have no measured time.
    """
    kept = list(lines)
    works = [_work_of(operator, counts) for operator, counts in kept]
    densities = _densities(kept, works)
    # Set-up, and what follows the training, is left out where that is known.
    between = pace.intervals > 0 and any(counts.between for _, counts in kept)
    divisor = pace.intervals if between else pace.steps or max(1, pace.processes)
    sums: dict[tuple[str, str], _Sum] = {}
    seconds: list[Span | None] = []
    flops: list[float | None] = []
    for (operator, counts), one in zip(kept, works, strict=True):
        executions = counts.calls + counts.replays
        cost = _cost(chip, operator, counts, one, densities, dry)
        seconds.append(cost.span.times(executions) if cost and cost.span else None)
        flops.append(cost.flops * executions if cost and cost.flops is not None else None)
        weight = (counts.between if between else executions) / divisor
        if cost is not None and weight:
            sums.setdefault((cost.kind.value, cost.dtype), _Sum(cost.rate)).add(cost, weight)
    parts = [total.part(kind, dtype) for (kind, dtype), total in sums.items()]
    parts.sort(key=lambda part: -(part.seconds.likely if part.seconds else float("inf")))
    known = NONE
    for total in sums.values():
        known = known.plus(total.span)
    missing = tuple(dict.fromkeys(part.missing for part in parts if part.missing))
    said = Estimate(
        per="step" if between or pace.steps else "run",
        steps=pace.steps,
        between=between,
        seconds=None if missing or not parts else known,
        known=known,
        launches=sum(total.by_bound.get("launch", 0.0) for total in sums.values()) / (known.likely or 1.0),
        parts=tuple(parts),
        inputs=tuple(_inputs(chip, parts, [total.rate for total in sums.values()])),
        missing=missing,
        host_measured=not dry,
    )
    return Costs(said, tuple(seconds), tuple(flops))


def _cost(
    chip: Chip,
    operator: Operator,
    counts: Counts,
    one: Work,
    densities: dict[tuple[str, str], float],
    dry: bool,
) -> _Cost | None:
    """One execution; None of what is refused, which takes no time."""
    if operator.verdict == "refused":
        return None
    if operator.verdict == "fallback":
        copied = (counts.bytes_in + counts.bytes_out) / max(1, counts.calls)
        host = 0.0 if dry else _usual_ns(counts) / 1e9
        return _fallback(copied, host)
    flops = one.flops
    if flops is None:
        density = densities.get((operator.name, one.dtype))
        flops = None if density is None else density * one.bytes
    dtype = _computed_in(chip, operator, one.dtype) if one.kind in RATE_PARTS else ""
    rate = peak(chip, one.kind, dtype) if one.kind in RATE_PARTS else None
    known = _Cost(one.kind, dtype, flops, one.bytes, rate)
    alone = counts.calls / max(1, counts.calls + counts.replays)
    missing = _missing(chip, operator, known)
    if missing:
        return replace(known, missing=missing)
    span, bound = _native(chip, known, alone)
    return replace(known, span=span, bound=bound)


def peak(chip: Chip, kind: Kind, dtype: str) -> tuple[str, Fact[float]] | None:
    """The catalogue's peak rate for arithmetic in a dtype, under its name there; None where it has none.

    Convolutions in float32 are held against tfloat32 where the chip has it, as torch allows that to them
    alone (`torch.backends.cudnn.allow_tf32`).
    """
    name = {"complex64": "float32", "complex128": "float64", "complex32": "float16"}.get(dtype, dtype)
    name = "float8" if name.startswith("float8_") else "int8" if name == "uint8" else name
    names = ("tfloat32", "float32") if kind is Kind.CONVOLUTION and name == "float32" else (name,)
    for candidate in names:
        fact: Fact[float] | None = getattr(chip.peak, candidate, None)
        if fact is not None:
            return candidate, fact
    return None


def _work_of(operator: Operator, counts: Counts) -> Work:
    calls = max(1, counts.calls)
    return work(operator.name, operator.args, counts.bytes_in / calls, counts.bytes_out / calls)


def _densities(lines: list[tuple[Operator, Counts]], works: list[Work]) -> dict[tuple[str, str], float]:
    """FLOPs a byte of each operator and dtype, from the lines whose shapes are known."""
    totals: dict[tuple[str, str], tuple[float, float]] = {}
    for (operator, counts), one in zip(lines, works, strict=True):
        if one.flops:
            flops, count = totals.get((operator.name, one.dtype), (0.0, 0.0))
            calls = counts.calls + counts.replays
            totals[operator.name, one.dtype] = (flops + one.flops * calls, count + one.bytes * calls)
    return {key: flops / count for key, (flops, count) in totals.items() if count}


def _computed_in(chip: Chip, operator: Operator, dtype: str) -> str:
    """The dtype of the arithmetic, which is a smaller one where a rule narrows."""
    if (
        operator.dtype_verdict == "narrowed"
        and operator.rule is not None
        and operator.rule < len(chip.dtypes)
    ):
        rule = chip.dtypes[operator.rule]
        return rule.to if rule.dtype == dtype and rule.to else dtype
    return dtype


def _usual_ns(counts: Counts) -> float:
    """Of one call, without the longest where there are others: the first pays for what is done once."""
    if counts.calls < 2:
        return counts.ns
    return max(0, counts.ns - counts.max_ns) / (counts.calls - 1)


def _fallback(copied: float, host: float) -> _Cost:
    """One call: the copies, two waits for the chip's queue, and the host's own time."""
    times = (
        copied / link + wait + host * part
        for link, wait, part in zip(HOST_LINK, HOST_WAIT, HOST_PARTS, strict=True)
    )
    bound = "host" if host > copied / HOST_LINK.likely + HOST_WAIT.likely else "copies"
    return _Cost(Kind.FALLBACK, "", 0.0, copied, span=Span(*times), bound=bound)


def _missing(chip: Chip, operator: Operator, cost: _Cost) -> str:
    """What is not known and would be needed; empty where all is known."""
    if cost.bytes and cost.kind is Kind.COMMUNICATION and chip.hardware.link_bandwidth is None:
        return "the chip's link bandwidth is unknown"
    if cost.bytes and cost.kind is not Kind.COMMUNICATION and chip.hardware.memory_bandwidth is None:
        return "the chip's memory bandwidth is unknown"
    if cost.kind in RATE_PARTS:
        if operator.dtype_verdict == "emulated":
            return f"the chip emulates {cost.dtype}, at an unknown rate"
        if cost.rate is None:
            return f"the peak rate of {cost.dtype or 'this'} is unknown"
        if cost.flops is None:
            return f"not all shapes of {operator.name} are known"
    return ""


def _native(chip: Chip, cost: _Cost, alone: float) -> tuple[Span, str]:
    """One execution on the chip, and what it is bound by; the part `alone` is not launched by a graph."""
    launch = memory = compute = NONE
    if cost.bytes or cost.kind is not Kind.MEMORY:  # a view launches nothing
        launch = LAUNCH.times(alone).plus(REPLAYED_LAUNCH.times(1 - alone))
    linked = cost.kind is Kind.COMMUNICATION
    bandwidth = chip.hardware.link_bandwidth if linked else chip.hardware.memory_bandwidth
    if bandwidth is not None:
        memory = Span(
            *(cost.bytes / (bandwidth.value * part) for part in (LINK_PARTS if linked else BANDWIDTH_PARTS))
        )
    if cost.rate is not None:
        compute = Span(*((cost.flops or 0.0) / (cost.rate[1].value * part) for part in RATE_PARTS[cost.kind]))
    needs = {"launch": launch, "memory": memory, "compute": compute}
    bound = max(needs, key=lambda need: needs[need].likely)
    return Span(*(max(times) for times in zip(*needs.values(), strict=True))), bound


def _inputs(
    chip: Chip, parts: list[Part], rates: Iterable[tuple[str, Fact[float]] | None]
) -> Iterable[Input]:
    """What the numbers rest on: facts of the catalogue first, then what is assumed."""
    for name, fact in dict(found for found in rates if found).items():
        yield _of_fact(f"peak rate, {name}", fact, "FLOP/s")
    hardware = chip.hardware
    if hardware.memory_bandwidth:
        yield _of_fact("memory bandwidth", hardware.memory_bandwidth, "B/s")
    kinds = {part.kind for part in parts}
    if hardware.link_bandwidth and Kind.COMMUNICATION.value in kinds:
        yield _of_fact("bandwidth between chips", hardware.link_bandwidth, "B/s")
    for kind, span in RATE_PARTS.items():
        if kind.value in kinds:
            yield _assumed(f"part of the peak rate that {kind.value} reach", _percent(span))
    yield _assumed("part of the memory bandwidth reached", _percent(BANDWIDTH_PARTS))
    if Kind.COMMUNICATION.value in kinds:
        yield _assumed("part of the bandwidth between chips reached", _percent(LINK_PARTS))
    yield _assumed(
        "least time between two operators, which depends on the host",
        " / ".join(f"{x * 1e6:g} µs" for x in LAUNCH),
    )
    if Kind.FALLBACK.value in kinds:
        yield _assumed("link between host and chip", " / ".join(amount(x, "B/s") for x in HOST_LINK))
        yield _assumed(
            "waiting for the chip's queue, a fallback", " / ".join(f"{x * 1e6:g} µs" for x in HOST_WAIT)
        )
        yield _assumed("the host's time, of that measured here", _percent(HOST_PARTS))


def _of_fact(name: str, fact: Fact[float], unit: str) -> Input:
    return Input(name, amount(fact.value, unit), fact.source, fact.date, fact.kind.value)


def _assumed(name: str, value: str) -> Input:
    return Input(name, value, "best / likely / worst", "", "assumption")


def _percent(span: Span) -> str:
    return " / ".join(f"{part * 100:g} %" for part in span)
