"""Programs over chips: each pair rehearsed once, and the table of what that came to."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from heitu.chips import Chip, load, names
from heitu.chips.schema import Integration
from heitu.errors import ExitCode, HeituError
from heitu.launch.environment import absolute
from heitu.rehearsal.report import OperatorRow, Report
from heitu.rehearsal.report import load as load_report
from heitu.rehearsal.rules import Rules

GRACE = 10.0  # seconds that a program has to end after it was told to


@dataclass(frozen=True)
class Program:
    """Something to rehearse.

    Attributes:
        name: its line in the table.
        command: what stands after `heitu run`.
        folder: where it runs.
    """

    name: str
    command: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Finding:
    """An operator of a cell that is not plainly native.

    Attributes:
        verdict: refused, fallback, unknown, narrowed, emulated or stated_no.
        reason: with its source, as the report words it.
        place: of the first call, "model.py:12", or empty.
    """

    verdict: str
    operator: str
    dtypes: tuple[str, ...]
    calls: int
    reason: str
    place: str


@dataclass(frozen=True)
class Cell:
    """One program on one chip.

    Attributes:
        calls: of operators, all verdicts.
        native: of them.
        status: how the program ended; negative: a signal.
        ending: what it ended with, if not well.
    """

    program: str
    chip: str
    status: int
    calls: int
    native: int
    findings: tuple[Finding, ...]
    ending: str

    def operators(self, verdict: str) -> list[str]:
        """Names of the operators with this verdict, each once."""
        return list(dict.fromkeys(one.operator for one in self.findings if one.verdict == verdict))


def read_programs(given: Sequence[str]) -> list[Program]:
    """Programs from scripts (`train.py`), commands in quotes (`"train.py --lr 1"`) and lists (.toml).

    A list has a line for each: name = "command"; commands are run in the folder of the list.

    Raises:
        HeituError: a file is missing or wrong, or two programs have one name.
    """
    programs: list[Program] = []
    for one in given:
        if one.endswith(".toml"):
            programs += _listed(Path(one))
            continue
        words = _words(one, one, Path.cwd())
        name = one if words[0].startswith("-") else " ".join([Path(words[0]).stem, *words[1:]])
        programs.append(Program(name, words, Path.cwd()))
    met: set[str] = set()
    for program in programs:
        if program.name in met:
            raise HeituError(
                f"Two programs are called {program.name}.",
                hint='A list (.toml) names them: "first" = "a/train.py".',
                exit_code=ExitCode.USAGE,
            )
        met.add(program.name)
    return programs


def _words(command: str, said: str, folder: Path) -> tuple[str, ...]:
    """What stands after `heitu run`; `said` is what a message calls it."""
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise HeituError(f"{said}: {error}.", exit_code=ExitCode.USAGE) from None
    if not words or not (words[0].startswith("-") or (folder / words[0]).is_file()):
        raise HeituError(
            f"There is no program {said}.",
            hint='A script, "-m MODULE ..." or "-- COMMAND ..." is expected.',
            exit_code=ExitCode.USAGE,
        )
    return words


def _listed(path: Path) -> Iterator[Program]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeituError(f"{path}: {error}.", exit_code=ExitCode.USAGE) from None
    for name, command in content.items():
        if not isinstance(command, str) or not command.strip():
            raise HeituError(
                f'{path}: {name}: expected a command such as "train.py".', exit_code=ExitCode.USAGE
            )
        folder = path.resolve().parent
        yield Program(name, _words(command, f"{name} ({command}, of {path})", folder), folder)


def kinds(chosen: Sequence[str] | None) -> dict[str, list[str]]:
    """A chip for each set of rules, and all chips that have it: what one does, they all do.

    Memory and peak rates are left out of the comparison: programs of a matrix are small.

    Raises:
        HeituError: no such chip, or no software for it is public.
    """
    grouped: dict[object, list[str]] = {}
    for given in dict.fromkeys(chosen if chosen is not None else names()):
        chip = load(given)
        # A chip of a file is known by the file alone, wherever a program runs.
        name = chip.name if absolute(given) == given else absolute(given)
        integration = chip.software.integration
        if integration is not None and integration.value is Integration.NONE_PUBLIC:
            if chosen is not None:
                raise HeituError(f"No software for {given} is public.", exit_code=ExitCode.UNKNOWN_CHIP)
            continue
        members = grouped.setdefault(_rules_of(chip), [])
        if name not in members:
            members.append(name)
    return {members[0]: members for members in grouped.values()}


def _rules_of(chip: Chip) -> object:
    rules = Rules(chip)
    return (
        rules.same_device,
        rules.own_device,
        None if rules.list is None else rules.list.file,
        rules.others,
        frozenset(rules.on_host),
        tuple((rule.key, rule.verdict.value, rule.to, rule.message) for rule in chip.dtypes),
    )


def run(
    programs: Sequence[Program],
    chips: Sequence[str],
    jobs: int,
    seconds: float,
    done: Callable[[Cell], None],
) -> dict[tuple[str, str], Cell]:
    """Rehearses every program on every chip; `done` is told of each as it ends."""
    cells: dict[tuple[str, str], Cell] = {}
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(_cell, program, chip, seconds) for chip in chips for program in programs]
        try:
            for future in as_completed(waiting):
                cell = future.result()
                cells[cell.program, cell.chip] = cell
                done(cell)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return cells


def _cell(program: Program, chip: str, seconds: float) -> Cell:
    with tempfile.TemporaryDirectory(prefix="heitu-matrix-") as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, "-m", "heitu", "run", "--emulate", "--chip", chip, "--report", str(path)]
        environment = {**os.environ, "HEITU_QUIET": "1"}
        started = subprocess.Popen(
            [*command, *program.command], cwd=program.folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, errors="replace",
        )  # fmt: skip
        try:
            _, said = started.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            _end(started)
            return Cell(program.name, chip, -1, 0, 0, (), f"not done after {seconds:g} s")
        status = started.returncode
        if not path.exists():
            last = said.strip().splitlines()[-1:] or ["it left no report"]
            return Cell(program.name, chip, status or 1, 0, 0, (), last[0])
        return _read(program.name, chip, status, load_report(path), said)


def _end(started: subprocess.Popen[str]) -> None:
    """By a signal that `heitu run` hands on: killed itself, it would leave the program running."""
    started.terminate()
    try:
        started.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()


def _read(name: str, chip: str, status: int, report: Report, said: str) -> Cell:
    findings = [_finding(row, report) for row in report.operators if _is_remarkable(row)]
    ending = "" if report.ending is None else report.ending.what
    if status and not ending:
        ending = (said.strip().splitlines() or [f"status {status}"])[-1]
    calls = sum(row.calls for row in report.operators)
    native = sum(row.calls for row in report.operators if row.verdict == "native")
    return Cell(name, chip, status, calls, native, tuple(findings), ending)


def _is_remarkable(row: OperatorRow) -> bool:
    return row.verdict != "native" or row.dtype_verdict is not None


def _finding(row: OperatorRow, report: Report) -> Finding:
    verdict = row.verdict if row.verdict != "native" else row.dtype_verdict or row.verdict
    place = next((caller.user or caller.site for caller in row.places if caller.user or caller.site), None)
    sources = "; ".join(
        f"{report.evidence[number].source}, {report.evidence[number].date}" for number in row.evidence[:1]
    )
    reason = f"{row.reason} ({sources})" if sources else row.reason
    where = "" if place is None else f"{Path(place.file).name}:{place.line}"
    return Finding(verdict, row.operator, row.dtypes, row.calls, row.message or reason, where)


def to_json(
    cells: Mapping[tuple[str, str], Cell], chips: Mapping[str, list[str]], programs: Sequence[Program]
) -> dict[str, object]:
    """The whole matrix as data."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "chips": dict(chips),
        "programs": {program.name: shlex.join(program.command) for program in programs},
        "cells": [asdict(cells[program.name, chip]) for program in programs for chip in chips],
    }
