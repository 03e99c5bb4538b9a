"""Which chip a program runs on."""

from __future__ import annotations

import pytest

from heitu import chips
from heitu.backings.detection import detect, torch_build
from heitu.backings.selection import Asked, Choice, choose
from heitu.errors import ExitCode, HeituError
from tests.unit.backings.conftest import FakeMachine

A_NODE = {
    "ascend": "/dev/davinci0",
    "cambricon": "/dev/cambricon_dev0",
    "moore_threads": "/dev/mtgpu.0",
    "enflame": "/dev/gcu0",
    "biren": "/dev/biren/card_0",
    "sunrise": "/dev/tang0",
}
A_BUILD = {
    "metax": ("2.10.0+metax3.8.1.0", {"cuda": "11.6"}, "/dev/mxcd"),
    "iluvatar": ("2.10.0+corex.4.5.0", {"cuda": "10.2"}, "/dev/iluvatar0"),
    "t_head": ("2.10.0+v0.1.0.ppu2.1.1", {"cuda": "13.0", "sail": "2.1"}, "/dev/alixpu_ppu0"),
    "rocm": ("2.13.0+rocm7.0", {"hip": "7.0"}, "/dev/kfd"),
    "nvidia": ("2.13.0+cu130", {"cuda": "13.0"}, "/dev/nvidia0"),
}


def refused(asked: Asked, fake: FakeMachine) -> HeituError:
    with pytest.raises(HeituError) as raised:
        choose(asked, fake.machine())
    return raised.value


def name(choice: Choice) -> str | None:
    return None if choice.backing is None else choice.backing.name


def test_no_chip_and_no_plugin_is_the_emulated_device(fake: FakeMachine) -> None:
    assert choose(Asked(), fake.machine()) == Choice(None)


@pytest.mark.parametrize(("backing", "node"), A_NODE.items())
def test_the_chip_that_is_present_is_chosen(fake: FakeMachine, backing: str, node: str) -> None:
    fake.node(node)
    found = next(p for p in detect(fake.machine()) if p.is_present)
    assert found.backing.name == backing
    fake.plugin(found.backing.plugin)
    assert name(choose(Asked(), fake.machine())) == backing


def test_a_tool_stands_for_device_files_that_are_not_known(fake: FakeMachine) -> None:
    fake.tool("tsm_smi")
    fake.plugin("torch_txda")
    assert name(choose(Asked(), fake.machine())) == "tsingmicro"


@pytest.mark.parametrize(("backing", "build"), A_BUILD.items())
def test_a_build_of_torch_for_the_chip_is_left_alone(
    fake: FakeMachine, backing: str, build: tuple[str, dict[str, str], str]
) -> None:
    version, fields, node = build
    fake.torch(version, **fields)
    fake.node(node)
    choice = choose(Asked(), fake.machine())
    assert name(choice) == backing
    assert choice.backing is not None
    assert choice.backing.is_inert


def test_kunlunxin_is_told_from_nvidia(fake: FakeMachine) -> None:
    fake.torch("2.9.0+cu129", cuda="12.9")
    fake.node("/dev/xpu0")
    fake.node("/dev/nvidia0")
    fake.install("xmlir", "1.0.0.1", {"torch_xmlir/__init__.py": ""})
    found = torch_build(fake.machine())
    assert found is not None
    assert found.backing.name == "kunlunxin"


def test_an_nvidia_card_beside_a_cpu_build_of_torch_is_not_used(fake: FakeMachine) -> None:
    fake.node("/dev/nvidia0")
    assert name(choose(Asked(), fake.machine())) is None
    assert name(choose(Asked(chips.load("a100")), fake.machine())) is None


def test_two_chips(fake: FakeMachine) -> None:
    for node, plugin in (("/dev/davinci0", "torch_npu"), ("/dev/cambricon_dev0", "torch_mlu")):
        fake.node(node)
        fake.plugin(plugin)
    error = refused(Asked(), fake)
    assert error.exit_code is ExitCode.CHIPS_PRESENT
    assert "Huawei" in error.message
    assert "Cambricon" in error.message
    assert "/dev/cambricon_dev0" in error.message
    assert "HEITU_BACKING=ascend" in str(error.hint)
    assert name(choose(Asked(backing="cambricon"), fake.machine())) == "cambricon"
    assert name(choose(Asked(chips.load("mlu590")), fake.machine())) == "cambricon"
    assert choose(Asked(emulate=True), fake.machine()) == Choice(None)
    assert choose(Asked(backing="emulated"), fake.machine()) == Choice(None)


def test_of_two_chips_the_one_with_a_plugin_is_chosen(fake: FakeMachine) -> None:
    fake.node("/dev/davinci0")
    fake.node("/dev/cambricon_dev0")
    fake.plugin("torch_mlu")
    assert name(choose(Asked(), fake.machine())) == "cambricon"


def test_a_chip_without_its_plugin(fake: FakeMachine) -> None:
    fake.node("/dev/davinci0")
    error = refused(Asked(), fake)
    assert error.exit_code is ExitCode.PLUGIN_UNUSABLE
    assert "/dev/davinci0" in error.message
    assert "torch_npu==2.13.0" in str(error.hint)
    assert "--emulate" in str(error.hint)


@pytest.mark.usefixtures("as_a_user")
def test_a_chip_that_may_not_be_opened(fake: FakeMachine) -> None:
    fake.plugin("torch_npu")
    node = fake.node("/dev/davinci0", mode=0o600)
    error = refused(Asked(), fake)
    assert error.exit_code is ExitCode.CHIP_CLOSED
    assert str(node) in error.message
    fake.node("/dev/davinci1")  # one that may be is enough
    assert name(choose(Asked(), fake.machine())) == "ascend"


def test_a_plugin_without_a_chip_is_said(fake: FakeMachine) -> None:
    fake.plugin("torch_npu")
    choice = choose(Asked(), fake.machine())
    assert choice.backing is None
    assert "torch_npu is installed" in str(choice.note)
    assert "/dev/davinci" in str(choice.note)


def test_a_chip_by_name_is_used_where_it_is_and_rehearsed_elsewhere(fake: FakeMachine) -> None:
    assert name(choose(Asked(chips.load("ascend-910b")), fake.machine())) is None
    fake.node("/dev/davinci0")
    fake.plugin("torch_npu")
    assert name(choose(Asked(chips.load("ascend-910b")), fake.machine())) == "ascend"
    assert name(choose(Asked(chips.load("mlu590")), fake.machine())) is None


def test_a_backing_by_name_needs_no_device_file(fake: FakeMachine) -> None:
    assert refused(Asked(backing="cambricon"), fake).exit_code is ExitCode.PLUGIN_UNUSABLE
    fake.plugin("torch_mlu")
    choice = choose(Asked(backing="cambricon"), fake.machine())
    assert name(choice) == "cambricon"
    assert "/dev/cambricon_dev" in str(choice.note)


def test_the_plugin_over_an_emulator(fake: FakeMachine) -> None:
    ascend, mlu = chips.load("ascend-910b"), chips.load("mlu590")
    assert refused(Asked(plugin=True), fake).exit_code is ExitCode.USAGE
    error = refused(Asked(mlu, plugin=True), fake)
    assert error.exit_code is ExitCode.EMULATOR_MISSING
    assert "heitu run --chip mlu590" in str(error.hint)
    error = refused(Asked(ascend, plugin=True), fake)
    assert error.exit_code is ExitCode.PLUGIN_UNUSABLE
    assert "pip install --no-deps torch_npu==2.13.0" in str(error.hint)
    fake.plugin("torch_npu")
    choice = choose(Asked(ascend, plugin=True), fake.machine())
    assert (name(choice), choice.over_emulator, choice.via) == ("ascend", True, None)


def test_the_makers_own_redirection(fake: FakeMachine) -> None:
    assert refused(Asked(via="vendor-shim"), fake).exit_code is ExitCode.USAGE
    fake.plugin("torch_mlu")
    fake.plugin("torch_ptpu")
    for via in ("vendor-shim", "plugin"):
        assert choose(Asked(backing="cambricon", via=via), fake.machine()).via == via
    assert choose(Asked(backing="sunrise", via="plugin"), fake.machine()).via == "plugin"
    error = refused(Asked(backing="sunrise", via="vendor-shim"), fake)
    assert "Sunrise" in error.message
