"""Makes the report of a record: what was counted, judged by the chip's facts, summed and put in order."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterable
from math import prod
from pathlib import Path

from heitu import __version__, chips
from heitu.chips import Chip
from heitu.chips.reading import find_file
from heitu.errors import ExitCode, HeituError
from heitu.rehearsal.advice import advise
from heitu.rehearsal.documents import documented
from heitu.rehearsal.estimate import Costs, Pace, Span, estimate
from heitu.rehearsal.kernel_rows import defect_rows, kernel_advice, kernel_rows
from heitu.rehearsal.places import below
from heitu.rehearsal.reasons import Sources, reason
from heitu.rehearsal.record import Counts, Operator, Place, Process, Record, Run
from heitu.rehearsal.report import (
    KIND,
    SCHEMA,
    Caller,
    ChipSummary,
    Ending,
    Memory,
    MemoryCurve,
    OperatorRow,
    ProcessRow,
    Report,
    RunSummary,
    Shapes,
    VerdictCount,
)

VERDICTS = ("native", "fallback", "refused", "unknown")
KEPT_SHAPES = 4
KEPT_PLACES = 8
KEPT_POINTS = 512

_Line = tuple[Operator, Counts]


def gather(record: Record, chip: Chip | None = None) -> Report:
    """The report of a record.

    Args:
        record: of all processes.
        chip: the one it was rehearsed for; None: the one that the record names.

    Raises:
        HeituError: the chip is not known here.
    """
    run = record.run
    if chip is None:
        named = run.chip or next((process.chip for process in record.processes if process.chip), "")
        chip = chips.load(named)
    sources = Sources(chip)
    working = [process for process in record.processes if process.calls]
    pace = Pace(
        steps=sum(process.steps for process in working),
        intervals=sum(max(0, process.steps - 1) for process in working),
        processes=len(working),
    )
    costs = estimate(record.operators, chip, pace, dry=run.dry)
    rows = _rows(record.operators, costs, sources, run.directory)
    summary = _chip(chip, sources)
    kernels = kernel_rows(record.kernels, sources, run.directory)
    memory = _memory(record.processes)
    ending = _ending(record)
    failed = " ".join(failure.type + failure.message for failure in record.failures)
    out_of_memory = "OutOfMemory" in failed or "out of memory" in failed
    places = run.directory
    return Report(
        kind=KIND,
        schema=SCHEMA,
        heitu=run.heitu or __version__,
        run=_summary(run),
        chip=summary,
        verdicts=tuple(_verdicts(rows)),
        operators=rows,
        unnamed_calls=record.unnamed.calls + record.unnamed.replays,
        advice=advise(rows, chip, memory, out_of_memory, kernel_advice(kernels)),
        memory=memory,
        estimate=costs.estimate,
        processes=tuple(_process(process, record) for process in record.processes),
        ending=ending,
        failures=tuple(
            type(one)(one.pid, one.type, one.message, below(one.user, places)) for one in record.failures
        ),
        kernels=kernels,
        defects=defect_rows(record.defects, run.directory),
        packages=record.packages,
        versions=tuple(_versions(record)),
        evidence=tuple(sources.all),
        documents=documented(rows, chip),
        notes=record.notes,
    )


def _rows(
    lines: tuple[_Line, ...], costs: Costs, sources: Sources, directory: str
) -> tuple[OperatorRow, ...]:
    """Lines that differ in shapes and places alone become one row; refused first, then by time."""
    total = sum(counts.ns for operator, counts in lines if operator.verdict != "refused") or 1
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, (operator, _) in enumerate(lines):
        dtypes = tuple(dict.fromkeys(arg.dtype for arg in operator.args))
        judged = (operator.verdict, operator.why, operator.rule, operator.dtype_verdict)
        groups.setdefault((operator.name, operator.phase, dtypes, *judged), []).append(index)
    rows = [
        _row([lines[i] for i in group], group, costs, sources, total, directory) for group in groups.values()
    ]
    order = {"refused": 0, "fallback": 1, "unknown": 2}
    return tuple(sorted(rows, key=lambda row: (order.get(row.verdict, 3), -row.ns, -row.calls, row.operator)))


def _row(
    lines: list[_Line], indices: list[int], costs: Costs, sources: Sources, total_ns: int, directory: str
) -> OperatorRow:
    operator = lines[0][0]
    text, message, evidence = reason(operator, sources)
    counts = sum((one for _, one in lines), Counts())
    spans = [span for i in indices if (span := costs.seconds[i]) is not None]
    flops = [costs.flops[i] for i in indices]
    shapes, distinct_shapes = _shapes(lines)
    places, distinct_places = _places(lines, directory)
    seconds = Span(*(sum(times) for times in zip(*spans, strict=True))) if spans else None
    return OperatorRow(
        operator=operator.name,
        phase=operator.phase,
        verdict=operator.verdict,
        dtypes=tuple(dict.fromkeys(arg.dtype for arg in operator.args)),
        dtype_verdict=operator.dtype_verdict,
        why=operator.why,
        reason=text,
        message=message,
        evidence=evidence,
        calls=counts.calls,
        replays=counts.replays,
        ns=counts.ns,
        share=0.0 if operator.verdict == "refused" else counts.ns / total_ns,
        max_ns=counts.max_ns,
        bytes_in=counts.bytes_in,
        bytes_out=counts.bytes_out,
        shapes=shapes,
        distinct_shapes=distinct_shapes,
        places=places,
        distinct_places=distinct_places,
        flops=None if None in flops else sum(one for one in flops if one is not None),
        seconds=seconds if len(spans) == len(lines) else None,
    )


def _shapes(lines: list[_Line]) -> tuple[tuple[Shapes, ...], int]:
    """The largest few by elements, and how many there are; those not told apart stand at the end."""
    calls: dict[tuple[tuple[str, tuple[int, ...] | None], ...], int] = {}
    for operator, counts in lines:
        args = tuple((arg.dtype, arg.shape) for arg in operator.args)
        calls[args] = calls.get(args, 0) + counts.calls + counts.replays

    def elements(args: tuple[tuple[str, tuple[int, ...] | None], ...]) -> int:
        return sum(-1 if shape is None else prod(shape) for _, shape in args)

    ordered = sorted(calls, key=elements, reverse=True)
    return tuple(Shapes(args, calls[args]) for args in ordered[:KEPT_SHAPES]), len(ordered)


def _places(lines: list[_Line], directory: str) -> tuple[tuple[Caller, ...], int]:
    """Those with most calls, and how many there are."""
    found: dict[tuple[Place | None, Place | None], Counts] = {}
    for operator, counts in lines:
        key = operator.user, operator.site
        found[key] = found.get(key, Counts()) + counts
    found.pop((None, None), None)
    ordered = sorted(found.items(), key=lambda item: -item[1].calls)
    callers = (
        Caller(
            below(user, directory), below(site, directory), one.calls, one.bytes_in + one.bytes_out, one.ns
        )
        for (user, site), one in ordered[:KEPT_PLACES]
    )
    return tuple(callers), len(ordered)


def _verdicts(rows: Iterable[OperatorRow]) -> Iterable[VerdictCount]:
    listed = list(rows)
    total = sum(row.ns for row in listed if row.verdict != "refused") or 1
    for verdict in VERDICTS:
        of_it = [row for row in listed if row.verdict == verdict]
        yield VerdictCount(
            verdict=verdict,
            operators=len({row.operator for row in of_it}),
            calls=sum(row.calls + row.replays for row in of_it),
            ns=(ns := sum(row.ns for row in of_it)),
            share=0.0 if verdict == "refused" else ns / total,
        )


def _chip(chip: Chip, sources: Sources) -> ChipSummary:
    facts, software = chip.operators, chip.software
    evidence = sources.add("software.integration", software.integration)
    evidence += sources.of_list() + sources.add("operators.same_as", facts.same_as)
    evidence += sources.add("operators.others", facts.others)
    evidence += sources.add("operators.fallback_off", facts.fallback_off)
    evidence += sources.add("hardware.memory_bytes", chip.hardware.memory_bytes, "B")
    evidence += sources.add("hardware.memory_bandwidth", chip.hardware.memory_bandwidth, "B/s")
    listed = None
    if facts.listed_in is not None:
        try:
            listed = find_file(chip.file, "operators", facts.listed_in.value, "operators.listed_in")
        except HeituError:
            listed = None
    return ChipSummary(
        name=chip.name,
        title=chip.title,
        maker=chip.maker,
        integration=software.integration.value.value if software.integration else "",
        others=facts.others.value.value if facts.others else "",
        fallback_off=str(facts.fallback_off.value) if facts.fallback_off else "",
        memory_bytes=chip.hardware.memory_bytes.value if chip.hardware.memory_bytes else None,
        listed=facts.listed_in.value if facts.listed_in else "",
        evidence=tuple(dict.fromkeys(evidence)),
        file_sha256=_sha256(chip.file),
        list_sha256=_sha256(listed) if listed else "",
    )


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _memory(processes: tuple[Process, ...]) -> Memory:
    """The peaks of all, and the curve of the process whose peak is highest."""
    peaks = tuple(
        (process.pid, device, allocated, reserved)
        for process in processes
        for device, (allocated, reserved) in enumerate(
            zip(process.peak_allocated, process.peak_reserved, strict=True)
        )
        if allocated or reserved
    )
    curve = None
    drawn = [process for process in processes if process.samples]
    if drawn:
        most = max(drawn, key=lambda process: max((sample.reserved for sample in process.samples), default=0))
        curve = MemoryCurve(most.pid, _thinned(most))
    return Memory(
        capacity=max((process.capacity for process in processes), default=0),
        peak_allocated=max((allocated for *_, allocated, _ in peaks), default=0),
        peak_reserved=max((reserved for *_, reserved in peaks), default=0),
        peaks=peaks,
        curve=curve,
    )


def _thinned(process: Process) -> tuple[tuple[float, int, int], ...]:
    """At most KEPT_POINTS points, each the greatest of those that it stands for."""
    samples = process.samples
    together = -(-len(samples) // KEPT_POINTS)
    chunks = (samples[i : i + together] for i in range(0, len(samples), together))
    return tuple(
        (
            chunk[-1].ns / 1e9,
            max(sample.allocated for sample in chunk),
            max(sample.reserved for sample in chunk),
        )
        for chunk in chunks
    )


def _process(process: Process, record: Record) -> ProcessRow:
    step = None
    if process.steps > 1:
        step = (process.last_step_ns - process.first_step_ns) / (process.steps - 1) / 1e9
    in_flight = None if process.end is not None else process.in_flight
    return ProcessRow(
        pid=process.pid,
        parent=process.parent,
        rank=process.rank,
        argv=process.argv,
        calls=process.calls,
        seconds=process.elapsed_ns / 1e9,
        in_operators=process.ns / 1e9,
        steps=process.steps,
        step_seconds=step,
        ended=_ended(process, record),
        in_flight=in_flight.name if in_flight else "",
        in_flight_at=below(in_flight.user or in_flight.site, record.run.directory) if in_flight else None,
    )


def _ended(process: Process, record: Record) -> str:
    if any(failure.pid == process.pid for failure in record.failures):
        return "exception"
    if process.end is not None:
        return "orderly"
    return "running" if record.run.exit is None else "killed"


def _summary(run: Run) -> RunSummary:
    seconds = run.end - run.start if run.end is not None and run.start is not None else None
    return RunSummary(
        run.command, run.directory, run.start, seconds, run.exit, _signal(run.exit), run.dry, run.devices
    )


def _signal(status: int | None) -> str:
    """Of a negative status, or of one as shells have it."""
    number = 0 if status is None else -status if status < 0 else status - 128
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _ending(record: Record) -> Ending | None:
    """Why it ended, if it ended badly: an exception if there was one, else the signal and what ran."""
    directory, status = record.run.directory, record.run.exit
    if status == 0 or (status == ExitCode.KERNEL_DEFECTS and record.defects and not record.failures):
        return None  # it ended well, and the status says what else was found
    if record.failures:
        # One process's failure makes the others fail: the first with a place of the user's says most.
        failure = next((one for one in record.failures if one.user), record.failures[0])
        line = next((line for line in failure.message.splitlines() if line.strip()), "")
        return Ending(f"{failure.type}: {line}" if line else failure.type, below(failure.user, directory))
    if status is None:
        return None
    name = _signal(status)
    what = f"killed by {name}" if name else f"exit status {status}"
    running = next((one.in_flight for one in record.processes if one.end is None and one.in_flight), None)
    if running is None:
        return Ending(what, None)
    return Ending(f"{what} in {running.name}", below(running.user or running.site, directory))


def _versions(record: Record) -> Iterable[tuple[str, str]]:
    yield "heitu", record.run.heitu or __version__
    for name in ("torch", "python", "core"):
        for version in dict.fromkeys(getattr(process, name) for process in record.processes):
            if version:
                yield name, version
