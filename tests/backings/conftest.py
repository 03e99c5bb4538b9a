"""Vendors' stand-ins, compiled once, and programs run with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.standins.packages import vendor, write_package
from tests.standins.vendors import VENDORS, Vendor

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", params=[vendor.device for vendor in VENDORS])
def standin(request: pytest.FixtureRequest) -> Vendor:
    """Each vendor in turn."""
    return vendor(request.param)


@pytest.fixture(scope="session")
def site(standin: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with that vendor's package."""
    return write_package(tmp_path_factory.mktemp(standin.device), standin)


@pytest.fixture
def plain(site: Path, tmp_path: Path) -> Run:
    """Runs a program, given as text, with the stand-in installed and without Heitu; it must end well."""

    def run(
        code: str, *arguments: str, ends: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        program = tmp_path / "program.py"
        program.write_text(code)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEITU_")}
        paths = [str(site), os.environ.get("PYTHONPATH", "")]
        kept |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1", **environment}
        done = subprocess.run(
            [sys.executable, *arguments, str(program)], capture_output=True, text=True, env=kept, timeout=300
        )
        assert done.returncode == ends, done.stdout + done.stderr
        return done

    return run
