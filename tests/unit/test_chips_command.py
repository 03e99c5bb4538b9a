"""`heitu chips`: the table, one chip, JSON and TOML, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from heitu import chips
from heitu.cli import chips as command
from heitu.errors import ExitCode
from tests.unit.test_chips import WANTED, facts_of, write


def test_the_table_names_every_chip(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    output = capsys.readouterr().out
    lines = {line.split()[0]: line for line in output.splitlines() if line.strip()}
    assert lines.keys() >= WANTED
    assert lines["tencent-zixiao"].count("unknown") == 4
    assert "64 GiB" in lines["ascend-910b3"]
    assert "52+" in lines["br100"]
    assert "\x1b" not in output


def test_the_table_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    monkeypatch.setattr(command, "_console", lambda: Console(width=80))
    command.main([])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    # One line a chip, two of titles, one for each alias.
    assert len(lines) == len(WANTED) + 2 + len(chips.aliases())


def test_one_chip_shows_each_fact_with_its_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["mlu590"])
    output = capsys.readouterr().out
    chip = chips.load("mlu590")
    for fact in facts_of(chip):
        if fact is not None:
            assert f"{fact.kind.value}, {fact.date}: {fact.source}" in output
    assert "also 512 TFLOP/s" in output
    assert "unknown" in output
    assert "804 overloads, torch 2.4.1" in output
    command.main(["s60"])
    assert "not complete" in capsys.readouterr().out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--json"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == WANTED
    assert rows["a100"]["memory_bytes"] == 80 * 2**30
    assert rows["sunrise"]["memory_bytes"] is None
    command.main(["ascend-910b", "--json"])
    chip = json.loads(capsys.readouterr().out)
    assert chip["hardware"]["memory_bytes"]["value"] == 2**36
    assert chip["hardware"]["link_bandwidth"] is None
    assert chip["operators"]["others"]["value"] == "host_fallback"


def test_toml_is_a_start_for_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command.main(["c550", "--toml"])
    path = write(tmp_path, capsys.readouterr().out)
    assert chips.load(path).hardware == chips.load("c550").hardware


def test_exit_codes(tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        words = (sys.executable, "-m", "heitu", "chips", *words)
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.stdout == ""
        return done.returncode, done.stderr

    assert run("ascend-910d") == (
        ExitCode.UNKNOWN_CHIP,
        "heitu: The chip 'ascend-910d' is not in the catalogue.\n"
        "       Close to it: ascend-910c, ascend-910b, ascend-950dt.\n",
    )
    code, said = run(str(write(tmp_path, "title = 3")))
    assert code == ExitCode.CHIP_FILE
    assert said == f"heitu: {tmp_path}/mine.toml: title: 3: expected a text that is not empty.\n"
    assert run("--toml")[0] == ExitCode.USAGE
