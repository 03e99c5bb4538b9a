"""A GPT's training step by torch.compile: Triton on the cuda device, eager there, inductor's C++ on the CPU.

    PYTHONPATH=.venv/triton heitu run bench/compiled_step.py [--steps 40] [--width 256] [--threads 2]

Prints the medians in milliseconds, and the ratios of neighbouring steps to those of the first.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.gpt_step import GPT, Side, add_sizes

SIDES = {"compiled, cuda": "cuda", "eager, cuda": "cuda", "compiled, cpu": "cpu", "eager, cpu": "cpu"}


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_sizes(parser, steps=40)
    parser.add_argument("--mode", default="default", help="of torch.compile")
    parser.add_argument("--profile", action="store_true", help="kernels of the first, on stderr")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = GPT(arguments.layers, arguments.width, 256, arguments.context)
    ids = torch.randint(256, (arguments.batch, arguments.context))
    sides = {name: Side(model, ids, device) for name, device in SIDES.items()}
    for name, side in sides.items():
        if name.startswith("compiled"):
            side.model.compile(mode=arguments.mode)
        for _ in range(4):
            side.step()
        side.times.clear()
    for turn in range(arguments.steps):
        # Who comes first changes, so that none always finds another's caches.
        order = list(sides.values())
        for side in order[turn % len(order) :] + order[: turn % len(order)]:
            side.step()
    first = next(iter(sides.values())).times
    result: dict[str, object] = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }
    for name, side in sides.items():
        ratio = statistics.median(a / b for a, b in zip(first, side.times, strict=True))
        result[name] = {"ms": 1e3 * statistics.median(side.times), "ratio": ratio, "loss": side.loss}
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:18} {value}")
    if arguments.profile:
        compiled = sides["compiled, cuda"]
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
            for _ in range(3):
                compiled.step()
        print(record.key_averages().table(sort_by="self_cpu_time_total", row_limit=40), file=sys.stderr)


if __name__ == "__main__":
    main()
