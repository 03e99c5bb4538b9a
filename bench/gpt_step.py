"""A GPT's training step on the emulated device against the same step on plain CPU, interleaved.

    heitu run bench/gpt_step.py [--steps 60] [--width 256] [--threads 2] [--profile 21]

Prints the medians in milliseconds and the ratio cuda / cpu of neighbouring steps.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """A transformer block as nanoGPT has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, time, width) -> the same."""
        batch, time_, width = x.shape
        q, k, v = (
            part.view(batch, time_, self.heads, width // self.heads).transpose(1, 2)
            for part in self.attention(self.norm1(x)).split(width, dim=2)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(y.transpose(1, 2).reshape(batch, time_, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Embedding, blocks, head."""

    def __init__(self, layers: int, width: int, vocabulary: int, context: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, max(1, width // 64)) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(batch, time) ids and targets -> mean cross entropy."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        logits = self.head(self.norm(self.blocks(x)))
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Side:
    """One device's model, optimizer and data."""

    def __init__(self, model: GPT, ids: torch.Tensor, device: str) -> None:
        self.model = copy.deepcopy(model).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.ids = ids.to(device)
        self.targets = ids.roll(-1, 1).to(device)
        self.times: list[float] = []
        self.loss = 0.0

    def step(self) -> None:
        start = time.perf_counter()
        self.optimizer.zero_grad()
        loss = self.model(self.ids, self.targets)
        loss.backward()
        self.optimizer.step()
        self.loss = loss.item()
        self.times.append(time.perf_counter() - start)


def add_sizes(parser: argparse.ArgumentParser, steps: int) -> None:
    """Adds what says how large the model is, and how many steps it makes."""
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_sizes(parser, steps=60)
    parser.add_argument("--profile", type=int, default=0, metavar="TURNS", help="operators, on stderr")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = GPT(arguments.layers, arguments.width, 256, arguments.context)
    ids = torch.randint(256, (arguments.batch, arguments.context))
    cpu, cuda = Side(model, ids, "cpu"), Side(model, ids, "cuda")
    for _ in range(5):
        cpu.step()
        cuda.step()
    cpu.times.clear()
    cuda.times.clear()
    for turn in range(arguments.steps):
        # Who comes first alternates, so that neither always finds the other's caches.
        for side in (cpu, cuda) if turn % 2 else (cuda, cpu):
            side.step()
    ratios = sorted(b / a for a, b in zip(cpu.times, cuda.times, strict=True))
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "cpu_ms": 1e3 * statistics.median(cpu.times),
        "cuda_ms": 1e3 * statistics.median(cuda.times),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
        "ratio_of_fastest": min(cuda.times) / min(cpu.times),
        "losses": [cpu.loss, cuda.loss],
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:18} {value}")
    if arguments.profile:
        profile(cpu, cuda, arguments.profile)


PROFILED = 3  # steps at a time


def own_times(side: Side) -> dict[str, tuple[float, int]]:
    """Operator -> (microseconds of its own a step, calls a step)."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        for _ in range(PROFILED):
            side.step()
    rows = record.key_averages()
    return {row.key: (row.self_cpu_time_total / PROFILED, row.count // PROFILED) for row in rows}


def profile(cpu: Side, cuda: Side, turns: int) -> None:
    """Prints each operator's own time on both devices, both running the same operators, in alternation.

    `ratio` is the median over the turns, each of which compares neighbouring steps.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler says when it starts and stops
    # On CUDA AdamW takes its foreach form by default, and on the CPU its loop over parameters.
    for group in cpu.optimizer.param_groups:
        group["foreach"] = True
    pairs: list[dict[Side, dict[str, tuple[float, int]]]] = []
    for turn in range(turns):
        pairs.append({side: own_times(side) for side in ((cpu, cuda) if turn % 2 else (cuda, cpu))})
    rows = []
    for name in sorted({name for pair in pairs for side in pair.values() for name in side}):
        both = [(pair[cpu].get(name, (0.0, 0)), pair[cuda].get(name, (0.0, 0))) for pair in pairs]
        a, b = (statistics.median(time for time, _ in times) for times in zip(*both, strict=True))
        ratios = [after / before for (before, _), (after, _) in both if before]
        calls = both[-1][0][1], both[-1][1][1]
        rows.append((b, name, a, statistics.median(ratios) if ratios else float("nan"), calls))
    print(f"{'operator':45} {'cpu us':>9} {'cuda us':>9} {'ratio':>6} {'calls':>11}", file=sys.stderr)
    for b, name, a, ratio, (n, m) in sorted(rows, reverse=True)[:40]:
        print(f"{name[:45]:45} {a:9.0f} {b:9.0f} {ratio:6.3f} {n:5}/{m:5}", file=sys.stderr)


if __name__ == "__main__":
    main()
