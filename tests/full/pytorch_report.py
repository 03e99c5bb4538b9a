"""Writes docs/conformance-pytorch.md from the reports of tests.full.pytorch_tests.

python -m tests.full.pytorch_report cuda.json indexing.json …
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.full.pytorch_causes import CAUSES

HERE = Path(__file__).resolve()
TEMPLATE = HERE.with_name("pytorch_template.md")
PAGE = HERE.parents[2] / "docs" / "conformance-pytorch.md"
UNEXPLAINED = "Not explained yet"
FOLDER = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+")  # where things lie on one machine
VARIANT = re.compile(r"(_cuda)?(_(float|bfloat|complex|u?int|bool)\w*)?$")  # what the dtype adds to a name


def cause(test: str, outcome: str, message: str) -> str:
    """Why this test does not pass, as far as it is known."""
    for text, patterns in CAUSES:
        if any(re.search(pattern, f"{test}: {outcome}: {message}") for pattern in patterns):
            return text
    return UNEXPLAINED


def table(reports: Iterable[dict[str, Any]]) -> str:
    """A line for each file and one for all."""
    lines, total = [], Counter[str]()

    def line(name: str, counts: Counter[str]) -> str:
        ran = sum(counts[outcome] for outcome in ("passed", "failed", "timed out", "crashed"))
        columns = ("selected", "passed", "failed", "timed out", "crashed", "skipped", "not run")
        share = f"{100 * counts['passed'] / max(ran, 1):.1f} %"
        return f"| {name} | {' | '.join(str(counts[column]) for column in columns)} | {share} |"

    for report in reports:
        counts = Counter(outcome for outcome, _ in report["outcomes"].values())
        counts["selected"] = report["selected"]
        counts["not run"] = report["selected"] - len(report["outcomes"])
        total += counts
        lines.append(line(report["file"], counts))
    return "\n".join([*lines, line("all", total)])


def remains(reports: Iterable[dict[str, Any]]) -> str:
    """What did not pass, by cause, the most frequent first; variants of a test in one line."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for report in reports:
        for name, (outcome, message) in report["outcomes"].items():
            if outcome not in ("passed", "skipped"):
                test = f"{report['file'].removesuffix('.py')}::{name}"
                variants = found[cause(test, outcome, message)][VARIANT.sub("", test)]
                variants.append(_seen(outcome, message))

    def section(text: str, tests: dict[str, list[str]]) -> str:
        lines = []
        for test, seen in sorted(tests.items()):
            times = f" (×{len(seen)})" if len(seen) > 1 else ""
            lines.append(f"- {test.replace('::', '.')}{times}: {seen[0]}")
        return f"### {text} ({sum(map(len, tests.values()))})\n\n" + "\n".join(lines)

    in_order = sorted(found.items(), key=lambda item: -sum(map(len, item[1].values())))
    return "\n\n".join(section(text, tests) for text, tests in in_order)


def _seen(outcome: str, message: str) -> str:
    first = next((line for line in message.splitlines() if line.strip()), "")
    first = FOLDER.sub("…/", first)[:120]
    quoted = "`" + first.replace("`", "'").replace("|", "/") + "`"
    return quoted if outcome == "failed" else f"{outcome}, {quoted}"


def main() -> None:
    """Reads the reports that the command line names, in that order."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    if not paths:
        raise SystemExit(__doc__)
    reports = [json.loads(path.read_text()) for path in paths]
    date = datetime.datetime.fromtimestamp(max(os.path.getmtime(path) for path in paths))
    page = TEMPLATE.read_text(encoding="utf-8")
    for key, text in {
        "date": f"{date:%Y-%m-%d}",
        "torch": version("torch"),
        "machine": f"Python {platform.python_version()}, {platform.machine()}",
        "table": table(reports),
        "remains": remains(reports),
    }.items():
        page = page.replace("{" + key + "}", text)
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
