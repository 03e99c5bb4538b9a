"""How long the chip would take: a roofline estimate, each of whose inputs is named.

A call takes as long as the slowest of three: its arithmetic at a part of the catalogue's peak rate, its
bytes at a part of the memory's peak bandwidth, and the least time between two launches. The parts are
assumptions: a best case, a likely one and a worst one. A host fallback takes the copies over an assumed link,
and the time measured on this machine. Where the catalogue has no rate there is no number, and the sum says
what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
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

# Parts of the peak rate that kernels reach: well tuned and large; usual; small or of an unripe library.
RATE_PARTS = {
    Kind.PRODUCTS: Span(0.90, 0.55, 0.25),
    Kind.ATTENTION: Span(0.75, 0.40, 0.15),
    Kind.CONVOLUTION: Span(0.85, 0.45, 0.15),
}
BANDWIDTH_PARTS = Span(0.90, 0.70, 0.30)
LINK_PARTS = Span(0.80, 0.60, 0.25)  # of the link between chips
LAUNCH = Span(2e-6, 5e-6, 15e-6)  # seconds between two operators that a host launches one by one
REPLAYED_LAUNCH = Span(0.5e-6, 1.5e-6, 4e-6)  # the same as part of a graph
HOST_LINK = Span(50e9, 20e9, 8e9)  # bytes/s between host and chip: PCIe 5.0 x16 to half of 3.0 x16
HOST_WAIT = Span(20e-6, 60e-6, 200e-6)  # seconds: the chip's queue runs dry, twice a fallback
HOST_PARTS = Span(0.25, 1.0, 2.0)  # of the time measured here, on a host beside the chip


@dataclass(frozen=True)
class Part:
    """One line of the estimate: a kind of work in one dtype.

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
    calls: int
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
        steps: of all processes, over which the work is divided.
        seconds: the sum; None where a part has no number.
        known: the sum of the parts that have one.
        host_measured: whether fallbacks have a time measured on this machine (not in a dry run).
    """

    per: str
    steps: int
    seconds: Span | None
    known: Span
    parts: tuple[Part, ...]
    inputs: tuple[Input, ...]
    missing: tuple[str, ...]
    host_measured: bool = True


@dataclass
class _Sum:
    calls: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    span: Span = NONE
    by_bound: dict[str, float] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class Costs:
    """The estimate, and of each line of the record its seconds over all its executions (None: no number)."""

    estimate: Estimate
    seconds: tuple[Span | None, ...]
    flops: tuple[float | None, ...]


def estimate(
    lines: Iterable[tuple[Operator, Counts]], chip: Chip, steps: int, processes: int, dry: bool = False
) -> Costs:
    """Holds what was counted against the chip's rates.

    Args:
        lines: of all processes.
        chip: whose rates.
        steps: of all processes together; 0 where none was counted, then the time is of the run.
        processes: that had work for the device.
        dry: nothing was computed, so fallbacks have no measured time.
    """
    kept = list(lines)
    works = [_work_of(operator, counts) for operator, counts in kept]
    densities = _densities(kept, works)
    sums: dict[tuple[str, str], _Sum] = {}
    rates: dict[tuple[str, str], tuple[str, Fact[float]] | None] = {}
    seconds: list[Span | None] = []
    span: Span | None
    counted: list[float | None] = []
    for (operator, counts), one in zip(kept, works, strict=True):
        if operator.verdict == "refused":
            seconds.append(None)
            counted.append(None)
            continue
        dtype = _computed_in(chip, operator, one.dtype)
        flops = one.flops
        if flops is None:
            density = densities.get((operator.name, one.dtype))
            flops = None if density is None else density * one.bytes
        executions = counts.calls + counts.replays
        rate: float | None = None
        if operator.verdict == "fallback":
            kind, dtype = Kind.FALLBACK, ""
            copied = (counts.bytes_in + counts.bytes_out) / max(1, counts.calls)
            host = 0.0 if dry else _usual_ns(counts) / 1e9
            span, bound, lacks = _fallback(copied, host)
            one = Work(kind, dtype, 0.0, copied)
        else:
            kind = one.kind
            dtype = dtype if kind in RATE_PARTS else ""
            if kind in RATE_PARTS:
                fact = rates.setdefault((kind.value, dtype), peak(chip, kind, dtype))
                rate = None if fact is None else fact[1].value
            part = counts.calls / max(1, executions)
            span, bound, lacks = _native(chip, one, flops, rate, part, operator, dtype)
        key = (kind.value, dtype)
        total = sums.setdefault(key, _Sum())
        total.calls += executions
        total.flops += (flops or 0.0) * executions if kind is not Kind.FALLBACK else 0.0
        total.bytes += one.bytes * executions
        total.missing = total.missing or lacks
        if span is not None:
            total.span = total.span.plus(span.times(executions))
            total.by_bound[bound] = total.by_bound.get(bound, 0.0) + span.likely * executions
        seconds.append(None if span is None else span.times(executions))
        counted.append(None if flops is None else flops * executions)
    share = 1 / (steps or max(1, processes))
    parts = [
        Part(
            kind=kind,
            dtype=dtype,
            calls=total.calls,
            flops=total.flops,
            bytes=total.bytes,
            rate=fact[1].value if (fact := rates.get((kind, dtype))) else None,
            bound=max(total.by_bound, key=lambda bound: total.by_bound[bound], default=""),
            seconds=None if total.missing else total.span.times(share),
            missing=total.missing,
        )
        for (kind, dtype), total in sums.items()
    ]
    parts.sort(key=lambda part: -(part.seconds.likely if part.seconds else float("inf")))
    known = NONE
    for total in sums.values():
        known = known.plus(total.span.times(share))
    missing = tuple(dict.fromkeys(part.missing for part in parts if part.missing))
    said = Estimate(
        per="step" if steps else "run",
        steps=steps,
        seconds=None if missing or not parts else known,
        known=known,
        parts=tuple(parts),
        inputs=tuple(_inputs(chip, parts, rates)),
        missing=missing,
        host_measured=not dry,
    )
    return Costs(said, tuple(seconds), tuple(counted))


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


def _fallback(copied: float, host: float) -> tuple[Span, str, str]:
    """One call: the copies, two waits for the chip's queue, and the host's own time."""
    span = Span(
        *(
            copied / link + wait + host * part
            for link, wait, part in zip(HOST_LINK, HOST_WAIT, HOST_PARTS, strict=True)
        )
    )
    return span, "host" if host > copied / HOST_LINK.likely + HOST_WAIT.likely else "copies", ""


def _native(
    chip: Chip,
    one: Work,
    flops: float | None,
    rate: float | None,
    launched: float,
    operator: Operator,
    dtype: str,
) -> tuple[Span | None, str, str]:
    """One execution on the chip, of which `launched` are not part of a graph."""
    bandwidth = chip.hardware.memory_bandwidth
    parts = BANDWIDTH_PARTS
    if one.kind is Kind.COMMUNICATION:
        bandwidth, parts = chip.hardware.link_bandwidth, LINK_PARTS
    if bandwidth is None:
        what = "link" if one.kind is Kind.COMMUNICATION else "memory"
        if one.bytes:
            return None, "", f"the chip's {what} bandwidth is unknown"
    if one.kind in RATE_PARTS:
        if operator.dtype_verdict == "emulated":
            return None, "", f"the chip emulates {dtype}, at an unknown rate"
        if rate is None:
            return None, "", f"the chip's peak rate for {dtype} is unknown"
        if flops is None:
            return None, "", f"not all shapes of {operator.name} are known"
    needs = {
        "launch": Span(
            *(
                launched * alone + (1 - launched) * replayed
                for alone, replayed in zip(LAUNCH, REPLAYED_LAUNCH, strict=True)
            )
        )
        if one.bytes or one.kind is not Kind.MEMORY  # a view launches nothing
        else NONE,
        "memory": Span(*(one.bytes / (bandwidth.value * part) for part in parts)) if bandwidth else NONE,
        "compute": Span(*((flops or 0.0) / (rate * part) for part in RATE_PARTS[one.kind])) if rate else NONE,
    }
    bound = max(needs, key=lambda need: needs[need].likely)
    return Span(*(max(times) for times in zip(*needs.values(), strict=True))), bound, ""


def _inputs(
    chip: Chip, parts: list[Part], rates: dict[tuple[str, str], tuple[str, Fact[float]] | None]
) -> Iterable[Input]:
    """What the numbers rest on: facts of the catalogue first, then what is assumed."""
    for name, fact in dict(found for found in rates.values() if found).items():
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
    yield _assumed("least time between two operators", " / ".join(f"{x * 1e6:g} µs" for x in LAUNCH))
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
