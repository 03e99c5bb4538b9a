"""`heitu report`: shows the report of a rehearsal, or what is different between two."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from heitu.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

EXAMPLES = """\
examples:
  heitu run --chip ascend-910b --report before.json train.py
  heitu report show before.json
  heitu report show before.json --html before.html
  heitu report diff before.json after.json
"""


def main(args: list[str]) -> int:
    """Prints text, JSON or nothing (--html) on stdout. Returns 0.

    Raises:
        HeituError: a file is not a report (REPORT), a directory has no record (RECORD), or the HTML cannot
            be written (REPORT_PATH).
    """
    parser = argparse.ArgumentParser(
        prog="heitu report",
        description="Shows the report of a rehearsal, or what is different between two.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{show,diff}")
    show = commands.add_parser("show", help="one report")
    show.add_argument("report", metavar="FILE.json|DIRECTORY", help="a report, or the record of a rehearsal")
    diff = commands.add_parser("diff", help="two chips, or before and after")
    diff.add_argument("before", metavar="BEFORE", help="a report, or the record of a rehearsal")
    diff.add_argument("after", metavar="AFTER", help="another")
    for command in (show, diff):
        output = command.add_mutually_exclusive_group()
        output.add_argument("--json", action="store_true", help="print JSON on stdout")
        output.add_argument("--html", metavar="FILE", type=Path, help="write one HTML file")
    asked = parser.parse_args(args)
    return _show(asked) if asked.command == "show" else _diff(asked)


def _show(asked: argparse.Namespace) -> int:
    from heitu.rehearsal.report import load, to_json

    report = load(Path(asked.report))
    if asked.json:
        print(to_json(report), end="")
    elif asked.html:
        from heitu.rehearsal.ending import write_text
        from heitu.rehearsal.html import to_html

        write_text(asked.html, to_html(report))
    else:
        from heitu.rehearsal import terminal
        from heitu.rehearsal.tables import report_text

        print(terminal.summary(report, None, terminal.wants_color(sys.stdout)), end="")
        _print(report_text(report))
    return ExitCode.OK


def _diff(asked: argparse.Namespace) -> int:
    from heitu.rehearsal.difference import differences
    from heitu.rehearsal.plain import to_plain
    from heitu.rehearsal.report import load

    difference = differences(load(Path(asked.before)), load(Path(asked.after)))
    if asked.json:
        print(json.dumps(to_plain(difference), indent=1, ensure_ascii=False))
    elif asked.html:
        from heitu.rehearsal.ending import write_text
        from heitu.rehearsal.html import difference_html

        write_text(asked.html, difference_html(difference))
    else:
        from heitu.rehearsal.tables import difference_text

        _print(difference_text(difference))
    return ExitCode.OK


def _print(parts: Iterable[RenderableType]) -> None:
    from rich.console import Console

    # A pipe has no width to fold lines at.
    console = Console(highlight=False) if sys.stdout.isatty() else Console(width=1000, highlight=False)
    for part in parts:
        console.print(part)


if __name__ == "__main__":
    from heitu.cli import invoke

    invoke(main, sys.argv[1:])
