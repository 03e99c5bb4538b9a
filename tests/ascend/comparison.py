"""A program written for cuda, through Heitu, against the same program written for npu, on the emulated CANN.

The program for npu is the text of the other with cuda's names exchanged for the plugin's, and it is run
without Heitu's device. What both print and which operators of CANN both call has to be the same.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MATRIX = ROOT / "examples" / "matrix"
PROGRAMS = HERE / "programs"
RANKS = 2
LIMIT = 600  # seconds for one program

# What PyTorch itself does on CUDA in another way than on devices of plugins stands before a program for npu:
# a number is filled into a slice, where elsewhere it goes through a tensor on the device.
PYTORCH_ON_CUDA = """
import torch
def _as_on_cuda(assign):
    def assign_from_host(self, index, value):
        if isinstance(value, (bool, int, float)) and self.device.type == "npu":
            value = torch.tensor(value, dtype=self.dtype)
        assign(self, index, value)
    return assign_from_host
torch.Tensor.__setitem__ = _as_on_cuda(torch.Tensor.__setitem__)
"""

# (name, file, arguments, processes)
Program = tuple[str, Path, tuple[str, ...], int]


def programs() -> list[Program]:
    """Those of the matrix, and those beside, of which some are run by torchrun."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    listed = tomllib.loads((MATRIX / "programs.toml").read_text("utf-8"))
    found: list[Program] = []
    for name, command in listed.items():
        file, *arguments = command.split()
        found.append((name, MATRIX / file, tuple(arguments), 1))
    for path in sorted(PROGRAMS.glob("*.py")):
        found.append((path.stem, path, (), RANKS if "torchrun" in path.read_text("utf-8") else 1))
    return found


def for_npu(text: str) -> str:
    """The program as its author would have written it for Ascend."""
    return re.sub(r"\bnccl\b", "hccl", re.sub(r"\bcuda\b", "npu", text))


def with_all_digits(text: str) -> str:
    """The program with its numbers printed whole, so that equal text means equal numbers."""
    return re.sub(r":\.\d+f}", "}", text)


@dataclass(frozen=True)
class Run:
    """What a program came to.

    Args:
        printed: its standard output.
        calls: how often it called each operator of CANN.
        code: how it ended.
        error: the end of its standard error.
    """

    printed: str
    calls: Counter[str]
    code: int
    error: str


def run(program: Program, folder: Path, *, through_heitu: bool) -> Run:
    """Runs one side in `folder`, which is made."""
    _, source, arguments, processes = program
    folder.mkdir(parents=True)
    text = with_all_digits(source.read_text("utf-8"))
    # Some import what lies in the folder above theirs.
    for beside in source.parent.parent.glob("*.py"):
        words = beside.read_text("utf-8")
        (folder.parent / beside.name).write_text(words if through_heitu else for_npu(words), "utf-8")
    file = folder / source.name
    file.write_text(text if through_heitu else PYTORCH_ON_CUDA + for_npu(text), "utf-8")
    for sibling in source.parent.glob("*.py"):  # what it imports
        target = folder / sibling.name
        if not target.exists():
            words = sibling.read_text("utf-8")
            target.write_text(words if through_heitu else for_npu(words), "utf-8")
    counts = folder / "calls"
    counts.mkdir()
    command = [str(file), *arguments]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    if processes > 1:
        command = [*torchrun, "--master-port", str(29500 + os.getpid() % 1000), *command]
    start = ["--chip", "ascend-910b", "--plugin", "--devices", str(processes)]
    if not through_heitu:
        start += ["--via", "plugin"]
    start += ["--", sys.executable] if processes > 1 else []
    try:
        ended = heitu(*start, *command, folder=folder, HEITU_CANN_CALLS=str(counts))
    except subprocess.TimeoutExpired:
        return Run("", Counter(), -1, f"not done after {LIMIT} s")
    calls: Counter[str] = Counter()
    for path in counts.glob("*.json"):
        calls.update(json.loads(path.read_text()))
    return Run(ended.stdout, calls, ended.returncode, ended.stderr[-3000:])


def heitu(*words: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `heitu run` with these words."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), **environment}
    command = [sys.executable, "-m", "heitu", "run", *words]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False
    )


@dataclass(frozen=True)
class Outcome:
    """Both sides of one program."""

    name: str
    cuda: Run
    npu: Run

    @property
    def same_numbers(self) -> bool:
        """Whether both printed the same, and something."""
        return bool(self.npu.printed) and self.cuda.printed == self.npu.printed

    @property
    def same_calls(self) -> bool:
        """Whether both called the same operators equally often."""
        return bool(self.npu.calls) and self.cuda.calls == self.npu.calls

    @property
    def verdict(self) -> str:
        """In a word or two; for what does not run on npu, the plugin's reason."""
        if self.npu.code != 0:
            return f"does not run on npu: {_reason(self.npu)}"
        if self.cuda.code != 0:
            return f"FAILS on cuda: {_reason(self.cuda)}"
        if not self.same_numbers:
            return "numbers DIFFER"
        if not self.same_calls:
            return f"calls DIFFER: {_differing(self.cuda.calls, self.npu.calls)}"
        return "same"


def compare(program: Program) -> Outcome:
    """Runs both sides in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="heitu-ascend-") as folder:
        npu = run(program, Path(folder) / "npu", through_heitu=False)
        cuda = run(program, Path(folder) / "cuda", through_heitu=True)
    return Outcome(program[0], cuda, npu)


def _reason(ended: Run) -> str:
    lines = [line.strip() for line in ended.error.splitlines() if line.strip()]
    missing = [line for line in lines if line.startswith("[emulated CANN]")]
    errors = [line for line in lines if re.match(r"\w*(Error|Exception)\b", line)]
    return (missing or errors or lines or [f"code {ended.code}"])[-1][:160]


def _differing(ours: Counter[str], theirs: Counter[str]) -> str:
    names = sorted(name for name in {*ours, *theirs} if ours[name] != theirs[name])
    return ", ".join(f"{name} {ours[name]} for {theirs[name]}" for name in names[:6])
