"""The operator tables of the CANN emulator, and what is made from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from heitu.emulators.cann import tables


@pytest.fixture
def operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three known operators and one table."""
    monkeypatch.setattr(tables, "OPERATORS", tmp_path)
    monkeypatch.setattr(tables, "KNOWN", tmp_path / "known.txt")
    (tmp_path / "known.txt").write_text("aclnnAdd\naclnnNever\n-aclnnHidden\n")
    return tmp_path


def test_a_line_becomes_two_functions(operators: Path) -> None:
    (operators / "some.txt").write_text("aclnnAdd(self, Scalar other, >out) = add.Scalar  # by numbers\n")
    (operator,) = tables.emulated()
    assert (operator.target, operator.call(), operator.results()) == ("aten::add.Scalar", "#0;#1", "2")
    text = tables.generate()["operator_table.cpp"]
    assert "int aclnnAddGetWorkspaceSize(const Tensor* p0, const Scalar* p1, const Tensor* p2, " in text
    assert "prepare(0, workspace, executor, {pack(p0), pack(p1), pack(p2)})" in text


def test_words_say_what_is_called(operators: Path) -> None:
    line = (
        "aclnnAdd(self, dtype dtype, >out, int8 how) = sum(self, dtype=dtype, x=out.dtype, y=self.int64, 1)\n"
    )
    (operators / "some.txt").write_text(line)
    (operator,) = tables.emulated()
    assert operator.call() == "#0;dtype=#1;x=@2;y=^0;1"
    assert "pack_type(p1)" in tables.generate()["operator_table.cpp"]


def test_what_no_line_describes_fails_by_name_or_is_hidden(operators: Path) -> None:
    (operators / "some.txt").write_text("aclnnAdd(self) : kernel\n")
    assert tables.missing() == ["aclnnNever", "aclnnHidden"]
    text = tables.generate()["operator_table.cpp"]
    assert "int aclnnNeverGetWorkspaceSize() { return refuse(1); }" in text
    assert "aclnnHidden" not in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("aclnnAdd self = add", r"some.txt:1: not an operator: aclnnAdd self = add"),
        ("aclnnAdd(long self) = add", r"some.txt:1: unknown kind 'long'"),
        ("aclnnAdd(self) = add\naclnnAdd(self) = sub", "described twice: aclnnAdd"),
    ],
)
def test_a_wrong_line_is_named(operators: Path, line: str, said: str) -> None:
    (operators / "some.txt").write_text(line)
    with pytest.raises(ValueError, match=said):
        tables.emulated()


def test_the_tables_themselves_are_good() -> None:
    names = {operator.name for operator in tables.emulated()}
    known = {name.lstrip("-") for name in tables.KNOWN.read_text("utf-8").split()}
    assert not names - known
    assert len(names) >= 450
