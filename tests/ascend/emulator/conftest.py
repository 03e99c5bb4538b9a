"""torch_npu over the emulator, in the process that runs the tests; without the plugin they are skipped."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

AVAILABLE = importlib.util.find_spec("torch_npu") is not None and os.environ.get("HEITU_ENABLE") != "1"
collect_ignore_glob = [] if AVAILABLE else ["test_*.py"]

if AVAILABLE:
    # The plugin must not be imported with torch: the emulator comes first.
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    # A failing kernel is told by the call that failed, and the next test finds the queue as new.
    os.environ.setdefault("ASCEND_LAUNCH_BLOCKING", "1")


@pytest.fixture(scope="session", autouse=True)
def npu() -> None:
    """The emulated device."""
    if not AVAILABLE:
        pytest.skip("torch_npu is not installed, or Heitu's own device is on")
    from heitu.emulators import cann

    cann.activate()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plugin's own
        import torch
        import torch_npu  # noqa: F401

    torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many of CANN's operators were compared with the CPU."""
    if "tests.ascend.emulator.comparing" in sys.modules:
        from heitu.emulators import cann
        from tests.ascend.emulator.comparing import COMPARED

        emulated = {operator.name for operator in cann.emulated()}
        known = len(emulated) + len(cann.missing())
        terminalreporter.write_line(
            f"{len(COMPARED & emulated)} operators of CANN gave what the CPU gives, "
            f"of {len(emulated)} that are emulated and {known} that torch_npu knows"
        )


@pytest.fixture
def falsify() -> Iterator[Callable[[str, float], None]]:
    """Falsifies an operator's results until the test ends."""
    from heitu.emulators.cann import activation

    yield activation.falsify
    activation.falsify("", 1)


def run_program(text: str, processes: int = 1, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of its own over the emulator, without blocking launches."""
    begin = "from heitu.emulators import cann\ncann.activate()\nimport torch, torch_npu\n"
    script = begin + textwrap.dedent(text)
    variables = {**os.environ, "ASCEND_LAUNCH_BLOCKING": "0", "OMP_NUM_THREADS": "1", **environment}
    variables["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *sys.path])
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(script)
        return subprocess.run(
            [sys.executable, *launcher, str(program)],
            cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
