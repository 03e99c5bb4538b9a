"""The record that a rehearsing process writes: two files, whole at every moment (docs/report.md)."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from heitu.chips import Chip
from heitu.rehearsal.frames import Place, Places, here, in_user_code
from heitu.rehearsal.launches import LaunchCounts
from heitu.rehearsal.rules import DTYPE_NAMES

_PACKAGES = (
    *("torch", "transformers", "accelerate", "peft", "diffusers", "torchvision", "torchaudio", "triton"),
    *("flash_attn", "xformers", "bitsandbytes", "apex", "deepspeed", "vllm", "sglang", "lightning"),
    *("timm", "torch_geometric", "mamba_ssm", "causal_conv1d", "numpy"),
)
_DTYPE_VERDICTS = {"refused", "narrowed", "emulated", "stated_no"}


class Recording:
    """The record of this process.

    Args:
        strict: the first call that is not native raises.
        allowed: overloads that a strict run lets pass ("isin.Tensor_Tensor", or "isin" for all of them).
    """

    def __init__(self, directory: Path, chip: Chip, strict: bool, allowed: Collection[str]) -> None:
        self._chip = chip
        self._strict = strict
        self._allowed = {name.removeprefix("aten::") for name in allowed}
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.stem, self._file = _new_file(directory)
        self._counters = directory / f"{self.stem}.counters"
        self._launches = LaunchCounts(directory / f"{self.stem}.launches")
        self._core: Any = None
        self._met_as: dict[int, tuple[str, str]] = {}  # number → operator, verdict

    def start(self, core: Any, torch_version: str) -> None:
        """Starts counting, before the core registers its kernels.

        Raises:
            RuntimeError: the file of counters cannot be made; what the system says.
        """
        self._core = core
        capacity = core.properties(0).total_memory if core.device_count() else 0
        self._write(
            event="process",
            pid=self._pid,
            parent=os.getppid(),
            argv=list(sys.argv) or list(sys.orig_argv),
            rank=os.environ.get("RANK"),
            chip=self._chip.name,
            torch=torch_version,
            python=sys.version.split()[0],
            start=time.time(),
            devices=core.device_count(),
            core=Path(core.__file__ or "").stem,
        )
        core.start_record(str(self._counters), capacity, self._met, self._place)
        atexit.register(self._end)

    def after_torch(self, torch: ModuleType) -> None:
        """Has steps of optimizers counted and uncaught exceptions noted, when all of torch is there."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        core = self._core
        register_optimizer_step_post_hook(lambda *_: core.count_step())
        self._chain_excepthook()

    def _chain_excepthook(self) -> None:
        previous = sys.excepthook

        def note(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            if os.getpid() == self._pid:
                self._write(
                    event="exception",
                    type=kind.__name__,
                    message=str(error)[:2000],
                    user=_innermost_user(trace),
                )
            previous(kind, error, trace)

        sys.excepthook = note

    def calls(self) -> dict[tuple[str, str], int]:
        """(operator, verdict) → calls until now."""
        counted: list[int] = self._core.record_calls()
        found: dict[tuple[str, str], int] = {}
        for identity, key in self._met_as.items():
            found[key] = found.get(key, 0) + counted[identity]
        return found

    def _met(
        self,
        identity: int,
        operator: str,
        backward: bool,
        verdict: str,
        why: str,
        rule: int,
        arguments: list[tuple[int, list[int] | None]],
    ) -> str | None:
        """Called by the core, on whichever thread runs the operator. Returns what a strict run raises."""
        self._met_as[identity] = (operator, verdict)
        places = here()
        stated = self._chip.dtypes[rule].verdict.value.value if rule >= 0 else None
        self._write(
            event="operator",
            id=identity,
            operator=operator,
            phase="backward" if backward else "forward",
            verdict=verdict,
            why=why,
            rule=rule if rule >= 0 else None,
            dtype_verdict=stated if stated in _DTYPE_VERDICTS else None,
            args=[[DTYPE_NAMES.get(dtype, str(dtype)), shape] for dtype, shape in arguments],
            user=places.user,
            site=places.site,
        )
        if not self._strict or verdict == "native" or self._allows(operator):
            return None
        message = _strict_message(operator, verdict, self._chip, places)
        self._write(event="strict", operator=operator, message=message)
        return message

    def _allows(self, operator: str) -> bool:
        name = operator.removeprefix("aten::")
        return name in self._allowed or name.partition(".")[0] in self._allowed

    def _place(self) -> int:
        places = here()
        return hash(places) & 0xFFFFFFFFFFFFFFFF

    def kernel(
        self, kind: str, name: str, defined: tuple[str, int] | None, said: Mapping[str, object]
    ) -> int:
        """Writes down a kernel that is no operator of torch's. Returns the address of its count of launches.

        Args:
            kind: "triton".
            defined: file and line.
            said: verdict, message, required, limit, findings and unknown of docs/report.md.
        """
        with self._lock:
            slot, address = self._launches.slot()
        user = here().user
        self._write(
            event="kernel",
            kind=kind,
            name=name,
            defined=None if defined is None else [*defined, name],
            user=user,
            slot=slot,
            **said,
        )
        return address

    def defect(self, kind: str, kernel: str, at: tuple[str, int] | None, argument: str, text: str) -> int:
        """Writes down a wrong access in a kernel. Returns the address of the count of such accesses, or 0."""
        with self._lock:
            slot, address = self._launches.slot()
        place = None if at is None else [*at, kernel]
        self._write(
            event="defect", kind=kind, kernel=kernel, at=place, argument=argument, text=text, slot=slot
        )
        return address

    def forbid(self, name: str, why: str) -> None:
        """Raises RuntimeError for a kernel of Triton's that is not known to run, if this is a strict run."""
        if not self._strict or f"triton::{name}" in self._allowed:
            return
        message = (
            f"kernel {name} is not known to run on {self._chip.title}: {why}. "
            f"Let it pass with --allow triton::{name}, or run without --strict."
        )
        self._write(event="strict", operator=name, message=message)
        raise RuntimeError(message)

    def _write(self, **event: object) -> None:
        line = json.dumps(event, separators=(",", ":")) + "\n"
        try:
            with self._lock:
                os.write(self._file, line.encode())
        except OSError:
            pass  # a full disk must not end the program; the reader sees a shorter record

    def _end(self) -> None:
        if os.getpid() != self._pid:
            return
        self._core.settle_record()
        found = {name: sys.modules[name] for name in _PACKAGES if name in sys.modules}
        versions = {name: str(getattr(module, "__version__", "")) for name, module in found.items()}
        self._write(event="packages", versions=versions)
        self._write(event="end", time=time.time())


def _strict_message(operator: str, verdict: str, chip: Chip, places: Places) -> str:
    what = {
        "fallback": "would run on the host",
        "refused": "would be refused",
        "unknown": "is not known to run",
    }[verdict]
    place = places.user or places.site
    where = f" ({place.file}:{place.line})" if place else ""
    return (
        f"{operator} {what} on {chip.title}{where}. "
        f"Let it pass with --allow {operator.removeprefix('aten::')}, or run without --strict."
    )


def _innermost_user(trace: TracebackType | None) -> Place | None:
    found = None
    while trace is not None:
        place = in_user_code(trace.tb_frame, trace.tb_lineno)
        found, trace = place or found, trace.tb_next
    return found


def _new_file(directory: Path) -> tuple[str, int]:
    """A name that no other process has (one that was replaced by exec has the same number), and its file."""
    for attempt in range(1, 10_000):
        stem = str(os.getpid()) if attempt == 1 else f"{os.getpid()}-{attempt}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            return stem, os.open(directory / f"{stem}.jsonl", flags, 0o600)
        except FileExistsError:
            continue
    raise FileExistsError(f"{directory} is full of records of process {os.getpid()}")
