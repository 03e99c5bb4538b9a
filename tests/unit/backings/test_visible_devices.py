"""CUDA_VISIBLE_DEVICES and the makers' variables."""

from __future__ import annotations

import pytest

from heitu.backings.catalogue import load
from heitu.backings.visible_devices import agree
from heitu.errors import ExitCode, HeituError

MLU, CUDA = "MLU_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"


def agreed(name: str = "cambricon", **environment: str) -> dict[str, str]:
    agree(load(name), environment)
    return environment


def test_neither_is_set() -> None:
    assert agreed() == {}


@pytest.mark.parametrize("given", [CUDA, MLU])
def test_one_is_carried_over_to_the_other(given: str) -> None:
    found = agreed(**{given: "2,0"})
    assert found[CUDA] == found[MLU] == "2,0"


def test_both_say_the_same() -> None:
    assert agreed(CUDA_VISIBLE_DEVICES="0, 1", MLU_VISIBLE_DEVICES="0,1")[MLU] == "0,1"


def test_they_contradict_each_other() -> None:
    with pytest.raises(HeituError, match="CUDA_VISIBLE_DEVICES=0 and MLU_VISIBLE_DEVICES=1") as raised:
        agreed(CUDA_VISIBLE_DEVICES="0", MLU_VISIBLE_DEVICES="1")
    assert raised.value.exit_code is ExitCode.DEVICES


@pytest.mark.parametrize("changed", [CUDA, MLU])
def test_a_child_that_is_given_another_device(changed: str) -> None:
    child = agreed(CUDA_VISIBLE_DEVICES="0,1")
    child[changed] = "1"
    assert agree(load("cambricon"), child) is None
    assert child[CUDA] == child[MLU] == "1"


def test_a_child_that_has_lost_one() -> None:
    child = agreed(CUDA_VISIBLE_DEVICES="3")
    del child[CUDA]
    agree(load("cambricon"), child)
    assert child[CUDA] == "3"


@pytest.mark.parametrize(("asked", "given"), [("", ""), ("-1", ""), ("0,-1,1", "0"), ("1,x", "1")])
def test_the_list_ends_where_cuda_ends_it(asked: str, given: str) -> None:
    assert agreed(CUDA_VISIBLE_DEVICES=asked)[MLU] == given


def test_a_uuid_is_refused() -> None:
    with pytest.raises(HeituError, match="GPU-1234") as raised:
        agreed(CUDA_VISIBLE_DEVICES="GPU-1234")
    assert raised.value.exit_code is ExitCode.DEVICES


def test_a_maker_without_a_variable_is_said() -> None:
    environment = {CUDA: "0"}
    assert "Biren" in str(agree(load("biren"), environment))
    assert environment == {CUDA: "0"}
    assert agree(load("biren"), {}) is None


def test_a_maker_that_heeds_cudas() -> None:
    assert agreed("nvidia", CUDA_VISIBLE_DEVICES="GPU-1234") == {CUDA: "GPU-1234"}
    assert agreed("metax", CUDA_VISIBLE_DEVICES="1")["MACA_VISIBLE_DEVICES"] == "1"
