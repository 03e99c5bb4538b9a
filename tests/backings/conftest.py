"""Vendors' stand-ins, compiled once, and programs run with them."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heitu.backings.catalogue import backings
from tests.standins.packages import vendor, write_package
from tests.standins.vendors import VENDORS, Vendor

# Where torch_npu is installed, `import torch` would load it in this process, where there is no CANN.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


# Not fixtures of the session: where workers share the tests, pytest 9.2 hands on those of the former vendor.
@functools.cache
def package(device: str, folder: Path) -> Path:
    """That vendor's package, written once in a worker."""
    return write_package(folder / device, vendor(device))


# What is compiled or run once for a vendor is so in one worker.
@pytest.fixture(params=[pytest.param(v.device, marks=pytest.mark.xdist_group(v.device)) for v in VENDORS])
def standin(request: pytest.FixtureRequest) -> Vendor:
    """Each vendor in turn."""
    return vendor(request.param)


@pytest.fixture
def site(standin: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with that vendor's package."""
    return package(standin.device, tmp_path_factory.getbasetemp())


def start(
    command: list[str], *sites: Path, ends: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command with these folders before the others of PYTHONPATH; it must end with that code."""
    kept = {name: value for name, value in os.environ.items() if name != "HEITU_ENABLE"}
    paths = [str(site) for site in sites] + [os.environ.get("PYTHONPATH", "")]
    kept |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=kept, timeout=600, check=False
    )
    assert done.returncode == ends, done.stdout + done.stderr
    return done


@pytest.fixture
def plain(site: Path, tmp_path: Path) -> Run:
    """Runs a program, given as text, with the stand-in installed and without Heitu."""

    def run(code: str, *arguments: str, **options: str | int) -> subprocess.CompletedProcess[str]:
        program = tmp_path / "program.py"
        program.write_text(code)
        return start([*arguments, str(program)], site, **options)  # type: ignore[arg-type]

    return run


@pytest.fixture
def heitu(site: Path, standin: Vendor) -> Run:
    """Runs what stands after `heitu run`, with the stand-in in the place of the chip's plugin."""
    name = next(backing.name for backing in backings() if backing.device == standin.device)

    def run(*words: str, sites: tuple[Path, ...] = (), **options: str) -> subprocess.CompletedProcess[str]:
        return start(["-m", "heitu", "run", *words], site, *sites, HEITU_BACKING=name, **options)

    return run
