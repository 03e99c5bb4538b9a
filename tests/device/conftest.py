"""The order of the device's tests."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What counts every byte and segment of the process comes before anything that leaves some behind."""
    items.sort(key=lambda item: item.path.name != "test_memory.py")
