"""The estimate of a rehearsal against published measurements.

    python bench/estimates/compare.py [--out docs/estimates.md] [--keep DIRECTORY]

Rehearses what was measured, without data (some minutes; `--keep` has what was counted from an earlier time),
and holds the estimate of each against measured.tsv. Prints the page.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from heitu.chips import Chip, load
from heitu.rehearsal.estimate import HOST_LINK, Pace, Span, estimate
from heitu.rehearsal.record import Counts, Operator, TensorArgument
from heitu.rehearsal.wording import digits

HERE = Path(__file__).parent
CHIPS = HERE / "chips.toml"  # those that are not in the catalogue
CIRCULAR = "circular"
SOURCES = {
    "flagperf-operators": (
        "FlagOpen/FlagPerf@1b5a030 operation/benchmarks/*/*/*/*README.md, nativetorch, cputime",
        "2024-08",
    ),
    "flagperf-base": ("FlagOpen/FlagPerf@1b5a030 base/benchmarks/*/*/*/README.md", "2025-11"),
    "flagperf-training": ("FlagOpen/FlagPerf@1b5a030 training/*/*/README.md", "2025-11"),
    "llm-foundry": ("mosaicml/llm-foundry@8c8dd48 scripts/train/benchmarking/README.md, 8 GPUs", "2024-04"),
    "llama-paper": ("arXiv:2302.13971, GPU hours of 2048 A100 for 10^12 tokens", "2023-02"),
    "modellink": ("Ascend ModelLink README (aeeeeeep/ModelLink@01921b6), Atlas 900 A2 PODc, 8 NPUs", "2024"),
    "torchtitan": ("pytorch/torchtitan@b5bcd76 benchmarks/llama3_h100_202412_torchtitan.md", "2024-12"),
    "torchtitan-h200": (
        "pytorch/torchtitan@b5bcd76 benchmarks/llama3-8b_h200_202506_trainy-whitefiber.md",
        "2025-06",
    ),
    "nemo": ("docs.nvidia.com/nemo-framework 24.12 performance summary, 8 GPUs", "2024-12"),
}
INTRODUCTION = """\
# Estimates against published measurements

Made by `python bench/estimates/compare.py --out docs/estimates.md`. Each program was rehearsed without data
(`heitu run --dry`), and the estimate of the report ([report.md](report.md)) is held against a rate that
somebody measured on the chip and published. **Nothing was measured for this page**; no such chip was at
hand, not even the H200 that the device presents itself as.

*Factor* is the likely time over the measured one: 2 means that the chip was twice as fast as the estimate.
*In range*: the measured time lies between the best case and the worst.

The likely parts of the peak rates that products and the memory reach (`heitu/rehearsal/estimate.py`) were
chosen on one half of these rows, marked with a dot; the other half says how good they are. Before that they
were guesses (55 % and 70 %), 149 of the 198 rows were in range, and the median of the factors was 1.27. The
best cases were set with all rows in sight; what links, copies to the host and launches take rests on the
few rows there are, so that those fit says nothing.
"""
LIMITS = """\
How to read it: a whole training step is estimated well on A100 and H100, large operators on their own reach
more of the peak than a step's. Where the estimate is too low by much are kernels that are worse than
others: softmax along a strided dimension, group normalisation. Where it is too high, a gradient that is one
number expanded is counted in full (relu, sigmoid, tanh after a sum). `mv` is a launch, and nothing else.

What a training row leaves out: the optimizer, and the communication between chips (all of them ran on eight
chips or more, which hide most of it). Causal masks are counted in full, as everywhere. For most chips of
the catalogue no rate was found to compare with: Cambricon's, Moore Threads', Enflame's, Biren's, T-Head's,
Tsingmicro's, Sunrise's, Kunlunxin's, AMD's. In FlagPerf's tables the first two makers' numbers are left
blank.

Not counted in the summary are rows where the catalogue's peak is itself a rate that the same people
measured the same way (Ascend's products, all of the BI-V150): that they fit says little. They stand at the
end. The bfloat16 peak of the 910B3 is such a rate too; the training rows held against it are counted.
"""


@dataclass(frozen=True)
class Measured:
    """A line of measured.tsv."""

    case: str
    chip: str
    value: float
    unit: str
    source: str
    note: str

    @property
    def fitted(self) -> bool:
        """Whether an assumption of the estimate was chosen on it. Of most that is one half of the rows, where
        the dtypes of an operator stay together."""
        words = self.case.split()
        if self.group == "links" or words[1] == "mv":
            return True
        together = words[1] + (words[2] + self.chip if words[0] == "train" else "")
        return self.group != CIRCULAR and zlib.crc32(together.encode()) % 2 == 0

    @property
    def group(self) -> str:
        """Which table it stands in."""
        if self.note == CIRCULAR:
            return CIRCULAR
        words = self.case.split()
        if words[0] == "operator":
            return "products" if words[1] in ("mm", "bmm", "addmm", "linear") else "operators"
        return "training" if words[0] == "train" else "links"


@dataclass(frozen=True)
class Row:
    """A measurement beside its estimate, both in seconds."""

    measured: Measured
    seconds: float
    estimated: Span
    work: float  # what a unit of the measurement divides by the seconds; 0: the unit is a time

    @property
    def factor(self) -> float:
        return self.estimated.likely / self.seconds

    @property
    def within(self) -> bool:
        return self.estimated.best <= self.seconds <= self.estimated.worst


def read_measured() -> Iterator[Measured]:
    for line in (HERE / "measured.tsv").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            case, chip, value, unit, source, *note = line.split("\t")
            yield Measured(case, chip, float(value), unit, source, *(note or [""]))


def run_case(case: str) -> str:
    """The case as it is run: what torch has no dtype for runs in the one that has its bytes."""
    return case.replace("tfloat32", "float32").replace(" float8", " bfloat16")


def rehearse(cases: Sequence[str], kept: Path) -> dict[str, list[tuple[Operator, Counts]]]:
    """What each case runs. Cases that train have a process each, as the record tells 64 shapes apart."""
    found: dict[str, list[tuple[Operator, Counts]]] = {}
    batches = [[case] for case in cases if case.startswith("train")]
    operators = [case for case in cases if case.startswith("operator")]
    batches += [operators[i : i + 40] for i in range(0, len(operators), 40)]
    for batch in batches:
        path = kept / f"{'-'.join(batch[0].split())}.pickle"
        if not path.exists():
            print(f"rehearsing {batch[0]}{f' and {len(batch) - 1} more' * (len(batch) > 1)}", file=sys.stderr)
            command = [sys.executable, "-m", "heitu", "run", "--dry", "--memory", "16TiB", "--chip", "a100"]
            subprocess.run([*command, str(HERE / "cases.py"), str(path), *batch], check=True)
        found |= pickle.loads(path.read_bytes())
    return found


def seconds_of(lines: Sequence[tuple[Operator, Counts]], chip: Chip) -> Span | None:
    """Of all the lines together."""
    return estimate(lines, chip, Pace(steps=0, intervals=0, processes=1), dry=True).estimate.seconds


def in_dtype(lines: Sequence[tuple[Operator, Counts]], case: str) -> Iterator[tuple[Operator, Counts]]:
    """Products in the dtype that the measurement had and the rehearsal had not."""
    dtype = {"tfloat32": "tfloat32", "float8": "float8_e4m3fn"}
    wanted = next((dtype[word] for word in case.split() if word in dtype), None)
    for operator, counts in lines:
        if wanted and operator.name in ("aten::mm", "aten::bmm", "aten::addmm"):
            args = tuple(TensorArgument(wanted, arg.shape) for arg in operator.args)
            operator = replace(operator, args=args)
        yield operator, counts


def compared(one: Measured, lines: Sequence[tuple[Operator, Counts]]) -> Row | None:
    """None where the catalogue has no rate to estimate with."""
    words = one.case.split()
    chip = load(f"{CHIPS}:{one.chip}" if f"[chips.{one.chip}]" in CHIPS.read_text() else one.chip)
    if words[0] == "host":
        size = float(words[-1])
        return Row(one, size / (one.value * 1e9), Span(*(size / link for link in HOST_LINK)), size)
    if words[0] == "collective":
        size = int(words[-1])
        args = (TensorArgument("float32", (size // 4,)),)
        operator = Operator("c10d::allreduce_", "forward", "native", "", None, None, args, None, None)
        lines = [(operator, Counts(calls=1, bytes_in=size, bytes_out=size))]
    span = seconds_of(list(in_dtype(lines, one.case)), chip)
    if span is None:
        return None
    work = 0.0
    if one.unit == "TFLOP/s":
        (left, right) = (arg.shape for arg in lines[0][0].args[:2])
        work = 2.0 * prod(left or ()) * (right or (0,))[-1]
    elif one.unit == "GB/s":
        # A copy reads and writes; a collective's rate is of what one rank has.
        work = float(words[-1]) if words[0] == "collective" else 2 * 4 * 2**20 * float(words[-1])
    elif one.unit == "tokens/s":
        work = float(words[2]) * float(words[3])
    scale = {"TFLOP/s": 1e12, "GB/s": 1e9, "tokens/s": 1.0}
    seconds = work / (one.value * scale[one.unit]) if work else one.value * 1e-6
    return Row(one, seconds, span, work)


def shown(row: Row, seconds: float) -> str:
    """A time in the measurement's unit."""
    scale = {"TFLOP/s": 1e12, "GB/s": 1e9, "tokens/s": 1.0}
    if not row.work:
        return f"{seconds * 1e6:,.0f}" if seconds >= 1e-4 else digits(seconds * 1e6)
    value = row.work / seconds / scale[row.measured.unit]
    return f"{value:,.0f}" if value >= 100 else digits(value)


def spread(factors: Sequence[float]) -> float:
    """How far off, whichever way."""
    return statistics.median(max(one, 1 / one) for one in factors)


TITLES = {
    "products": "Matrix products",
    "operators": "Other operators",
    "links": "Copies and collectives",
    "training": "Training, tokens per second and chip",
    CIRCULAR: "Not counted: the peak is the same kind of measurement",
}


def page(rows: Sequence[Row], lacking: Sequence[Measured]) -> Iterator[str]:
    """The page's lines."""
    yield INTRODUCTION
    yield "## Summary\n"
    yield "| | rows | in range | median of the factors | median error, either way | largest | smallest |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    groups = {name: [row for row in rows if row.measured.group == name] for name in TITLES}
    counted = [row for row in rows if row.measured.group != CIRCULAR]
    summed = [(title, groups[name]) for name, title in TITLES.items() if name != CIRCULAR]
    summed += [
        ("all that the parts were chosen on", [row for row in counted if row.measured.fitted]),
        ("all others", [row for row in counted if not row.measured.fitted]),
        ("**all**", counted),
    ]
    for title, some in summed:
        factors = [row.factor for row in some]
        within = sum(row.within for row in some)
        yield (
            f"| {title} | {len(some)} | {within} ({100 * within / len(some):.0f} %) "
            f"| {statistics.median(factors):.2f} | {spread(factors):.2f} "
            f"| {max(factors):.2f} | {min(factors):.2f} |"
        )
    yield ""
    yield LIMITS
    yield from (f"No estimate: {one.case} on {one.chip}, as the catalogue lacks a rate.\n" for one in lacking)
    for name, title in TITLES.items():
        yield f"## {title}\n"
        yield "| what | chip | measured | estimate: best / likely / worst | factor | in range | source |"
        yield "|---|---|---:|---:|---:|---|---|"
        yield from (line(row) for row in groups[name])
        yield ""
    yield "## Sources\n"
    yield from (f"- {name}: {text} ({date})" for name, (text, date) in SOURCES.items())


def line(row: Row) -> str:
    """A row of a table."""
    one = row.measured
    words = one.case.split()
    what = " ".join(words[1:-1]) if words[0] == "operator" else one.case
    if words[0] == "train":
        what = f"{words[1]}, {words[3]} × {words[2]}, {', '.join(words[4:])}"
    note = f"; {one.note}" if one.note and one.note != CIRCULAR else ""
    values = " / ".join(shown(row, seconds) for seconds in row.estimated)
    what += " ·" if one.fitted else ""
    unit = f" {one.unit}" if one.unit != "tokens/s" else ""
    within = "yes" if row.within else "no"
    return (
        f"| {what} | {one.chip} | {shown(row, row.seconds)}{unit} | {values} "
        f"| {row.factor:.2f} | {within} | {one.source}{note} |"
    )


def main() -> None:
    """Prints or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the page there")
    parser.add_argument("--keep", type=Path, help="where to keep what was counted")
    asked = parser.parse_args()
    measured = list(read_measured())
    with tempfile.TemporaryDirectory(prefix="heitu-estimates-") as folder:
        kept = asked.keep or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        found = rehearse(list(dict.fromkeys(run_case(one.case) for one in measured)), kept)
    pairs = [(one, compared(one, found.get(run_case(one.case), []))) for one in measured]
    text = "\n".join(page([row for _, row in pairs if row], [one for one, row in pairs if not row])) + "\n"
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
