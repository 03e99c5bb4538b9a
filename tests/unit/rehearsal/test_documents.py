"""Remarks from the maker's documents."""

from __future__ import annotations

import pytest

from heitu.chips import load
from heitu.rehearsal.documents import documented, operator_of
from heitu.rehearsal.report import Documented, OperatorRow


def row(operator: str, *dtypes: str, verdict: str = "native") -> OperatorRow:
    return OperatorRow(
        operator=operator, phase="forward", verdict=verdict, dtypes=dtypes, dtype_verdict=None, why="listed",
        reason="", message="", evidence=(), calls=1, replays=0, ns=1, share=1.0, max_ns=1, bytes_in=0,
        bytes_out=0, shapes=(), distinct_shapes=0, places=(), distinct_places=0, flops=None, seconds=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("api", "operator"),
    [
        ("torch.nn.functional.hardswish", "hardswish"),
        ("torch.linalg.lstsq", "linalg_lstsq"),
        ("torch.fft.ihfft2", "fft_ihfft2"),
        ("torch.scatter", "scatter"),
        ("torch.nn.HuberLoss", ""),
        ("torch.func.vmap", ""),
    ],
)
def test_the_operator_of_an_api(api: str, operator: str) -> None:
    assert operator_of(api) == operator


def test_what_is_said_outright_is_passed_on() -> None:
    rows = [row("aten::hardswish.out", "float32"), row("aten::mm", "bfloat16"), row("shop::trunc", "float32")]
    assert documented(rows, load("ascend-910b")) == (
        Documented("aten::hardswish.out", "torch.nn.functional.hardswish", "fallback_noted", ()),
    )


def test_dtypes_of_a_statement_are_those_that_were_used() -> None:
    said = documented([row("aten::soft_margin_loss", "float64", "float32")], load("ascend-910b"))
    assert [one.dtypes for one in said] == [("float64",)]
    assert not documented([row("aten::soft_margin_loss", "float32")], load("ascend-910b"))


def test_other_verdicts_and_other_chips_have_none() -> None:
    assert not documented([row("aten::hardswish", verdict="fallback")], load("ascend-910b"))
    assert not documented([row("aten::hardswish")], load("h200"))
