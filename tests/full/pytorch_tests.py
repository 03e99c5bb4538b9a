"""Runs one file of PyTorch's own tests on the emulated device, so that a crash has a name and ends nothing.

    heitu run -m tests.full.pytorch_tests /src/pytorch/test/test_cuda.py -k TestCuda --report cuda.json

The file comes from a checkout of PyTorch of about the installed release; its neighbours (expected outputs,
helper modules) must lie beside it. The tests share a process until one ends it or outlasts the limit; the
next process takes up after that one. A test that ended a process is run again alone, and only then counted as
a crash; with --alone one that failed is too, lest it failed for what an earlier one had left behind.
`tests.full.pytorch_report` makes a page of the reports.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
COLLECTING = 300.0  # seconds that importing the file and finding its tests may take


class Outcome(NamedTuple):
    """What a test came to: passed, failed, skipped, crashed or timed out; and what it said."""

    outcome: str
    message: str


def command(*arguments: str) -> list[str]:
    """The command line of pytest with the plugin that notes outcomes."""
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.full.pytorch_plugin",
            *arguments]  # fmt: skip


def environment(notes: Path) -> dict[str, str]:
    """That of the tests: only their variants for CUDA."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTORCH_TESTING_DEVICE_ONLY_FOR": "cuda",
        "HEITU_TEST_NOTES": str(notes),
    }


def collect(file: Path, keyword: str) -> list[str]:
    """The names of the file's tests that the keyword selects."""
    finished = subprocess.run(
        command("--collect-only", "-k", keyword, file.name),
        cwd=file.parent,
        env=environment(Path(os.devnull)),
        timeout=COLLECTING,
        capture_output=True,
        text=True,
        check=False,
    )
    tests = [line for line in finished.stdout.splitlines() if line.startswith(f"{file.name}::")]
    if not tests:
        raise SystemExit(
            f"no tests of {file} match {keyword!r}:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}"
        )
    return tests


def read_notes(notes: Path) -> tuple[dict[str, Outcome], str | None]:
    """The outcomes in the plugin's notes, and the test that was started and has none."""
    outcomes: dict[str, Outcome] = {}
    current = None
    for line in notes.read_text(encoding="utf-8").splitlines():
        note: dict[str, Any] = json.loads(line)
        if "started" in note:
            current = note["started"]
        else:
            before = outcomes.get(note["test"])
            if before is None or before.outcome != "failed":  # a failed subtest, or a failed body
                outcomes[note["test"]] = Outcome(note["outcome"], note["message"][:1000])
    return outcomes, current if current not in outcomes else None


def run_until_stopped(file: Path, tests: list[str], seconds: float) -> dict[str, Outcome]:
    """Runs the tests in one process until it ends, or until one test has taken `seconds`."""
    with tempfile.TemporaryDirectory() as folder:
        notes, output = Path(folder) / "notes", Path(folder) / "output"
        notes.touch()
        with output.open("wb") as sink:
            process = subprocess.Popen(
                command(*tests),
                cwd=file.parent,
                env=environment(notes),
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        size, since, late = 0, time.monotonic(), False
        while process.poll() is None and not late:
            time.sleep(0.2)
            if notes.stat().st_size != size:
                size, since = notes.stat().st_size, time.monotonic()
            late = time.monotonic() - since > (seconds if size else COLLECTING)
        if late:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        outcomes, current = read_notes(notes)
        if late and current:
            outcomes[current] = Outcome("timed out", f"after {seconds:.0f} s")
        elif current or not outcomes:
            last = (output.read_text(errors="replace").strip() or "no output").splitlines()[-1]
            name = current or tests[0]
            outcomes[name] = Outcome("crashed", f"exit {process.returncode}: {last[:300]}")
        return outcomes


def known_outcomes(report: Path | None, file: Path) -> dict[str, Outcome]:
    """What an earlier run of the file reported."""
    if report is None or not report.exists():
        return {}
    outcomes = json.loads(report.read_text())["outcomes"]
    return {f"{file.name}::{test}": Outcome(*outcome) for test, outcome in outcomes.items()}


def run(
    file: Path, tests: list[str], known: dict[str, Outcome], options: argparse.Namespace
) -> dict[str, Outcome]:
    """All outcomes, by test; the report is written anew after each process."""
    results = dict(known)

    def add(found: dict[str, Outcome]) -> None:
        results.update(found)
        print(f"{file.name}: {len(results)} of {len(tests)}", file=sys.stderr)
        if options.report:
            named = {test.partition("::")[2]: outcome for test, outcome in results.items()}
            content = {"file": file.name, "selected": len(tests), "outcomes": named}
            options.report.write_text(json.dumps(content, indent=1))

    while waiting := [test for test in tests if test not in results]:
        add(run_until_stopped(file, waiting[: options.chunk], options.seconds))
    again = ("crashed", "failed") if options.alone else ("crashed",)
    for test in [test for test in tests if results[test].outcome in again]:
        add(run_until_stopped(file, [test], options.seconds))
    return results


def main() -> None:
    """Runs what the command line names, and prints counts and what did not pass."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("-k", dest="keyword", default="cuda or Cuda", help="pytest's selection of tests")
    parser.add_argument("--chunk", type=int, default=300, help="most tests of a process")
    parser.add_argument("--seconds", type=float, default=60, help="limit of a test")
    parser.add_argument("--alone", action="store_true", help="run what failed again, each in its own process")
    parser.add_argument("--resume", action="store_true", help="keep the outcomes that the report has")
    parser.add_argument("--report", type=Path, help="where to write all outcomes as JSON")
    options = parser.parse_args()
    file = options.file.resolve()
    tests = collect(file, options.keyword)
    known = known_outcomes(options.report, file) if options.resume else {}
    results = run(file, tests, known, options)
    for test, (outcome, message) in sorted(results.items()):
        if outcome not in ("passed", "skipped"):
            print(f"{outcome} {test}: {message.splitlines()[0] if message else ''}")
    counts = collections.Counter(outcome for outcome, _ in results.values())
    ran = sum(counts.values()) - counts["skipped"]
    print(f"{file.name}: {dict(counts)}, {counts['passed'] / max(ran, 1):.1%} of what ran")


if __name__ == "__main__":
    main()
