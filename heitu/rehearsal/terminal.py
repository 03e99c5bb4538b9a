"""What a rehearsal says at its end: eight lines at most."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from heitu.rehearsal.estimate import Span
from heitu.rehearsal.record import Place
from heitu.rehearsal.report import Advice, KernelRow, Report
from heitu.rehearsal.wording import compact, count, counted, duration, roughly, share, size

LINES = 8
WIDTH = 80
_LABEL = 11
_STYLES = {"native": "32", "fallback": "33", "refused": "31", "unknown": "35", "bold": "1", "dim": "2"}
_STYLES |= {"memory": "31", "narrowed": "33", "emulated": "33", "stated_no": "33", "ended": "31"}
_WORDS = {"stated_no": "doubtful"}


def summary(report: Report, written: Sequence[Path] | None, color: bool, width: int = WIDTH) -> str:
    """The lines, each with a line break.

    Args:
        report: of the run.
        written: files that have all of it; None: not a word of them.
        color: whether to use the terminal's colours.
        width: lines are cut there.
    """

    def line(label: str, text: str, style: str = "") -> str:
        head, rest = f"{_WORDS.get(label, label):<{_LABEL - 2}}", _cut(text, width - _LABEL)
        code = _STYLES.get(style or label)
        return f"  \x1b[{code}m{head}\x1b[0m{rest}\n" if color and code else f"  {head}{rest}\n"

    head = _cut(f"heitu: {_where(report)}", width)
    lines = [f"\x1b[1m{head}\x1b[0m\n" if color else f"{head}\n"]
    tail = []
    if report.kernels:
        tail.append(line("kernels", kernels(report), "dim"))
    if report.defects:
        tail.append(line("defects", defects(report, width - _LABEL), "refused"))
    if report.ending is not None:
        tail.append(line("ended", _at(report.ending.at, report.ending.what, width - _LABEL)))
    if report.memory.peak_reserved or report.memory.capacity:
        tail.append(line("peak", f"{memory(report)}", "dim"))
    if report.operators:
        tail.append(line("estimate", estimate(report), "dim"))
    if written is not None:
        place = ", ".join(map(str, written)) or "in full with heitu run --report FILE.html"
        tail.append(line("report", place, "dim"))
    if report.operators:
        lines.append(line(*verdicts(report, width - _LABEL), "dim"))
        for one in report.advice[: min(3, LINES - len(lines) - len(tail))]:
            lines.append(line(one.verdict, advice(one, width - _LABEL)))
    else:
        lines.append(line("calls", "no operator reached the device", "dim"))
    return "".join(lines + tail)


def wants_color(stream: TextIO) -> bool:
    """A terminal, and nobody said no (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _where(report: Report) -> str:
    run = report.run
    how = "without data" if run.dry else "emulated on the CPU"
    processes = (
        f", {counted(len(report.processes), 'process', 'processes')}" if len(report.processes) != 1 else ""
    )
    time = f", {duration(run.seconds)}" if run.seconds is not None else ""
    return f"{report.chip.title}, {how}{processes}{time}"


def verdicts(report: Report, width: int = WIDTH) -> tuple[str, str]:
    """Calls of each verdict with their part of the time, and what to call that."""
    met = [one for one in report.verdicts if one.calls or one.verdict == "native"]
    if report.run.dry:  # nothing was computed, so no time is worth a word
        return "calls", ", ".join(f"{compact(one.calls)} {one.verdict}" for one in met)
    text = ""
    for number, unit in ((count, "call"), (count, ""), (compact, "")):
        parts = []
        for one in met:
            timed = "" if one.verdict == "refused" else f"{share(one.share)} "
            calls = counted(one.calls, unit) if unit else number(one.calls)
            parts.append(f"{timed}{one.verdict} ({calls})")
            unit = ""
        text = ", ".join(parts)
        if len(text) <= width:
            break
    return "of time", text


def kernels(report: Report) -> str:
    """How many there are, how often they were launched, and what was said of them: "3 kernels, …"."""
    met = {(row.kind, row.name, row.defined) for row in report.kernels}
    said = dict.fromkeys(row.verdict for row in report.kernels)
    verdicts = [f"{count(sum(row.verdict == one for row in report.kernels))} {one}" for one in said]
    launches = counted(sum(row.launches for row in report.kernels), "launch", "launches")
    return f"{counted(len(met), 'kernel')}, {launches}: {', '.join(verdicts)}"


def defects(report: Report, width: int = WIDTH) -> str:
    """How many wrong accesses of which kernels: "2 in kernel add: out of bounds at add.py:7, …"."""
    names = list(dict.fromkeys(row.kernel for row in report.defects))
    first = report.defects[0]
    whose = f"kernel {names[0]}" if len(names) == 1 else counted(len(names), "kernel")
    return _at(first.at, f"{count(len(report.defects))} in {whose}: {first.kind}", width)


def on_chip_memory(kernel: KernelRow) -> str:
    """What it needs at least, estimated, of what there is: "12 KiB of 192 KiB"."""
    if kernel.required is None:
        return ""
    limit = "" if kernel.limit is None else f" of {size(kernel.limit)}"
    return f"{size(kernel.required)}{limit}"


def why(kernel: KernelRow) -> str:
    """The findings; of an unknown one, what nothing is known of."""
    if kernel.findings:
        return " ".join(f"{one.what} {one.change}" for one in kernel.findings)
    if kernel.verdict != "unknown":
        return ""
    of_all = "what the chip's Triton can do"
    return f"nothing certain is known of {', '.join(kernel.unknown) or of_all}"


def advice(one: Advice, width: int) -> str:
    """Subject, how often, and where: "aten::isin  12 calls, 1.2 GiB copied  data.py:77"."""
    if one.verdict == "memory":
        return one.reason
    facts = [counted(one.calls, "call")] if one.calls else []
    facts += [f"{size(one.bytes)} copied"] if one.bytes else []
    for kept in (facts, facts[:1], []):
        text = _at(one.place, f"{one.subject}: {', '.join(kept)}" if kept else one.subject, width)
        if "…" not in text:
            break
    return text


def _at(place: Place | None, text: str, width: int) -> str:
    """The place is what must not be cut off."""
    if place is None:
        return text
    where = f" at {shown(place, max(20, width // 2))}"
    return _cut(text, width - len(where)) + where


def shown(place: Place, width: int = 200) -> str:
    """file:line, the file cut off on its left."""
    text = f"{place.file}:{place.line}"
    return text if len(text) <= width else "…" + text[-(width - 1) :]


def memory(report: Report) -> str:
    """Peak against capacity."""
    peak, capacity = report.memory.peak_reserved, report.memory.capacity
    if not capacity:
        return f"{size(peak)} of device memory; the chip's is unknown"
    return f"{size(peak)} of the {size(capacity)} of device memory ({share(peak / capacity)})"


def estimate(report: Report) -> str:
    """The time on the chip, said to be an estimate."""
    said = report.estimate
    per = "a step" if said.per == "step" else "the whole run"
    if said.seconds is not None:
        where = ", launch-bound" if said.launches >= 0.5 else " on the chip"
        return f"{per} takes about {roughly(said.seconds.likely)}{where} ({between(said.seconds)})"
    if said.known.likely and said.missing:
        return f"{per} takes over {roughly(said.known.best)}: {said.missing[0]}"
    return f"none: {said.missing[0]}" if said.missing else "none: there was nothing to estimate"


def between(span: Span) -> str:
    """The range."""
    return f"{roughly(span.best)} to {roughly(span.worst)}"


def printable(text: str) -> str:
    """A message may have anything in it; a terminal is to show it, not to obey it."""
    return "".join(char if char.isprintable() else " " for char in text)


def _cut(text: str, width: int) -> str:
    text = printable(text)
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
