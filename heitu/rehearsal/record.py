"""What the record of a rehearsal says, as data; `reading.read` makes it of the files of a directory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A line of Python."""

    file: str
    line: int
    function: str


@dataclass(frozen=True)
class TensorArgument:
    """A tensor that an operator was given; `shape` is None where too many were met to tell them apart."""

    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Operator:
    """One line of the record: an operator with its arguments, how it was judged, and where it was called.

    Attributes:
        name: the overload ("aten::add.Tensor").
        phase: "forward" or "backward".
        verdict: "native", "fallback", "refused" or "unknown".
        why: the ground of the verdict, one of the words of heitu.rehearsal.reasons.
        rule: index into Chip.dtypes of the rule that spoke.
        dtype_verdict: what that rule says, where it does not refuse.
        user: innermost line of the user's own code.
        site: innermost line that is neither torch's nor Python's library's.
    """

    name: str
    phase: str
    verdict: str
    why: str
    rule: int | None
    dtype_verdict: str | None
    args: tuple[TensorArgument, ...]
    user: Place | None
    site: Place | None


@dataclass(frozen=True)
class Counts:
    """What was counted of an operator. Times are of the emulation, on this machine.

    Attributes:
        bytes_in: of the device tensors it was given, over all calls.
        bytes_out: of the device tensors it gave.
        replays: further executions as part of a CUDA graph; not in `calls`, and not in the bytes.
        between: executions, replayed ones too, from the end of the first optimizer step to that of the last.
    """

    calls: int = 0
    ns: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    max_ns: int = 0
    replays: int = 0
    between: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.calls + other.calls,
            self.ns + other.ns,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            max(self.max_ns, other.max_ns),
            self.replays + other.replays,
            self.between + other.between,
        )


@dataclass(frozen=True)
class Sample:
    """Memory of the device in use at one moment, in bytes; `ns` since the process began recording."""

    ns: int
    allocated: int
    reserved: int


@dataclass(frozen=True)
class Failure:
    """An exception that nobody caught, or what --strict raised."""

    pid: int
    type: str
    message: str
    user: Place | None


@dataclass(frozen=True)
class KernelFinding:
    """Why a kernel was refused; `rule` is "dtype", "operator", "memory" or "grid"; then two sentences."""

    rule: str
    what: str
    change: str
    at: Place | None


@dataclass(frozen=True)
class Kernel:
    """A kernel that is no operator of torch's, as it was compiled for certain dtypes and constants.

    Attributes:
        kind: "triton".
        verdict: "native", "refused" or "unknown".
        defined: its first line.
        user: innermost line of the user's own code at its first launch, or when it was compiled.
        required: bytes of the memory beside a core, at least, estimated; None where that is not known.
        limit: bytes of that memory on the chip; None where that is not known.
        unknown: of which operators and dtypes nothing certain is known.
    """

    kind: str
    name: str
    verdict: str
    defined: Place | None
    user: Place | None
    required: int | None
    limit: int | None
    findings: tuple[KernelFinding, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Defect:
    """A wrong access of memory in a kernel, found by --check-kernels.

    Attributes:
        kind: "out of bounds", "race between program instances", or another of docs/triton.md.
        at: the line of the access; None where it is not known.
        argument: of the kernel, through which memory was accessed; empty where it is not known.
        text: of the first such access, in several lines.
    """

    kind: str
    kernel: str
    at: Place | None
    argument: str
    text: str


@dataclass(frozen=True)
class Process:
    """One process. `end` is None where it did not end in an orderly way."""

    pid: int
    parent: int = 0
    argv: tuple[str, ...] = ()
    rank: str | None = None
    chip: str = ""
    torch: str = ""
    python: str = ""
    core: str = ""
    devices: int = 1
    start: float | None = None
    end: float | None = None
    elapsed_ns: int = 0
    steps: int = 0
    first_step_ns: int = 0
    last_step_ns: int = 0
    capacity: int = 0
    peak_allocated: tuple[int, ...] = ()
    peak_reserved: tuple[int, ...] = ()
    samples: tuple[Sample, ...] = ()
    calls: int = 0
    ns: int = 0
    in_flight: Operator | None = None


@dataclass(frozen=True)
class Run:
    """What the launcher wrote down. `exit` is the status, negative for a signal, None while it runs."""

    chip: str = ""
    command: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    exit: int | None = None
    heitu: str = ""
    dry: bool = False
    devices: int = 1
    directory: str = ""


@dataclass(frozen=True)
class Record:
    """All processes of one run, merged: lines that say the same are one.

    Attributes:
        unnamed: what was counted without a line to say of what.
        kernels: with their launches.
        defects: with the number of such accesses.
        notes: what could not be read.
    """

    run: Run
    processes: tuple[Process, ...] = ()
    operators: tuple[tuple[Operator, Counts], ...] = ()
    unnamed: Counts = Counts()
    failures: tuple[Failure, ...] = ()
    kernels: tuple[tuple[Kernel, int], ...] = ()
    defects: tuple[tuple[Defect, int], ...] = ()
    packages: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
