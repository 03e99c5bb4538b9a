"""What the documents and `heitu chips` say of backings is what their files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heitu.backings.backing import Backing
from heitu.backings.catalogue import backings
from heitu.cli import chips


def row(backing: Backing) -> str:
    visible = f"`{backing.visible_devices[0]}`" if backing.visible_devices else "unknown"
    cells = [
        f"`{backing.name}`", backing.maker, backing.way.value, backing.plugin or "none", backing.device,
        backing.collectives, visible, backing.state.value,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def test_the_table(repository: Path) -> None:
    lines = (repository / "docs" / "backings.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `") and line.count("|") == 9]
    assert [line for line in rows if "HEITU_BACKING" not in line] == [row(backing) for backing in backings()]


def test_one_chip(capsys: pytest.CaptureFixture[str]) -> None:
    chips.main(["mlu590"])
    assert "forwarded over torch_mlu: contract tested, not verified on the plugin" in capsys.readouterr().out
    chips.main(["c500", "--json"])
    assert json.loads(capsys.readouterr().out)["backing"]["way"] == "native"
    chips.main(["tencent-zixiao", "--json"])
    assert json.loads(capsys.readouterr().out)["backing"] is None
