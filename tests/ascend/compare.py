"""Writes the table of docs/ascend.md: programs through Heitu, and as programs for npu, on the emulated CANN.

    python -m tests.ascend.compare [--only NAME …] [--into docs/ascend.md]

It takes the torch_npu wheel beside torch, and transformers for most programs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.ascend.comparison import Outcome, compare, programs

BEGIN, END = "<!-- programs -->", "<!-- end of programs -->"


def row(outcome: Outcome) -> str:
    """A line of the table."""
    calls = outcome.npu.calls
    return f"| {outcome.name} | {len(calls)} | {sum(calls.values())} | {outcome.verdict} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="names of programs; unset: all")
    parser.add_argument("--into", type=Path, help="a page with the two marks; unset: standard output alone")
    asked = parser.parse_args()
    chosen = [program for program in programs() if not asked.only or program[0] in asked.only]
    lines = ["| program | operators of CANN | calls | cuda, through Heitu |", "|---|---:|---:|---|"]
    print(*lines, sep="\n", flush=True)
    same = 0
    for program in chosen:
        outcome = compare(program)
        same += outcome.verdict == "same"
        lines.append(row(outcome))
        print(lines[-1], flush=True)
    if asked.into is not None:
        before, _, rest = asked.into.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        asked.into.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), "utf-8")
    print(f"{same} of {len(chosen)} the same", file=sys.stderr)
    return 0 if same == len(chosen) else 1


if __name__ == "__main__":
    raise SystemExit(main())
