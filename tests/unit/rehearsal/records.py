"""Writes records as the processes of a rehearsal do, without any of the code that reads them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

SLOTS_AT = 102400
SLOTS = 65536
NOTHING = 0xFFFFFFFF
GIB = 2**30


class ProcessFiles:
    """The two files of one process; `counts` by slot are written by `save`."""

    def __init__(self, directory: Path, pid: int, parent: int = 0, rank: str | None = None) -> None:
        self.log = directory / f"{pid}.jsonl"
        self.counters = directory / f"{pid}.counters"
        self.log.unlink(missing_ok=True)
        self.pid = pid
        self.slots: dict[int, tuple[int, ...]] = {}
        self.used = 1
        self.launches: list[int] = []
        self.head = {"in_flight": NOTHING, "elapsed": 0, "steps": 0, "first": 0, "last": 0}
        self.capacity = 64 * GIB
        self.allocated: tuple[int, ...] = ()
        self.reserved: tuple[int, ...] = ()
        self.samples: tuple[tuple[int, int, int], ...] = ()
        self.say(
            event="process",
            pid=pid,
            parent=parent,
            argv=["train.py", "--lr", "1e-3"],
            rank=rank,
            chip="ascend-910b3",
            torch="2.13.0+cpu",
            python="3.11.2",
            start=1000.0,
            devices=1,
            core="c0ffee",
        )

    def say(self, **event: Any) -> None:
        """One line of the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def operator(
        self,
        name: str,
        *args: tuple[str, list[int] | None],
        verdict: str = "native",
        why: str = "listed",
        calls: int = 1,
        ns: int = 1000,
        bytes_in: int = 0,
        bytes_out: int = 0,
        replays: int = 0,
        **said: Any,
    ) -> int:
        """One line, and its slot in the counters, whose number is returned."""
        slot, self.used = self.used, self.used + 1
        line = {"phase": "forward", "rule": None, "dtype_verdict": None, "user": None, "site": None} | said
        self.say(
            event="operator",
            id=slot,
            operator=name,
            verdict=verdict,
            why=why,
            args=[list(a) for a in args],
            **line,
        )
        self.slots[slot] = (calls, ns, bytes_in, bytes_out, ns // max(1, calls), replays, 0, 0)
        return slot

    def kernel(self, name: str, launches: int | None = None, **said: Any) -> None:
        """A kernel of Triton's, defined in line 3 of kernels.py, and its count."""
        slot = None if launches is None else len(self.launches)
        self.launches += [] if launches is None else [launches]
        defined = ["/home/ann/project/kernels.py", 3, name]
        line = {"verdict": "native", "required": 4096, "limit": 196608, "findings": [], "unknown": []}
        self.say(
            event="kernel",
            kind="triton",
            name=name,
            slot=slot,
            **({"defined": defined, "user": USER} | line | said),
        )

    def save(self) -> None:
        """Writes the counters."""
        counted = struct.pack(f"<{len(self.launches)}Q", *self.launches)
        self.counters.with_suffix(".launches").write_bytes(counted)
        content = bytearray(SLOTS_AT + SLOTS * 64)
        head = self.head
        struct.pack_into("<8sIIII", content, 0, b"HEITUREC", 1, SLOTS, self.used, head["in_flight"])
        struct.pack_into(
            "<5Q", content, 24, head["elapsed"], head["steps"], head["first"], head["last"], self.capacity
        )
        for at, peaks in ((64, self.allocated), (576, self.reserved)):
            for device, peak in enumerate(peaks):
                struct.pack_into("<Q", content, at + 8 * device, peak)
        struct.pack_into("<IIQ", content, 1088, len(self.samples), 0, 10**6)
        for i, sample in enumerate(self.samples):
            struct.pack_into("<3Q", content, 4096 + 24 * i, *sample)
        for slot, counts in self.slots.items():
            struct.pack_into("<8Q", content, SLOTS_AT + 64 * slot, *counts)
        self.counters.write_bytes(content)


def write_run(into: Path, **said: Any) -> None:
    """run.json."""
    run = {
        "version": 1,
        "chip": "ascend-910b3",
        "command": ["train.py", "--lr", "1e-3"],
        "start": 1000.0,
        "heitu": "0.1.0",
        "dry": False,
        "devices": 1,
        "end": 1012.5,
        "exit": 0,
        "directory": "/home/ann/project",
    }
    (into / "run.json").write_text(json.dumps(run | said))


def rule_index(chip: str, dtype: str, operator: str) -> int:
    """The number of a chip's dtype rule."""
    from heitu import chips

    rules = chips.load(chip).dtypes
    return next(i for i, rule in enumerate(rules) if rule.dtype == dtype and operator in rule.operators)


USER = ["/home/ann/project/train.py", 31, "step"]
MODEL = ["/usr/lib/python3/site-packages/transformers/models/llama/modeling_llama.py", 123, "forward"]


def write_training(directory: Path, **run: Any) -> None:
    """Two ranks of a training on ascend-910b3: native products, a fallback, a refusal, an unknown."""
    write_run(directory, devices=2, **run)
    for rank in range(2):
        one = ProcessFiles(directory, 100 + rank, parent=99, rank=str(rank))
        bf16 = "bfloat16"
        one.operator(
            "aten::mm",
            (bf16, [512, 256]),
            (bf16, [256, 1024]),
            calls=200,
            ns=600_000_000,
            bytes_in=200 * 2 * (512 * 256 + 256 * 1024),
            bytes_out=200 * 2 * 512 * 1024,
            user=USER,
            site=MODEL,
        )
        one.operator(
            "aten::add.Tensor",
            (bf16, [512, 1024]),
            (bf16, [512, 1024]),
            calls=400,
            ns=200_000_000,
            bytes_in=400 * 4 * 512 * 1024,
            bytes_out=400 * 2 * 512 * 1024,
            user=USER,
            site=USER,
        )
        for line, calls in ((77, 8), (91, 4)):
            one.operator(
                "aten::isin.Tensor_Tensor",
                ("int64", [1 << 20]),
                ("int64", [64]),
                verdict="fallback",
                why="not_listed",
                calls=calls,
                ns=calls * 15_000_000,
                bytes_in=calls * 8 * ((1 << 20) + 64),
                bytes_out=calls * (1 << 20),
                user=["/home/ann/project/data.py", line, "mask"],
            )
        one.operator(
            "aten::mm",
            ("float64", [64, 64]),
            ("float64", [64, 64]),
            verdict="refused",
            why="dtype",
            rule=rule_index("ascend-910b3", "float64", "aten::mm"),
            dtype_verdict="refused",
            calls=1,
            user=["/home/ann/project/rotary.py", 12, "frequencies"],
        )
        one.operator("vendor::thing", ("float32", [8]), verdict="unknown", why="incomplete_list", calls=3)
        one.slots[0] = (5, 4000, 0, 0, 1000, 0, 0, 0)
        one.head |= {"elapsed": 12_000_000_000, "steps": 10, "first": 2_000_000_000, "last": 11_000_000_000}
        one.allocated, one.reserved = (10 * GIB,), (12 * GIB + rank,)
        one.samples = tuple((i * 10**7, i * GIB // 100, i * GIB // 80) for i in range(1000))
        one.say(event="packages", versions={"torch": "2.13.0+cpu", "transformers": "4.57.1"})
        one.say(event="end", time=1012.0)
        one.save()
