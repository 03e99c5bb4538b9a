"""What the rules of a chip and the record cost: a GPT's training step with and without them.

    python bench/rehearsal.py [--chip ascend-910b] [--rounds 5] [--steps 40]

Runs bench/gpt_step.py by turns on the bare device, under the rules alone, and under rules and record. Each
run measures its steps against steps on the plain CPU in between, so what is compared is cuda / cpu.
Marks: rules <= 1.03 of the bare device, rules and record <= 1.10.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

STEP = Path(__file__).parent / "gpt_step.py"


def ratio(step_options: list[str], *options: str) -> float:
    """Median of cuda / cpu of one run."""
    command = [sys.executable, "-m", "heitu", "run", *options, str(STEP), "--json", *step_options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["ratio"])


def main() -> None:
    """Prints the medians, and what they are of the bare device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chip", default="ascend-910b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, help="of each run; torch's own choice by default")
    asked = parser.parse_args()
    step_options = ["--steps", str(asked.steps)]
    if asked.threads:
        step_options += ["--threads", str(asked.threads)]
    ways: dict[str, tuple[str, ...]] = {
        "bare": (),
        "rules": ("--chip", asked.chip, "--no-record"),
        "rules and record": ("--chip", asked.chip),
    }
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        for name, options in ways.items():
            measured[name].append(ratio(step_options, *options))
    bare = statistics.median(measured["bare"])
    for name, values in measured.items():
        middle = statistics.median(values)
        spread = f"{min(values):.3f} to {max(values):.3f}"
        print(f"{name:18} cuda/cpu {middle:.3f} ({spread})  of bare {middle / bare:.3f}")


if __name__ == "__main__":
    main()
