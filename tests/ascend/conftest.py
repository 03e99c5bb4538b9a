"""Programs over the real torch_npu; where it is not installed, their tests are skipped and say so."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture
def torch_npu() -> None:
    """Skips where the plugin is not."""
    if importlib.util.find_spec("torch_npu") is None:
        pytest.skip("torch_npu is not installed: make test-ascend installs it")
