"""Names of operators in --allow and in chip files."""

from __future__ import annotations

from pathlib import Path

import pytest

from heitu.chips import load, names
from heitu.errors import ExitCode, HeituError
from heitu.rehearsal.operator_names import check_allowed, check_rules


@pytest.mark.parametrize("name", ["isin", "isin.Tensor_Tensor", "aten::isin", "torchvision::nms", "npu::x"])
def test_operators_that_there_are_or_may_be(name: str) -> None:
    check_allowed((name,))


@pytest.mark.parametrize("name", ["isnn", "isin.Tensor", "aten::nosuch"])
def test_an_unknown_operator_is_told_with_close_names(name: str) -> None:
    with pytest.raises(HeituError, match=f"--allow {name}: torch has no such operator") as told:
        check_allowed(("add", name))
    assert told.value.exit_code == ExitCode.USAGE
    if name == "isnn":
        assert "isnan" in (told.value.hint or "")


def test_every_rule_that_ships_is_about_operators_that_there_are() -> None:
    for name in names():
        check_rules(load(name))


def test_a_chip_file_with_a_rule_about_no_operator(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("""
        extends = "h200"
        [sources]
        rack = { text = "our rack", date = 2026-11-01, kind = "measured" }
        [[dtypes]]
        dtype = "float64"
        verdict = "refused"
        operators = ["aten::matmull"]
        from = "rack"
    """)
    with pytest.raises(
        HeituError, match=r"mine\.toml: dtypes, float64: torch has no operator aten::matmull"
    ) as told:
        check_rules(load(path))
    assert told.value.exit_code == ExitCode.CHIP_FILE
    assert "matmul" in (told.value.hint or "")
