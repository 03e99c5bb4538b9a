"""Runs the plugin's own tests over the emulated CANN and counts what came of them.

    heitu run --chip ascend-910b --plugin --via plugin -m tests.ascend.plugin_tests FOLDER … [--records FILE]

FOLDER is one of torch_npu's (github.com/Ascend/pytorch, test) or of its operators'
(github.com/Ascend/op-plugin, test). Each file runs in a process of its own, forked from one that has imported
torch_npu; where a test ends that process, or takes longer than a minute, the next one goes on behind it.
"""

# ruff: noqa: N802, N815  (the names are those of unittest)
from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import re
import select
import signal
import sys
import time
import unittest
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

LIMIT = 60  # seconds for one test, and for reading a file
FILE_LIMIT = 240  # seconds for all tests of a file
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

REASONS = (
    ("not emulated: {}", re.compile(r"(?:operator |emulated CANN\] )(\w+) is not emulated")),
    ("not emulated: {}", re.compile(r"(aclnn\w+|graph operator \w+)[^\n]* is not emulated")),
    ("the emulator's kernel: {}", re.compile(r"\[emulated CANN\] (\w+): ")),
    ("needs the module {}", re.compile(r"No module named '(\w+)")),
    (
        "needs a library of CANN's: {}",
        re.compile(r"(lib\w+\.so)[^\n]*(?:not found|No such file|cannot open)"),
    ),
    ("other numbers", re.compile(r"are not close|not equal within|Not equal to tol|Mismatched elements")),
    ("an assertion of the test's", re.compile(r"AssertionError")),
)


@dataclass(frozen=True)
class Record:
    """One test, or a file that could not be read (then `test` is empty)."""

    file: str
    test: str
    outcome: str
    reason: str = ""


def reason_of(text: str) -> str:
    """Why a test failed, in a few words."""
    for words, pattern in REASONS:
        if found := pattern.search(text):
            return words.format(*found.groups())
    lines = [line.strip() for line in text.splitlines() if re.match(r"\s*[\w.]*(Error|Exception)\b", line)]
    return re.sub(r"0x[0-9a-f]+|\d+", "N", lines[-1])[:100] if lines else "unknown"


class Reporter(unittest.TestResult):
    """Sends what comes of each test to the process that counts."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self.pipe = pipe

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.pipe.send((test.id(), "started", ""))

    def _send(self, test: unittest.TestCase, outcome: str, reason: str = "") -> None:
        self.pipe.send((test.id(), outcome, reason))

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._send(test, PASSED)

    def addExpectedFailure(self, test: unittest.TestCase, err: object) -> None:
        self._send(test, PASSED)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._send(test, FAILED, "passed where a failure was expected")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._send(test, SKIPPED, reason[:100])

    def addError(self, test: unittest.TestCase, err: object) -> None:
        self._send(test, FAILED, reason_of(self._exc_info_to_string(err, test)))  # type: ignore[attr-defined]

    addFailure = addError

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: object) -> None:
        if err is not None:
            self.addError(test, err)


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The tests of a suite and of those in it."""
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from tests_of(each)
        else:
            yield each


def run_file(file: Path, done: set[str], pipe: Connection) -> None:
    """Runs the tests of a file but those in `done`; does not return."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.chdir(file.parent)
    sys.path.insert(0, str(file.parent))
    sys.argv = [str(file)]
    try:
        description = importlib.util.spec_from_file_location(file.stem, file)
        assert description is not None
        assert description.loader is not None
        module = importlib.util.module_from_spec(description)
        sys.modules[file.stem] = module
        description.loader.exec_module(module)
        suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    except BaseException as error:
        pipe.send(("", FAILED, reason_of(f"{type(error).__name__}: {error}")))
        os._exit(0)
    reporter = Reporter(pipe)
    for test in tests_of(suite):
        if test.id() not in done:
            with contextlib.redirect_stdout(io.StringIO()):
                test.run(reporter)
    pipe.send(("", "end", ""))
    os._exit(0)


def outcomes(file: Path, name: str) -> Iterator[Record]:
    """What comes of a file's tests; a test that ends its process or does not end has failed."""
    done: set[str] = set()
    until = time.monotonic() + FILE_LIMIT
    while True:
        receiver, sender = Pipe(duplex=False)
        child = os.fork()
        if child == 0:
            receiver.close()
            run_file(file, done, sender)
        sender.close()
        running, ended = "", False
        while True:
            ready, _, _ = select.select([receiver], [], [], LIMIT)
            try:
                test, outcome, reason = receiver.recv() if ready else (running, "", f"takes over {LIMIT} s")
            except EOFError:
                test, outcome, reason = running, "", "ends its process"
            if outcome == "started":
                running = test
                continue
            if outcome == "end":
                ended = True
                break
            if test not in done:
                done.add(test)
                yield Record(name, test, outcome or FAILED, reason)
            ended = not test
            if not outcome or ended:
                break
            running = ""
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        receiver.close()
        if ended or time.monotonic() > until:
            return


def table(records: list[Record]) -> list[str]:
    """Two tables as Markdown: what came of the tests of each folder, and why tests failed."""
    lines = [
        "| folder | files | tests | passed | skipped by themselves | failed |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for folder in sorted({each.file.split("/")[0] for each in records}):
        here = [each for each in records if each.file.split("/")[0] == folder]
        files = len({each.file for each in here})
        counts = Counter(each.outcome for each in here)
        tests = f"{len(here)} | {counts[PASSED]} | {counts[SKIPPED]} | {counts[FAILED]}"
        lines.append(f"| {folder} | {files} | {tests} |")
    lines += ["", "| why a test failed | tests |", "|---|---:|"]
    reasons = Counter(each.reason for each in records if each.outcome == FAILED)
    return lines + [f"| {reason} | {count} |" for reason, count in reasons.most_common()]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of tests, or files")
    parser.add_argument("--records", type=Path, help="a file that gets a line of JSON for each test")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no file after that many")
    asked = parser.parse_args()
    os.environ.setdefault("ASCEND_LAUNCH_BLOCKING", "1")  # a failing kernel is told by its own call
    import torch_npu.testing.testcase  # noqa: F401

    found: list[Record] = []
    until = time.monotonic() + asked.seconds
    for folder in asked.folders:
        for file in sorted(folder.rglob("test_*.py")) if folder.is_dir() else [folder]:
            if time.monotonic() > until:
                break
            for record in outcomes(file.resolve(), str(file.relative_to(folder.parent))):
                found.append(record)
                if asked.records is not None:
                    with asked.records.open("a", encoding="utf-8") as lines:
                        lines.write(json.dumps(asdict(record)) + "\n")
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
