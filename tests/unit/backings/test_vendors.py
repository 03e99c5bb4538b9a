"""The files of makers: each is found, none imports torch, and they agree with the catalogue of chips."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import pytest

from heitu import chips
from heitu.backings.backing import Backing, State, Way
from heitu.backings.catalogue import backing_of, backings, load, names
from heitu.chips.schema import Integration
from heitu.errors import ExitCode, HeituError
from tests.unit.conftest import python

WAYS = {
    Integration.OWN_DEVICE: Way.FORWARDED,
    Integration.CUDA_FORK: Way.NATIVE,
    Integration.UPSTREAM: Way.NATIVE,
    Integration.CUDA_SHIM: Way.SHIM,
}


def test_each_file_has_a_backing_of_its_name(repository: Path) -> None:
    files = {file.stem for file in (repository / "heitu" / "backings" / "vendors").glob("*.py")}
    assert set(names()) == files - {"__init__"}
    assert [backing.name for backing in backings()] == list(names())


def test_an_unknown_one_is_named() -> None:
    with pytest.raises(HeituError, match="no backing 'npu'") as raised:
        load("npu")
    assert raised.value.exit_code is ExitCode.SETTING
    assert "ascend" in str(raised.value.hint)


def test_torch_is_not_imported() -> None:
    code = "import sys, heitu.backings.catalogue as c; c.backings(); print('torch' in sys.modules)"
    assert python("-c", code).stdout == "False\n"


@pytest.mark.parametrize("name", chips.names())
def test_the_catalogue_of_chips_says_the_same(name: str) -> None:
    chip = chips.load(name)
    software = chip.software
    assert software.integration is not None
    backing = backing_of(chip.maker)
    if software.integration.value is Integration.NONE_PUBLIC:
        assert backing is None
        return
    assert backing is not None
    assert backing.way is WAYS[software.integration.value]
    if software.device is not None:
        assert software.device.value == backing.device
    if backing.way is Way.FORWARDED:
        assert software.module is not None
        assert software.module.value == backing.plugin
        assert software.collectives is not None
        assert software.collectives.value.startswith(backing.collectives)
    if software.cuda_shim is not None and backing.shim:
        assert software.cuda_shim.value == backing.shim
    if software.visible_devices is not None:
        assert set(backing.visible_devices) <= set(software.visible_devices.value)
    if software.management_tool is not None:
        assert software.management_tool.value == backing.tools
    if software.device_nodes is not None:
        for pattern in backing.nodes:
            file = pattern.replace("[0-9]*", "0").replace("*", "0")
            assert any(fnmatch.fnmatch(file, known) for known in software.device_nodes.value)


@pytest.mark.parametrize("backing", backings(), ids=lambda backing: backing.name)
def test_what_each_way_needs_is_there(backing: Backing) -> None:
    json.dumps(backing.state.value)
    if backing.way is Way.FORWARDED:
        assert backing.plugin
        assert backing.distribution
        assert backing.install
        assert backing.device != "cuda"
        assert backing.state in (State.VERIFIED, State.CONTRACT)
    else:
        assert not backing.plugin
        assert backing.state is State.RECOGNISED
        assert backing.build.versions or backing.build.fields or backing.build.modules
    assert set(backing.emulated) <= set(chips.names())
    assert bool(backing.emulated) == bool(backing.emulator)
