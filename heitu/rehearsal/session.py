"""The parent's side of a rehearsal: where the record lies, and the program as a child."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TextIO

import heitu
from heitu.errors import ExitCode, HeituError
from heitu.rehearsal import finish
from heitu.settings import settings

# What a terminal or a scheduler sends; the program decides what becomes of it.
_HANDED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Session:
    """The record of one rehearsal, from before the program starts until after it has ended.

    Args:
        reports: files to write at the end, .html or .json.
        keep: where the record stays; None: it is removed at the end.

    Raises:
        HeituError: there is a record in `keep` already (RECORD).
    """

    def __init__(self, command: Sequence[str], reports: Sequence[Path], keep: Path | None = None) -> None:
        self._reports = list(reports)
        self._temporary = keep is None
        if keep is None:
            self.directory = Path(tempfile.mkdtemp(prefix="heitu-record-"))
        else:
            self.directory = _empty(keep)
        self._facts = {
            "version": 1,
            "chip": settings.chip,
            "command": list(command),
            "start": time.time(),
            "heitu": heitu.__version__,
            "dry": settings.dry,
            "devices": settings.devices,
            "end": None,
            "exit": None,
            "directory": os.getcwd(),
        }
        self._note()
        settings.record = self.directory
        settings.enable = True  # by this a process knows that the record is not its own (inherits_record)

    def _note(self) -> None:
        (self.directory / "run.json").write_text(json.dumps(self._facts), encoding="utf-8")

    def end(self, status: int | None, stream: TextIO | None = None) -> None:
        """Says what the rehearsal came to, on stderr where no stream is given, and writes the reports.

        Never raises.
        """
        self._facts |= {"end": time.time(), "exit": status}
        with contextlib.suppress(OSError):  # the record is read without its end
            self._note()
        finish(self.directory, self._reports, quiet=settings.quiet, stream=stream)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)


def _empty(keep: Path) -> Path:
    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = [*keep.glob("run.json"), *keep.glob("*.jsonl")]
    except OSError as error:
        raise HeituError(
            f"The record cannot be kept in {keep}: {error.strerror or error}.", exit_code=ExitCode.RECORD
        ) from None
    if found:
        raise HeituError(
            f"{keep} has the record of another rehearsal.",
            hint="Name an empty directory, or one that is not there, in HEITU_RECORD.",
            exit_code=ExitCode.RECORD,
        )
    return keep


def run(argv: Sequence[str], session: Session) -> int:
    """Runs the program as a child and ends its session. Returns its exit status; negative: a signal's number.

    Ctrl-C reaches the program from the terminal, as it would without us; other signals are handed on.
    """
    # Python ignores these, and what is ignored stays so across exec.
    child = subprocess.Popen(argv, restore_signals=True)

    def hand_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in _HANDED_ON}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    session.end(status)
    return status


def end_as(status: int) -> int:
    """The exit code for the program's status; for a signal, this process ends by it too."""
    if status >= 0:
        return status
    sys.stdout.flush()
    sys.stderr.flush()
    number = -status
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program has left its own core file
    except (ImportError, ValueError, OSError):
        pass
    os.kill(os.getpid(), number)
    return 128 + number


def record_here() -> None:
    """Keeps a record of this very process (a notebook), and says what it came to when the process ends."""
    session = Session(sys.argv or ["python"], [], settings.record)
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:
            session.end(0)

    atexit.register(end)
