"""The end of a rehearsal: the summary, and the reports that were asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from heitu.errors import ExitCode, HeituError
from heitu.rehearsal import terminal
from heitu.rehearsal.gathering import gather
from heitu.rehearsal.reading import read
from heitu.rehearsal.report import Report, to_json

SUFFIXES = (".html", ".json")


def end(directory: Path, reports: Sequence[Path], quiet: bool, stream: TextIO) -> None:
    """See `heitu.rehearsal.finish`."""
    try:
        report = gather(read(directory))
    except Exception as error:  # the program has run: nothing of ours may take its place
        _say(stream, f"there is no report: {_sentence(error)}")
        return
    written = []
    for path in reports:
        try:
            write(report, path)
            written.append(path)
        except Exception as error:
            _say(stream, _sentence(error))
    if quiet:
        return
    try:
        width = max(40, min(100, shutil.get_terminal_size().columns)) if stream.isatty() else terminal.WIDTH
        stream.write(terminal.summary(report, written, terminal.wants_color(stream), width))
        stream.flush()
    except Exception as error:
        _say(stream, f"the summary failed: {_sentence(error)}")


def check(path: Path) -> None:
    """Whether a report can be written there, before the program runs.

    Raises:
        HeituError: its suffix is not one of ours (USAGE), or its directory is not there or not writable
            (REPORT_PATH).
    """
    if path.suffix not in SUFFIXES:
        raise HeituError(
            f"{path}: a report is a file with the suffix {' or '.join(SUFFIXES)}.",
            exit_code=ExitCode.USAGE,
        )
    check_place(path)


def check_place(path: Path) -> None:
    """Whether a file can be written there.

    Raises:
        HeituError: its directory is not there or not writable (REPORT_PATH).
    """
    parent = path.parent
    if path.is_dir():
        raise _cannot(path, "it is a directory")
    if not parent.is_dir():
        raise _cannot(path, f"there is no directory {parent}")
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise _cannot(path, "no permission")


def write(report: Report, path: Path) -> None:
    """Writes a report in the form that the suffix says, whole or not at all.

    Raises:
        HeituError: it cannot be written there (REPORT_PATH), or its suffix is not one of ours (USAGE).
    """
    check(path)
    if path.suffix == ".html":
        from heitu.rehearsal.html import to_html

        text = to_html(report)
    else:
        text = to_json(report)
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Under another name first, so that a full disk leaves what was there.

    Raises:
        HeituError: it cannot be written (REPORT_PATH).
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe, which must not be replaced
            path.write_text(text, encoding="utf-8", errors="replace")
            return
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise _cannot(path, error.strerror or str(error)) from None


def _cannot(path: Path, reason: str) -> HeituError:
    return HeituError(
        f"The report {path} cannot be written: {reason}.",
        hint="Name a file in a directory that is there.",
        exit_code=ExitCode.REPORT_PATH,
    )


def _say(stream: TextIO, sentence: str) -> None:
    try:
        stream.write(f"heitu: {sentence}\n")
        stream.flush()
    except (OSError, ValueError):
        pass  # nobody is there to read it


def _sentence(error: Exception) -> str:
    if isinstance(error, HeituError):
        return error.message
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{type(error).__name__}: {error}"
