"""The report of a rehearsal as data, and as JSON: docs/report.md says what each part means."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from heitu.errors import ExitCode, HeituError
from heitu.rehearsal.estimate import Estimate, Span
from heitu.rehearsal.plain import from_plain, to_plain
from heitu.rehearsal.record import Failure, KernelFinding, Place

SCHEMA = 2
KIND = "heitu-report"


@dataclass(frozen=True)
class Evidence:
    """A fact of the catalogue that something in the report rests on."""

    fact: str
    value: str
    source: str
    date: str
    kind: str
    note: str


@dataclass(frozen=True)
class ChipSummary:
    """The chip. `file_sha256` and `list_sha256` are of the catalogue's files; empty where there is none."""

    name: str
    title: str
    maker: str
    integration: str
    others: str
    fallback_off: str
    memory_bytes: int | None
    listed: str
    evidence: tuple[int, ...]
    file_sha256: str
    list_sha256: str


@dataclass(frozen=True)
class Caller:
    """A place that an operator was called from. `user` is the line of the user's own code."""

    user: Place | None
    site: Place | None
    calls: int
    bytes: int
    ns: int


@dataclass(frozen=True)
class Shapes:
    """The arguments of one line of the record: dtypes, and shapes where they were told apart."""

    args: tuple[tuple[str, tuple[int, ...] | None], ...]
    calls: int


@dataclass(frozen=True)
class OperatorRow:
    """One operator in one phase, with one verdict and one combination of dtypes.

    Attributes:
        dtypes: of its tensors, each once.
        reason: why the verdict is what it is.
        message: the plugin's words, where known.
        evidence: numbers of `Report.evidence`.
        ns: host time of the emulation.
        share: of all time in operators that ran, 0 to 1.
        shapes: the largest few.
        places: those with most calls; native operators have the first one met alone.
        flops: counted; None where they are not known.
        seconds: estimated on the chip, of the whole run; None without a number.
    """

    operator: str
    phase: str
    verdict: str
    dtypes: tuple[str, ...]
    dtype_verdict: str | None
    why: str
    reason: str
    message: str
    evidence: tuple[int, ...]
    calls: int
    replays: int
    ns: int
    share: float
    max_ns: int
    bytes_in: int
    bytes_out: int
    shapes: tuple[Shapes, ...]
    distinct_shapes: int
    places: tuple[Caller, ...]
    distinct_places: int
    flops: float | None
    seconds: Span | None


@dataclass(frozen=True)
class VerdictCount:
    """All operators of one verdict."""

    verdict: str
    operators: int
    calls: int
    ns: int
    share: float


@dataclass(frozen=True)
class Advice:
    """One thing to change; the list has the most worthwhile first.

    Attributes:
        verdict: "refused", "fallback", "narrowed", "emulated", "stated_no", "memory" or "unknown".
        subject: what it is about: an operator, with the dtype where that is the reason.
        suggestion: what to do.
        message: the plugin's words, where known.
        bytes: copied by fallbacks, over the whole run.
        seconds: that the change is estimated to save, over the whole run; None without a number.
    """

    verdict: str
    subject: str
    reason: str
    message: str
    suggestion: str
    calls: int
    bytes: int
    seconds: float | None
    place: Place | None
    more_places: int


@dataclass(frozen=True)
class MemoryCurve:
    """Memory of the device of one process over time: [seconds, bytes allocated, bytes reserved]."""

    pid: int
    points: tuple[tuple[float, int, int], ...]


@dataclass(frozen=True)
class Memory:
    """Bytes of one device. `capacity` is 0 where it is not known; `peaks` are per process and device."""

    capacity: int
    peak_allocated: int
    peak_reserved: int
    peaks: tuple[tuple[int, int, int, int], ...]  # process, device, allocated, reserved
    curve: MemoryCurve | None


@dataclass(frozen=True)
class ProcessRow:
    """One process; `ended` is "orderly", "exception" or "killed"; or "running" while the run lasts."""

    pid: int
    parent: int
    rank: str | None
    argv: tuple[str, ...]
    calls: int
    seconds: float
    in_operators: float
    steps: int
    step_seconds: float | None
    ended: str
    in_flight: str
    in_flight_at: Place | None


@dataclass(frozen=True)
class RunSummary:
    """What was run. `signal` has the name of the one that ended it."""

    command: tuple[str, ...]
    directory: str
    start: float | None
    seconds: float | None
    exit: int | None
    signal: str
    dry: bool
    devices: int


@dataclass(frozen=True)
class Documented:
    """What the maker's documents say of an operator that the plugin registers: a remark, and no verdict.

    Attributes:
        api: as the documents name it.
        statement: "stated_no" (not supported), or "fallback_noted" (may run on the host).
        dtypes: for which, of those that were used; empty: for all.
    """

    operator: str
    api: str
    statement: str
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class KernelRow:
    """A kernel that is no operator of torch's, with one verdict. See `record.Kernel`.

    Attributes:
        variants: compiled for other dtypes or constants; those of which the record says the same are one.
        launches: of all variants.
        required: of the variant that needs most.
        evidence: numbers of `Report.evidence`.
    """

    kind: str
    name: str
    verdict: str
    defined: Place | None
    user: Place | None
    variants: int
    launches: int
    required: int | None
    limit: int | None
    findings: tuple[KernelFinding, ...]
    unknown: tuple[str, ...]
    evidence: tuple[int, ...]


@dataclass(frozen=True)
class DefectRow:
    """A wrong access of memory in a kernel; see `record.Defect`. `accesses`: how many such there were."""

    kind: str
    kernel: str
    at: Place | None
    argument: str
    text: str
    accesses: int


@dataclass(frozen=True)
class Ending:
    """Where it ended, if not well: `what` happened, and the line of the user's code."""

    what: str
    at: Place | None


@dataclass(frozen=True)
class Report:
    """All of it. What could not be read of the record is in `notes`."""

    kind: str
    schema: int
    heitu: str
    run: RunSummary
    chip: ChipSummary
    verdicts: tuple[VerdictCount, ...]
    operators: tuple[OperatorRow, ...]
    unnamed_calls: int
    advice: tuple[Advice, ...]
    memory: Memory
    estimate: Estimate
    processes: tuple[ProcessRow, ...]
    ending: Ending | None
    failures: tuple[Failure, ...]
    kernels: tuple[KernelRow, ...]
    defects: tuple[DefectRow, ...]
    packages: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    evidence: tuple[Evidence, ...]
    documents: tuple[Documented, ...]
    notes: tuple[str, ...]

    def count(self, verdict: str) -> VerdictCount:
        """The operators of one verdict, none perhaps."""
        found = [one for one in self.verdicts if one.verdict == verdict]
        return found[0] if found else VerdictCount(verdict, 0, 0, 0, 0.0)


def to_json(report: Report) -> str:
    """One JSON document, with a line break at its end."""
    return json.dumps(to_plain(report), indent=1, ensure_ascii=False) + "\n"


def from_json(text: str, name: str) -> Report:
    """The inverse of `to_json`.

    Args:
        text: the document.
        name: of the file, for messages.

    Raises:
        HeituError: it is not a report, or one of another version (REPORT).
    """
    hint = "`heitu run --chip NAME --report out.json` writes one."
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HeituError(f"{name} is not JSON: {error}.", hint=hint, exit_code=ExitCode.REPORT) from None
    if not isinstance(said, dict) or said.get("kind") != KIND:
        raise HeituError(f"{name} is not a report of Heitu's.", hint=hint, exit_code=ExitCode.REPORT)
    if said.get("schema") != SCHEMA:
        raise HeituError(
            f"{name} is a report of version {said.get('schema')}; this Heitu reads version {SCHEMA}.",
            hint=f"It was written by Heitu {said.get('heitu')}.",
            exit_code=ExitCode.REPORT,
        )
    try:
        return from_plain(Report, said)
    except ValueError as error:
        raise HeituError(f"{name}: {error}.", hint=hint, exit_code=ExitCode.REPORT) from None


def load(path: Path) -> Report:
    """The report in a file, or made of the record in a directory.

    Raises:
        HeituError: neither is there.
    """
    if path.is_dir():
        from heitu.rehearsal.gathering import gather
        from heitu.rehearsal.reading import read

        return gather(read(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise HeituError(f"{path} cannot be read: {reason}.", exit_code=ExitCode.REPORT) from None
    return from_json(text, str(path))
