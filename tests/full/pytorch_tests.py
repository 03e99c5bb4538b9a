"""Runs one file of PyTorch's own tests on the emulated device, in chunks, so that a crash has a name.

    heitu run -m tests.full.pytorch_tests /src/pytorch/test/test_cuda.py -k TestCuda --report cuda.json

The file comes from a checkout of PyTorch of about the installed release; its neighbours (expected outputs,
helper modules) must lie beside it. A test that ends its process, or outlasts the limit, is run again alone,
and only then counted as a crash.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

Results = dict[str, tuple[str, str]]  # test -> (outcome, the last line of its message)


def pytest(arguments: list[str], file: Path, limit: float) -> subprocess.CompletedProcess[str]:
    """Runs pytest beside the file, for at most `limit` seconds."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTORCH_TESTING_DEVICE_ONLY_FOR": "cuda"}
    try:
        return subprocess.run(
            command,
            cwd=file.parent,
            env=environment,
            timeout=limit,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, -1, "", f"ran past {limit:.0f} s")


def collect(file: Path, keyword: str) -> list[str]:
    """The names of the file's tests that the keyword selects."""
    finished = pytest(["--collect-only", "-k", keyword, file.name], file, 600)
    tests = [line for line in finished.stdout.splitlines() if line.startswith(f"{file.name}::")]
    if not tests:
        raise SystemExit(
            f"no tests of {file} match {keyword!r}:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}"
        )
    return tests


def outcomes(report: Path) -> Results:
    """What a report in JUnit's format says."""
    results: Results = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}"
        outcome, message = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = "skipped" if child.tag == "skipped" else "failed"
                message = (child.get("message") or "").strip().split("\n")[0]
        results[name] = outcome, message[:300]
    return results


def run(file: Path, tests: list[str], seconds: float) -> Results:
    """Runs the tests in one process; those of a process that died, each in its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        finished = pytest([f"--junitxml={report}", *tests], file, seconds * (3 + len(tests) / 4))
        if report.exists():
            return outcomes(report)
    if len(tests) == 1:
        last = (finished.stderr.strip() or finished.stdout.strip() or "no output").splitlines()[-1]
        return {tests[0].partition("::")[2]: ("crashed", f"exit {finished.returncode}: {last[:300]}")}
    results: Results = {}
    for test in tests:
        results |= run(file, [test], seconds)
    return results


def main() -> None:
    """Runs what the command line names, and prints counts and what did not pass."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("-k", dest="keyword", default="cuda or Cuda", help="pytest's selection of tests")
    parser.add_argument("--chunk", type=int, default=40, help="tests a process")
    parser.add_argument("--seconds", type=float, default=60, help="limit of a lone test")
    parser.add_argument("--report", type=Path, help="where to write all outcomes as JSON")
    options = parser.parse_args()
    file = options.file.resolve()
    tests = collect(file, options.keyword)
    results: Results = {}
    for start in range(0, len(tests), options.chunk):
        results |= run(file, tests[start : start + options.chunk], options.seconds)
        print(f"{len(results)} of {len(tests)}", file=sys.stderr)
        if options.report:
            options.report.write_text(json.dumps(results, indent=1))
    for test, (outcome, message) in sorted(results.items()):
        if outcome in ("failed", "crashed"):
            print(f"{outcome} {test}: {message}")
    counts = collections.Counter(outcome for outcome, _ in results.values())
    ran = counts["passed"] + counts["failed"] + counts["crashed"]
    print(f"{file.name}: {dict(counts)}, {counts['passed'] / max(ran, 1):.1%} of what ran")


if __name__ == "__main__":
    main()
