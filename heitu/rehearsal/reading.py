"""Reads the record of a rehearsal: a directory with run.json, and two files of each process.

`<pid>.jsonl` has one event a line, `<pid>.counters` is memory that the process counts in. Both are looked at
as a process left them, however it ended: a line cut off, a file cut short or missing costs what was in it and
is noted. What was counted is never lost: counts that no line names are in `Record.unnamed`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from heitu.errors import ExitCode, HeituError
from heitu.rehearsal import launches
from heitu.rehearsal.record import (
    Counts,
    Defect,
    Failure,
    Kernel,
    KernelFinding,
    Operator,
    Place,
    Process,
    Record,
    Run,
    Sample,
    TensorArgument,
)

_T = TypeVar("_T")

VERSION = 1
MAGIC = b"HEITUREC"
NOTHING_IN_FLIGHT = 0xFFFFFFFF
HEAD = struct.Struct("<8sIIIIQQQQQ")
PEAKS_AT = 64
DEVICES = 64
SAMPLES_HEAD_AT = 1088
SAMPLES_AT = 4096
SAMPLES = 4096
SLOTS_AT = 102400
SLOTS = 65536
SLOT = struct.Struct("<8Q")
_SAMPLE = struct.Struct("<3Q")
_LINE_LIMIT = 1 << 20  # characters; a longer line is not one of ours
_TEXT_LIMIT = 20_000  # characters of a message
_EVENTS_LIMIT = 1000  # of one sort and process, but for operators, which have slots


def read(directory: Path) -> Record:
    """The record in a directory.

    Raises:
        HeituError: there is none (RECORD).
    """
    if not directory.is_dir():
        raise _unreadable(f"{directory} is not a directory.")
    logs = {path.stem: path for path in directory.glob("*.jsonl")}
    counters = {path.stem: path for path in directory.glob("*.counters")}
    described = directory / "run.json"
    if not logs and not counters and not described.exists():
        raise _unreadable(
            f"{directory} has no record of a rehearsal: no run.json, and no files of processes."
        )
    merged = _Merged()
    run = _run(described, merged)
    for stem in sorted(logs.keys() | counters.keys(), key=lambda stem: (len(stem), stem)):
        merged.add(stem, logs.get(stem), counters.get(stem))
    return merged.record(run)


def _unreadable(message: str) -> HeituError:
    return HeituError(
        message,
        hint="`heitu run --chip NAME` with HEITU_RECORD=DIRECTORY keeps one.",
        exit_code=ExitCode.RECORD,
    )


def _run(path: Path, merged: _Merged) -> Run:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["version"] != VERSION:
            raise _unreadable(f"{path} is of version {said['version']}; this Heitu reads version {VERSION}.")
        return Run(
            chip=str(said.get("chip") or ""),
            command=tuple(map(str, _list(said.get("command")))),
            start=_number(said.get("start")),
            end=_number(said.get("end")),
            exit=None if said.get("exit") is None else int(said["exit"]),
            heitu=str(said.get("heitu") or ""),
            dry=said.get("dry") is True,
            devices=_whole(said.get("devices")) or 1,
            directory=str(said.get("directory") or ""),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        merged.notes.append(f"run.json: {_sentence(error)}")
        return Run()


@dataclass
class _Log:
    """The events of one process."""

    about: dict[str, Any] = field(default_factory=dict)
    operators: dict[int, Operator] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    kernels: list[tuple[Kernel, int | None]] = field(default_factory=list)  # with the place of its count
    defects: list[tuple[Defect, int | None]] = field(default_factory=list)  # likewise
    packages: dict[str, str] = field(default_factory=dict)
    end: float | None = None
    broken: int = 0

    def take(self, pid: int, said: dict[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError where an event is not as it should be."""
        event = said["event"]
        if event == "operator":
            self.operators.setdefault(int(said["id"]), _operator(said))
        elif event == "process":
            self.about = said
        elif event in ("exception", "strict") and len(self.failures) < _EVENTS_LIMIT:
            kind = str(said["type"]) if event == "exception" else "strict"
            message = str(said["message"])[:_TEXT_LIMIT]
            self.failures.append(Failure(pid, kind, message, _place(said.get("user"))))
        elif event == "kernel" and len(self.kernels) < launches.SLOTS:
            self.kernels.append((_kernel(said), _slot(said)))
        elif event == "defect" and len(self.defects) < launches.SLOTS:
            self.defects.append((_defect(said), _slot(said)))
        elif event == "packages":
            self.packages.update({str(name): str(version) for name, version in said["versions"].items()})
        elif event == "end":
            self.end = float(said["time"])


class _Merged:
    """Gathers process by process, so that only one is in memory as a whole."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._processes: list[Process] = []
        self._operators: dict[Operator, Counts] = {}
        self._unnamed = Counts()
        self._failures: list[Failure] = []
        self._kernels: dict[Kernel, int] = {}
        self._defects: dict[Defect, int] = {}
        self._packages: dict[str, str] = {}

    def add(self, stem: str, log_path: Path | None, counters_path: Path | None) -> None:
        """Reads one process, of which either file may be missing."""
        pid = int(stem.partition("-")[0]) if stem.partition("-")[0].isdecimal() else 0
        log = self._log(pid, log_path) if log_path else _Log()
        found: dict[str, Any] = {}
        calls = ns = 0
        if counters_path is None:
            self.notes.append(f"{stem}.counters is missing: what this process did is not counted")
        else:
            try:
                with counters_path.open("rb") as file:
                    found, slots = _counters(file.read(SLOTS_AT + SLOTS * SLOT.size))
                    for slot, counts in slots:
                        calls, ns = calls + counts.calls + counts.replays, ns + counts.ns
                        operator = log.operators.get(slot)
                        if operator is None:
                            self._unnamed += counts
                        else:
                            self._operators[operator] = self._operators.get(operator, Counts()) + counts
            except (OSError, ValueError, struct.error) as error:
                self.notes.append(f"{stem}.counters: {_sentence(error)}")
        if log.broken:
            self.notes.append(f"{stem}.jsonl: {log.broken} lines cannot be read")
        in_flight = log.operators.get(found.pop("in_flight", NOTHING_IN_FLIGHT))
        about = log.about
        self._processes.append(
            Process(
                pid=pid,
                parent=_whole(about.get("parent")),
                argv=tuple(map(str, _list(about.get("argv")))),
                rank=None if about.get("rank") is None else str(about["rank"]),
                chip=str(about.get("chip") or ""),
                torch=str(about.get("torch") or ""),
                python=str(about.get("python") or ""),
                core=str(about.get("core") or ""),
                devices=_whole(about.get("devices")) or 1,
                start=_number(about.get("start")),
                end=log.end,
                calls=calls,
                ns=ns,
                in_flight=in_flight,
                **found,
            )
        )
        self._failures += log.failures
        told = log.kernels or log.defects
        found_there = launches.read(log_path.with_suffix(".launches")) if log_path and told else ()
        _add_up(self._kernels, log.kernels, found_there)
        _add_up(self._defects, log.defects, found_there)
        self._packages |= log.packages

    def _log(self, pid: int, path: Path) -> _Log:
        log = _Log()
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                for line in iter(lambda: file.readline(_LINE_LIMIT), ""):
                    try:
                        log.take(pid, json.loads(line))
                    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
                        log.broken += bool(line.strip())
        except OSError as error:
            self.notes.append(f"{path.name}: {_sentence(error)}")
        return log

    def record(self, run: Run) -> Record:
        """What was gathered."""
        return Record(
            run,
            tuple(self._processes),
            tuple(self._operators.items()),
            self._unnamed,
            tuple(self._failures),
            tuple(self._kernels.items()),
            tuple(self._defects.items()),
            tuple(sorted(self._packages.items())),
            tuple(self.notes),
        )


def _counters(content: bytes) -> tuple[dict[str, Any], Iterator[tuple[int, Counts]]]:
    """The head as fields of Process (and `in_flight` as a slot), and the slots in which something is."""
    content += bytes(max(0, SLOTS_AT - len(content))) if len(content) >= HEAD.size else b""
    magic, version, _, _, in_flight, elapsed, steps, first, last, capacity = HEAD.unpack_from(content)
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"not counters of version {VERSION}")
    devices = struct.Struct(f"<{DEVICES}Q")
    head = {
        "in_flight": in_flight,
        "elapsed_ns": elapsed,
        "steps": steps,
        "first_step_ns": first,
        "last_step_ns": last,
        "capacity": capacity,
        "peak_allocated": devices.unpack_from(content, PEAKS_AT),
        "peak_reserved": devices.unpack_from(content, PEAKS_AT + devices.size),
    }
    taken = min(SAMPLES, struct.unpack_from("<I", content, SAMPLES_HEAD_AT)[0])
    samples = _SAMPLE.iter_unpack(content[SAMPLES_AT : SAMPLES_AT + taken * _SAMPLE.size])
    head["samples"] = tuple(sorted((Sample(*sample) for sample in samples), key=lambda sample: sample.ns))
    whole = (len(content) - SLOTS_AT) // SLOT.size
    slots = SLOT.iter_unpack(content[SLOTS_AT : SLOTS_AT + whole * SLOT.size])
    # All that are in the file, not only as many as the head says: a process may have ended between the two.
    return head, ((index, _counts(*slot)) for index, slot in enumerate(slots) if slot[0] or slot[5])


def _counts(
    calls: int, ns: int, bytes_in: int, bytes_out: int, max_ns: int, replays: int, last: int, first: int
) -> Counts:
    """One slot; `last` and `first` are its executions up to the end of the last step and of the first."""
    return Counts(calls, ns, bytes_in, bytes_out, max_ns, replays, max(0, last - first))


def _operator(said: dict[str, Any]) -> Operator:
    rule = said.get("rule")
    return Operator(
        name=str(said["operator"]),
        phase=str(said["phase"]),
        verdict=str(said["verdict"]),
        why=str(said["why"]),
        rule=None if rule is None else int(rule),
        dtype_verdict=said.get("dtype_verdict") and str(said["dtype_verdict"]),
        args=tuple(
            TensorArgument(str(dtype), None if shape is None else tuple(int(extent) for extent in shape))
            for dtype, shape in said["args"]
        ),
        user=_place(said.get("user")),
        site=_place(said.get("site")),
    )


def _add_up(sums: dict[_T, int], said: Iterable[tuple[_T, int | None]], counts: Sequence[int]) -> None:
    """Adds the count of each, found at its place, to what other processes said of the same."""
    for one, at in said:
        count = counts[at] if at is not None and 0 <= at < len(counts) else 0
        sums[one] = sums.get(one, 0) + count


def _slot(said: dict[str, Any]) -> int | None:
    return None if said.get("slot") is None else int(said["slot"])


def _defect(said: dict[str, Any]) -> Defect:
    return Defect(
        kind=str(said["kind"])[:_TEXT_LIMIT],
        kernel=str(said["kernel"])[:_TEXT_LIMIT],
        at=_place(said.get("at")),
        argument=str(said["argument"])[:_TEXT_LIMIT],
        text=str(said["text"])[:_TEXT_LIMIT],
    )


def _kernel(said: dict[str, Any]) -> Kernel:
    def number(key: str) -> int | None:
        return None if said.get(key) is None else int(said[key])

    name = str(said["name"])[:_TEXT_LIMIT]
    return Kernel(
        kind=str(said["kind"]),
        name=name,
        verdict=str(said["verdict"]),
        defined=_place(said.get("defined")),
        user=_place(said.get("user")),
        required=number("required"),
        limit=number("limit"),
        findings=tuple(
            KernelFinding(
                rule=str(one["rule"]),
                what=str(one["what"])[:_TEXT_LIMIT],
                change=str(one["change"])[:_TEXT_LIMIT],
                at=Place(str(one["file"]), int(one["line"]), name) if one["file"] else None,
            )
            for one in _list(said.get("findings"))
        ),
        unknown=tuple(map(str, _list(said.get("unknown")))),
    )


def _place(said: Any) -> Place | None:
    if said is None:
        return None
    file, line, function = said
    return Place(str(file), int(line), str(function))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__
