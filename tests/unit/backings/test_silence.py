"""What is said of a chip that does not answer."""

from __future__ import annotations

import pytest

from heitu.backings.catalogue import load
from heitu.backings.silence import complaint
from tests.unit.backings.conftest import FakeMachine


def test_a_chip_is_here(fake: FakeMachine) -> None:
    node = fake.node("/dev/davinci0")
    said = complaint(load("ascend"), fake.machine())
    assert said is not None
    assert said.startswith(f"torch_npu sees no device, though {node} is here; does `npu-smi` show it?")


@pytest.mark.parametrize("hidden", ["", "-1", "none"])
def test_devices_that_are_hidden(fake: FakeMachine, hidden: str) -> None:
    fake.environment["CUDA_VISIBLE_DEVICES"] = hidden
    assert complaint(load("ascend"), fake.machine()) is None
    fake.environment["CUDA_VISIBLE_DEVICES"] = "0"
    assert complaint(load("ascend"), fake.machine()) is not None
