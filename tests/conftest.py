"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def repository() -> Path:
    """The checkout."""
    return REPOSITORY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuses to run the tests of the device without it: they would test plain torch, or nothing."""
    needs_device = any("device" in item.path.relative_to(REPOSITORY / "tests").parts[:1] for item in items)
    if needs_device and os.environ.get("HEITU_ENABLE") != "1":
        raise pytest.UsageError("tests/device run under Heitu: heitu run -m pytest tests/device")
