"""What makers' redirections of CUDA break holds through Heitu, and breaks under the one that runs here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.backings.conftest import Run, start
from tests.backings.vendor_shim_faults import FAULTS

PROGRAM = Path(__file__).parent / "vendor_shim_faults.py"
NAMES = [fault.__name__ for fault in FAULTS]
needs_torch_npu = pytest.mark.skipif(
    importlib.util.find_spec("torch_npu") is None, reason="torch_npu is not installed"
)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A package that torch_npu's redirection wraps, and that raises where it is asked for the device."""
    place = tmp_path / "library"
    (place / "peft" / "utils").mkdir(parents=True)
    for file in ("__init__.py", "utils/__init__.py"):
        (place / "peft" / file).touch()
    (place / "peft" / "utils" / "other.py").write_text("def infer_device():\n    raise LookupError\n")
    (place / "peft-0.5.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: peft\nVersion: 0.5.0\n"
    (place / "peft-0.5.0.dist-info" / "METADATA").write_text(metadata)
    return place


def broken(output: str) -> dict[str, str]:
    """The faults that show in what the program printed."""
    tried = json.loads(output[output.index("{") :])
    assert list(tried) == NAMES
    return {name: said for name, said in tried.items() if said is not None}


def test_there_are_fifteen() -> None:
    assert len(set(NAMES)) == 15


def test_through_heitu_none_shows(heitu: Run, library: Path) -> None:
    assert broken(heitu(str(PROGRAM), sites=(library,)).stdout) == {}


@needs_torch_npu
def test_over_torch_npu_none_shows(library: Path) -> None:
    words = ["--chip", "ascend-910b", "--plugin", str(PROGRAM)]
    assert broken(start(["-m", "heitu", "run", *words], library).stdout) == {}


@needs_torch_npu
def test_under_transfer_to_npu_all_show(library: Path) -> None:
    words = ["--chip", "ascend-910b", "--plugin", "--via", "vendor-shim", str(PROGRAM)]
    assert list(broken(start(["-m", "heitu", "run", *words], library).stdout)) == NAMES
