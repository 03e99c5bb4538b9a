"""`heitu doctor`: says what is here, what fits together and what to do next."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING

from heitu.errors import ExitCode, HeituError

if TYPE_CHECKING:
    from heitu.findings import Finding

STYLES = {"PASS": "green", "WARN": "yellow", "FAIL": "bold red"}


def main(args: list[str]) -> int:
    """Prints the findings. Returns 0, or 1 where one of them is FAIL.

    Raises:
        HeituError: --settings, and one of them is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="heitu doctor", description="Says what is here, what fits together and what to do next."
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.add_argument("--settings", action="store_true", help="print the settings in force and stop")
    asked = parser.parse_args(args)
    try:
        return _print_settings(asked.json) if asked.settings else _print_findings(asked.json)
    except HeituError:
        raise
    except Exception as error:
        print(f"heitu: doctor cannot go on: {type(error).__name__}: {error}", file=sys.stderr)
        return ExitCode.FAILED


def _print_findings(as_json: bool) -> int:
    from heitu.doctor import examine
    from heitu.findings import Status

    findings = list(examine())
    failed = any(finding.status is Status.FAIL for finding in findings)
    if as_json:
        rows = [{**vars(finding), "status": finding.status.value} for finding in findings]
        print(json.dumps({"ok": not failed, "findings": rows}, indent=2))
    else:
        _print_table(findings)
    return ExitCode.FAILED if failed else ExitCode.OK


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mark = Text(finding.status.value, style=STYLES[finding.status.value])
        found = Text(finding.found)
        if finding.next:
            found.append(f"\n→ {finding.next}", style="cyan")
        table.add_row(mark, Text(finding.check), found)
    counts = Counter(finding.status.value for finding in findings)
    # A pipe has no width to fold lines at.
    console = Console() if sys.stdout.isatty() else Console(width=1000)
    console.print(table)
    console.print(", ".join(f"{counts[status]} {status}" for status in STYLES), highlight=False)


def _print_settings(as_json: bool) -> int:
    from heitu.settings import settings

    rows = settings.rows()
    if as_json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
    for row in [] if as_json else rows:
        print(f"{row.variable:<18} {row.value:<12} {'set    ' if row.is_set else 'default'}  {row.doc}")
    settings.check()
    return ExitCode.OK


if __name__ == "__main__":
    from heitu.cli import invoke

    invoke(main, sys.argv[1:])
