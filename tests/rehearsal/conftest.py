"""Programs rehearsed as a user would: `heitu run --chip NAME program.py`, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest


@dataclass
class Rehearsed:
    """A program that has ended, and the report on it."""

    status: int
    out: str
    err: str
    report: dict[str, Any]

    def calls(self, verdict: str) -> dict[str, int]:
        """Operator → calls with this verdict."""
        found: dict[str, int] = {}
        for row in self.report["operators"]:
            if row["verdict"] == verdict:
                found[row["operator"]] = found.get(row["operator"], 0) + row["calls"]
        return found

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The report's lines of an operator."""
        return [row for row in self.report["operators"] if row["operator"] == name]


class Rehearse(Protocol):
    """Runs a program's text on a chip."""

    def __call__(self, chip: str, program: str, *options: str, **environment: str) -> Rehearsed: ...


@pytest.fixture
def rehearse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rehearse:
    """Runs a program on a chip and reads the report."""
    return rehearser(tmp_path, monkeypatch)


def rehearser(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Rehearse:
    """The same in a folder of one's own."""
    monkeypatch.chdir(folder)

    def run(chip: str, program: str, *options: str, **environment: str) -> Rehearsed:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        Path("program.py").write_text(textwrap.dedent(program))
        Path("report.json").unlink(missing_ok=True)
        report_to = [] if "--no-record" in options else ["--report", "report.json"]
        command = [sys.executable, "-m", "heitu", "run", "--emulate", "--chip", chip, *report_to, *options]
        done = subprocess.run(
            [*command, "program.py"], capture_output=True, text=True, timeout=240, check=False
        )
        report = json.loads(Path("report.json").read_text()) if Path("report.json").exists() else {}
        return Rehearsed(done.returncode, done.stdout, done.stderr, report)

    return run
