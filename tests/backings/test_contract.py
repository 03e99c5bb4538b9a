"""The same program for cuda, through Heitu, and for the plugin: equal values, and calls of its kernels."""

from __future__ import annotations

import ast
import functools
import json
from pathlib import Path
from typing import Any

import pytest

from heitu.backings.catalogue import backings
from tests.backings.conftest import start
from tests.standins.vendors import Vendor

HERE = Path(__file__).parent
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# Where PyTorch itself goes another way for cuda: an indexed write of a number keeps it on the host.
OTHER_CALLS = {"numbers_written_by_index"}


def checks() -> list[str]:
    """The names in contract.py, which is not imported: it wants a device."""
    tree = ast.parse((HERE / "contract.py").read_text())
    (table,) = (node for node in tree.body if isinstance(node, ast.AnnAssign) and node.target.id == "CHECKS")  # type: ignore[union-attr]
    return [node.id for node in ast.walk(table.value.generators[0].iter) if isinstance(node, ast.Name)]  # type: ignore[union-attr]


@functools.cache
def said_by_both(device: str, plugin: str, site: Path) -> tuple[str, str]:
    name = next(backing.name for backing in backings() if backing.device == device)
    program = str(HERE / "contract.py")
    on_plugin = start([program, device, plugin], site)
    on_cuda = start(["-m", "heitu", "run", program, "cuda", plugin], site, HEITU_BACKING=name)
    return on_plugin.stdout, on_cuda.stdout


@pytest.fixture
def both(standin: Vendor, site: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What contract.py says for the plugin's device, and for cuda."""
    plugin, cuda = said_by_both(standin.device, standin.plugin, site)
    return json.loads(plugin), json.loads(cuda)


@pytest.mark.parametrize("check", checks())
def test_values_and_kernels_are_the_same(both: tuple[dict[str, Any], dict[str, Any]], check: str) -> None:
    plugin, cuda = (said[check] for said in both)
    assert cuda["values"] == plugin["values"]
    assert cuda["leaked"] == []
    if check not in OTHER_CALLS:
        # Memory for labels may be taken once more or less than the plugin takes it.
        for said in (plugin, cuda):
            said["calls"].pop("empty", None)
        assert cuda["calls"] == plugin["calls"]


def test_a_tensor_of_the_plugins_would_be_found(standin: Vendor, site: Path) -> None:
    name = next(backing.name for backing in backings() if backing.device == standin.device)
    words = ["-m", "heitu", "run", str(HERE / "contract.py"), "cuda", standin.plugin, "a_leak"]
    said = json.loads(start(words, site, HEITU_BACKING=name).stdout)
    assert said["a_leak"]["leaked"] == [f"{standin.device}:0"]


def test_nothing_failed(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    plugin, _ = both
    guarded = {name for name in plugin if name.endswith("_are_guarded")}
    failed = {name for name, said in plugin.items() if isinstance(said["values"], str)}
    assert failed == guarded
    for name in guarded:
        assert "modified by an inplace operation" in plugin[name]["values"]


def test_two_processes(standin: Vendor, site: Path) -> None:
    name = next(backing.name for backing in backings() if backing.device == standin.device)
    program = str(HERE / "distributed_contract.py")
    plugin = start([*TORCHRUN, program, standin.device, standin.collective, standin.plugin], site)
    command = ["-m", "heitu", "run", "--", "python", *TORCHRUN, program, "cuda", "nccl", standin.plugin]
    cuda = start(command, site, HEITU_BACKING=name)
    theirs, ours = json.loads(plugin.stdout), json.loads(cuda.stdout)
    assert ours == theirs
    refused = {check for check, said in ours["said"].items() if isinstance(said, str)}
    expected = {"scattered_reductions", "exchanges", "fully_sharded"} if standin.missing else set()
    assert refused == expected
