"""HEITU_RECORD: a directory in which the record of a rehearsal stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from heitu.errors import ExitCode

ADD = 'import torch; (torch.ones(4, device="cuda") + 1).sum().item()'
NESTED = """
import subprocess, sys
heitu = [sys.executable, "-m", "heitu", "run", "--chip", "ascend-910b"]
subprocess.run([*heitu, "-c", "import torch; torch.ones(4, device='cuda')"])
"""


def heitu(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "heitu", *words]
    told = {**os.environ, **environment}
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=240, check=False)


def test_the_record_stays_in_a_directory_that_the_user_names(tmp_path: Path) -> None:
    kept = tmp_path / "a" / "record"
    environment = {"HEITU_CHIP": "ascend-910b", "HEITU_RECORD": str(kept)}
    done = heitu("run", "-c", ADD, **environment)
    assert "heitu: Huawei Ascend 910B3" in done.stderr, done.stderr
    shown = heitu("report", "show", str(kept))
    assert "not read" not in shown.stdout, shown.stdout
    assert "aten::add" in shown.stdout
    again = heitu("run", "-c", ADD, **environment)
    assert again.returncode == ExitCode.RECORD
    assert "has the record of another rehearsal" in again.stderr


def test_a_rehearsal_inside_another_leaves_the_record_to_it() -> None:
    done = heitu("run", "--chip", "ascend-910b", "-c", NESTED)
    assert done.stderr.count("emulated on the CPU") == 1, done.stderr
