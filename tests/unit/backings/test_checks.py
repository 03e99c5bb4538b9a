"""What `heitu doctor` says of chips, plugins and Triton."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from heitu.backings.checks import check_chips, check_pairings, check_triton
from heitu.backings.detection import Machine
from heitu.findings import Line, Status
from tests.unit.backings.conftest import FakeMachine

NODE = "/dev/davinci0"
CANN = "/usr/local/Ascend/ascend-toolkit/latest"


def lines(check: Callable[[Machine], Iterator[Line]], fake: FakeMachine) -> list[Line]:
    return list(check(fake.machine()))


def only(check: Callable[[Machine], Iterator[Line]], fake: FakeMachine) -> Line:
    (line,) = lines(check, fake)
    return line


def with_cann(fake: FakeMachine, version: str = "9.1.0") -> None:
    fake.file(
        f"{CANN}/x86_64-linux/ascend_toolkit_install.info", f"package_name=toolkit\nversion={version}\n"
    )
    for library in ("libascendcl.so", "libhccl.so"):
        fake.node(f"{CANN}/lib64/{library}")
    fake.environment["LD_LIBRARY_PATH"] = f"{CANN}/lib64"


def test_nothing_is_here(fake: FakeMachine) -> None:
    assert only(check_chips, fake)[0] is Status.PASS
    assert lines(check_pairings, fake) == lines(check_triton, fake) == []


def test_a_chip_and_its_plugin(fake: FakeMachine) -> None:
    fake.node(NODE)
    fake.plugin("torch_npu")
    fake.tool("npu-smi")
    status, found, _ = only(check_chips, fake)
    assert status is Status.PASS
    assert "torch_npu serves it (verified on the plugin)" in found


def test_a_chip_without_its_plugin(fake: FakeMachine) -> None:
    fake.node(NODE)
    status, found, advice = only(check_chips, fake)
    assert (status, advice) == (Status.FAIL, "pip install --no-deps torch_npu==2.13.0 pyyaml")
    assert "torch_npu is not installed" in found


@pytest.mark.usefixtures("as_a_user")
def test_a_chip_that_may_not_be_opened(fake: FakeMachine) -> None:
    node = fake.node(NODE, mode=0o600)
    fake.plugin("torch_npu")
    assert only(check_chips, fake)[::2] == (Status.FAIL, f"ls -l {node}")


@pytest.mark.parametrize("body", ["exit 3", "exec sleep 60"])
def test_a_chip_that_does_not_answer(fake: FakeMachine, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heitu.backings.checks.TOOL_SECONDS", 1)
    fake.node(NODE)
    fake.plugin("torch_npu")
    fake.tool("npu-smi", body)
    status, found, _ = only(check_chips, fake)
    assert status is Status.FAIL
    assert "npu-smi does not answer" in found


def test_two_chips(fake: FakeMachine) -> None:
    for node, plugin in ((NODE, "torch_npu"), ("/dev/gcu0", "torch_gcu")):
        fake.node(node)
        fake.plugin(plugin)
    *_, (status, found, advice) = lines(check_chips, fake)
    assert status is Status.WARN
    assert "Huawei and Enflame" in found
    assert advice.startswith("export HEITU_BACKING=ascend")


def test_a_plugin_without_a_chip(fake: FakeMachine) -> None:
    fake.plugin("torch_npu")
    status, found, advice = only(check_chips, fake)
    assert status is Status.WARN
    assert "no /dev/davinci" in found
    assert "--plugin" in advice


def test_torch_of_the_maker(fake: FakeMachine) -> None:
    fake.torch("2.10.0+metax3.8.1.0", cuda="11.6")
    fake.node("/dev/mxcd")
    status, found, _ = only(check_chips, fake)
    assert status is Status.PASS
    assert "MetaX" in found


def test_versions_that_belong_together(fake: FakeMachine) -> None:
    fake.torch("2.12.0+cpu")
    fake.plugin("torch_npu", "2.12.0")
    with_cann(fake)
    assert only(check_pairings, fake) == (
        Status.PASS,
        "torch_npu 2.12.0 with torch 2.12.0 and CANN 9.1.0",
        "",
    )


def test_a_plugin_for_another_torch(fake: FakeMachine) -> None:
    fake.torch("2.12.0+cpu")
    fake.plugin("torch_npu", "2.8.0")
    with_cann(fake)
    status, found, advice = only(check_pairings, fake)
    assert status is Status.FAIL
    assert "torch_npu 2.8.0 is for torch 2.8.0, and this is torch 2.12.0" in found
    assert advice == "pip install --no-deps 'torch-npu==2.12.0'"


def test_a_toolkit_of_another_release(fake: FakeMachine) -> None:
    fake.torch("2.12.0+cpu")
    fake.plugin("torch_npu", "2.12.0")
    with_cann(fake, "8.5.0")
    status, found, _ = only(check_pairings, fake)
    assert status is Status.WARN
    assert "CANN 9.1.0, and CANN 8.5.0 is here" in found


def test_a_plugin_of_which_nothing_is_known(fake: FakeMachine) -> None:
    fake.plugin("torch_mlu", "9.9.9")
    status, found, _ = only(check_pairings, fake)
    assert status is Status.WARN
    assert "1.33.1 with torch 2.11.0" in found


def test_a_local_version_counts_where_it_is_known(fake: FakeMachine) -> None:
    fake.torch("2.11.0+cpu")
    fake.plugin("torch_mlu", "1.33.1+torch2.11.0")
    assert only(check_pairings, fake)[0] is Status.PASS


def test_autoload_that_breaks_the_import_of_torch(fake: FakeMachine) -> None:
    fake.plugin("torch_npu", autoloads=True)
    pairing, (status, found, advice) = lines(check_pairings, fake)
    assert pairing[0] is Status.PASS
    assert status is Status.FAIL
    assert "`import torch` itself fails" in found
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in advice
    fake.environment["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    assert lines(check_pairings, fake)[1][0] is Status.WARN


def test_a_toolkit_whose_environment_is_not_set(fake: FakeMachine) -> None:
    fake.plugin("torch_npu", autoloads=True)
    with_cann(fake)
    assert len(lines(check_pairings, fake)) == 1
    fake.environment.clear()
    assert lines(check_pairings, fake)[1][2].startswith(f"source {CANN}/set_env.sh")
    fake.file("/etc/ld.so.conf.d/ascend.conf", f"# CANN\n{CANN}/lib64\n")
    assert len(lines(check_pairings, fake)) == 1


def both_tritons(fake: FakeMachine, last: str) -> Line:
    fake.plugin("torch_npu")
    order = [("triton", "3.5.0", "mainline"), ("triton_ascend", "3.2.1", "ascend")]
    for name, version, text in order if last == "triton_ascend" else reversed(order):
        fake.install(name, version, {"triton/__init__.py": f"# {text}\n"})
    return only(check_triton, fake)


def test_mainline_triton_over_the_makers(fake: FakeMachine) -> None:
    status, found, advice = both_tritons(fake, "triton")
    assert status is Status.FAIL
    assert "triton_ascend 3.2.1 and triton 3.5.0 write into the same folder" in found
    assert advice == "pip install --no-deps --force-reinstall 'triton_ascend==3.2.1'"


def test_the_makers_triton_over_mainline(fake: FakeMachine) -> None:
    assert both_tritons(fake, "triton_ascend")[0] is Status.WARN


def test_the_makers_triton_alone(fake: FakeMachine) -> None:
    fake.plugin("torch_mlu", "1.33.1")
    fake.install("triton", "3.4.0+mlu2.1.1", {"triton/__init__.py": ""})
    assert only(check_triton, fake)[0] is Status.PASS


def test_mainline_triton_in_the_makers_place(fake: FakeMachine) -> None:
    fake.plugin("torch_mlu", "1.33.1")
    fake.install("triton", "3.5.0", {"triton/__init__.py": ""})
    status, found, _ = only(check_triton, fake)
    assert status is Status.WARN
    assert "triton +mlu" in found
