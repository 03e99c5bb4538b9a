"""`pytest --chip NAME`: one's own test suite on an emulated chip. pytest finds it by its entry point.

Nothing happens without --chip, but that the marker and the fixtures are known. Workers of pytest-xdist are
processes that inherit the chip; each keeps its own record, and the one that started them tells the sum.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import pytest

if TYPE_CHECKING:
    from heitu.chips import Chip
    from heitu.rehearsal.counting import Rehearsed
    from heitu.rehearsal.session import Session

_SESSION: Session | None = None
MARKER = "chip(*names): the test is for these chips; on others, and without a chip, it is skipped"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a rehearsal."""
    group = parser.getgroup("heitu", "rehearsing the tests on an emulated chip")
    group.addoption("--chip", metavar="NAME", help="a name of `heitu chips`, or a file: ./my-chip.toml")
    group.addoption(
        "--chip-report", metavar="FILE", action="append", default=[], help="write a report, .html or .json"
    )
    group.addoption(
        "--chip-strict", action="store_true", help="an operator that is not native on the chip fails its test"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Brings the device, before any conftest.py imports torch."""
    global _SESSION
    asked = early_config.known_args_namespace
    if asked.chip is None:
        if asked.chip_report or asked.chip_strict:
            raise pytest.UsageError("--chip-report and --chip-strict need --chip")
        return
    from heitu.errors import HeituError
    from heitu.launch.environment import activate_here, inherits_record
    from heitu.rehearsal.ending import check
    from heitu.rehearsal.session import Session
    from heitu.settings import settings

    reports = [Path(report).absolute() for report in asked.chip_report]
    try:
        for report in reports:
            check(report)
        if asked.chip_strict:
            settings.strict = True
        if not inherits_record():  # a worker writes into the record of the process that started it
            settings.chip = asked.chip
            command = ["pytest", *early_config.invocation_params.args]
            _SESSION = Session(command, reports, settings.record)
        activate_here(asked.chip, None)
    except HeituError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", MARKER)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is marked for other chips."""
    from heitu.settings import settings

    here = _canonical(settings.chip) if os.environ.get(type(settings).chip.variable) else None
    for item in items:
        mark = item.get_closest_marker("chip")
        if mark is None:
            continue
        wanted = [_canonical(name) for name in mark.args]
        if here is None or (wanted and here not in wanted):
            found = "there is none (--chip NAME)" if here is None else f"this is {here}"
            names = ", ".join(mark.args) or "any chip"
            item.add_marker(pytest.mark.skip(reason=f"for {names}; {found}"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says what the rehearsal came to, where pytest says its own."""
    if _SESSION is None:
        return
    terminalreporter.section("rehearsal")
    settle = getattr(sys.modules.get("heitu_core"), "settle_record", None)
    if settle is not None:
        settle()
    _SESSION.end(0, stream=cast(TextIO, _Lines(terminalreporter)))


@pytest.fixture
def chip() -> Chip:
    """The chip that the tests run on; the test is skipped where there is none."""
    from heitu.chips import load
    from heitu.settings import settings

    if settings.chip is None:
        pytest.skip("no chip was chosen: pytest --chip NAME")
    return load(settings.chip)


@pytest.fixture
def rehearsal() -> Rehearsed:
    """What the test has run so far, operator → calls: `.native`, `.fallback`, `.refused`, `.unknown`.

    The test is skipped where no chip was chosen.
    """
    from heitu.rehearsal.counting import Rehearsed
    from heitu.rehearsal.process import current_recording

    recording = current_recording()
    if recording is None:
        pytest.skip("no chip was chosen (pytest --chip NAME), or torch is not imported")
    return Rehearsed(recording)


def _canonical(name: str | None) -> str:
    from heitu.chips import load

    assert name is not None
    return load(name).name


class _Lines:
    """A stream that writes to pytest's terminal."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter

    def write(self, text: str) -> None:
        self._reporter.write(text)

    def flush(self) -> None:
        self._reporter.flush()

    def isatty(self) -> bool:
        return bool(self._reporter.isatty)
