"""A record as two ranks of a training leave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.rehearsal.records import write_training


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """The directory of the record."""
    directory = tmp_path / "record"
    directory.mkdir()
    write_training(directory)
    return directory
