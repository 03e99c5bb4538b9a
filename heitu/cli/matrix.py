"""`heitu matrix`: rehearses programs on all chips, and writes the table."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from heitu.errors import ExitCode

if TYPE_CHECKING:
    from heitu.rehearsal.matrix import Cell, Program

EXAMPLES = """\
examples:
  heitu matrix train.py "serve.py --tokens 32"
  heitu matrix examples/matrix/programs.toml --out docs/matrix.md
  heitu matrix train.py --chips ascend-910b,mtt-s5000 --json
"""


def main(args: list[str]) -> int:
    """Prints the page (Markdown) or JSON on stdout, or writes it. Returns 0, whatever became of the programs.

    Raises:
        HeituError: a program or a chip is not there, the core cannot be built, or the page cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="heitu matrix",
        description="Rehearses programs on all chips, and writes the table.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "programs",
        metavar="PROGRAM",
        nargs="+",
        help="a script, a command in quotes, or a list of them (.toml)",
    )
    parser.add_argument("--chips", metavar="A,B", help="these chips, instead of all")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="write the page there, and the data beside it"
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.add_argument(
        "--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="programs at once"
    )
    parser.add_argument("--timeout", type=float, default=300, help="seconds that a program may take")
    asked = parser.parse_args(args)
    if asked.jobs < 1 or asked.timeout <= 0:
        parser.error("--jobs and --timeout are numbers above 0")
    chosen = None if asked.chips is None else [name for name in asked.chips.split(",") if name]
    if chosen == []:
        parser.error("--chips names no chip")

    from heitu.device.build import core_library
    from heitu.rehearsal.ending import check_place, write_text
    from heitu.rehearsal.matrix import kinds, read_programs, to_json
    from heitu.rehearsal.matrix_page import page

    programs = read_programs(asked.programs)
    chips = kinds(chosen)
    if asked.out is not None:
        check_place(asked.out)
    core_library()
    cells = _rehearse(programs, list(chips), asked.jobs, asked.timeout)
    data = json.dumps(to_json(cells, chips, programs), indent=1) + "\n"
    text = page(cells, chips, programs, f"heitu matrix {shlex.join(args)}")
    if asked.out is not None:
        write_text(asked.out, text)
        write_text(asked.out.with_suffix(".json"), data)
    else:
        print(data if asked.json else text, end="")
    return ExitCode.OK


def _rehearse(
    programs: list[Program], chips: list[str], jobs: int, seconds: float
) -> dict[tuple[str, str], Cell]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from heitu.rehearsal.matrix import run

    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("rehearsing", total=len(programs) * len(chips))

        def done(cell: Cell) -> None:
            progress.update(task, advance=1, description=f"{cell.program} on {cell.chip}")

        return run(programs, chips, jobs, seconds, done)


if __name__ == "__main__":
    from heitu.cli import invoke

    invoke(main, sys.argv[1:])
