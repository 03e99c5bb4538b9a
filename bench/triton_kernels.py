"""Triton's kernels on the CPU backend against torch's own operators, taking turns.

    PYTHONPATH=.venv/triton python bench/triton_kernels.py [--rounds 9] [--threads 1]

Prints the median of both in milliseconds and the median of the ratios of neighbouring runs; then what a
launch costs in microseconds.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--rounds", type=int, default=9)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--interpreter", action="store_true", help="against Triton's interpreter: takes minutes")
parser.add_argument("--once", action="store_true", help="what each kernel takes once, in milliseconds")
chosen = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(chosen.threads)

import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent))
from triton_programs import pairs, swiglu  # noqa: E402

torch.set_num_threads(chosen.threads)


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def turn(call: Callable[[], object]) -> float:
    """Milliseconds of a call, the median of three after one that is not counted.

    Torch's threads look for work for a while before they leave a processor to others, hence the pause.
    """
    time.sleep(0.02)
    call()
    return statistics.median(timed(call) for _ in range(3))


def against_interpreter() -> None:
    """Prints how many times longer Triton's interpreter takes, which runs in a process of its own, once."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, __file__, "--once", "--threads", str(chosen.threads)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    slow = dict(line.rsplit("\t", 1) for line in done.stdout.splitlines())
    ratios = []
    for name, kernel, _ in pairs():
        fast = turn(kernel)
        ratios.append(float(slow[name]) / fast)
        print(f"{name:28}{fast:9.2f}{float(slow[name]):9.0f}{ratios[-1]:7.0f}", flush=True)
    print(f"geometric mean {math.exp(statistics.fmean(map(math.log, ratios))):.0f}, least {min(ratios):.0f}")


def main() -> int:
    """Prints the table."""
    if chosen.once:
        for name, kernel, _ in pairs():
            print(f"{name}\t{timed(kernel)}", flush=True)
        return 0
    if chosen.interpreter:
        against_interpreter()
        return 0
    ratios = []
    print(f"{'':28}{'kernel':>9}{'torch':>9}{'ratio':>7}")
    for name, kernel, operator in pairs():
        kernel(), operator()
        runs = [(turn(kernel), turn(operator)) for _ in range(chosen.rounds)]
        ours, theirs = (statistics.median(column) for column in zip(*runs, strict=True))
        ratio = statistics.median(a / b for a, b in runs)
        ratios.append(ratio)
        print(f"{name:28}{ours:9.2f}{theirs:9.2f}{ratio:7.2f}", flush=True)
    print(f"geometric mean {math.exp(statistics.fmean(map(math.log, ratios))):.2f}")
    x = torch.randn(64)
    launch = swiglu[(1,)]
    launch(x, x, x, 64, 64)
    costs = [
        timed(lambda: [launch(x, x, x, 64, 64) for _ in range(1000)]) for _ in range(7)
    ]  # ms: us a launch
    print(f"a launch of one program: {statistics.median(costs):.1f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
