"""`pytest --chip NAME`, as somebody else's suite uses it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest, torch

def test_native(rehearsal):
    x = torch.ones(4, device="cuda")
    assert (x + x).sum().item() == 8
    assert rehearsal.native["aten::add.Tensor"] == 1
    assert not rehearsal.fallback

def test_falls_back(rehearsal, chip):
    x = torch.ones(4, device="cuda")
    torch.nn.functional.huber_loss(x, x)
    assert chip.name == "ascend-910b3"
    assert rehearsal.fallback == {"aten::huber_loss": 1}

@pytest.mark.chip("mtt-s5000")
def test_for_another_chip():
    raise AssertionError("must not run")

@pytest.mark.chip("ascend-910b")
def test_for_this_chip():
    assert torch.cuda.is_available()
"""
PLAIN = """
import sys

def test_untouched():
    import torch
    assert "heitu.device" not in sys.modules
    assert not torch.cuda.is_available()
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    (tmp_path / "test_mine.py").write_text(SUITE)
    return tmp_path


def test_a_suite_on_a_chip(suite: Path) -> None:
    done = run(suite, "--chip", "ascend-910b", "--chip-report", "out.json")
    assert "3 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "for mtt-s5000; this is ascend-910b3" in done.stdout
    summary = done.stdout.split("rehearsal", 1)[1]
    assert "Huawei Ascend 910B3" in summary
    assert "huber_loss: 1 call" in summary
    operators = json.loads((suite / "out.json").read_text())["operators"]
    assert [row["calls"] for row in operators if row["verdict"] == "fallback"] == [1]


def test_strict_fails_the_test_that_falls_back(suite: Path) -> None:
    done = run(suite, "--chip", "ascend-910b", "--chip-strict")
    assert done.returncode == 1
    assert "1 failed, 2 passed, 1 skipped" in done.stdout
    assert "RuntimeError: aten::huber_loss would run on the host" in done.stdout


def test_nothing_happens_without_a_chip(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(PLAIN)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "rehearsal" not in done.stdout


def test_bad_options_are_told_in_a_sentence(suite: Path) -> None:
    unknown = run(suite, "--chip", "ascend-910x")
    assert unknown.returncode == 4
    assert "ERROR: The chip 'ascend-910x' is not in the catalogue." in unknown.stderr
    assert "Traceback" not in unknown.stderr
    assert "--chip-strict need --chip" in run(suite, "--chip-strict").stderr
    assert "nowhere" in run(suite, "--chip", "h200", "--chip-report", "nowhere/out.json").stderr


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_workers_of_xdist_are_summed_up(suite: Path) -> None:
    done = run(suite, "--chip", "ascend-910b", "--chip-report", "out.json", "-n", "2")
    assert "3 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    report = json.loads((suite / "out.json").read_text())
    assert len(report["processes"]) >= 2
    assert sum(row["calls"] for row in report["operators"] if row["operator"] == "aten::huber_loss") == 1
