"""`heitu report`: text, JSON and HTML of one report and of two, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heitu.cli import report as command
from heitu.errors import ExitCode, HeituError
from heitu.rehearsal.difference import differences
from heitu.rehearsal.report import from_json, load, to_json
from tests.unit.conftest import python
from tests.unit.rehearsal.records import ProcessFiles, write_run, write_training


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The record of the same program where isin is native, a product is refused, and one operator is new."""
    directory = tmp_path / "other"
    directory.mkdir()
    write_run(directory, chip="h200")
    one = ProcessFiles(directory, 1)
    bf16 = "bfloat16"
    one.operator("aten::mm", (bf16, [4, 4]), (bf16, [4, 4]), verdict="refused", why="not_listed", calls=5)
    one.operator("aten::add.Tensor", (bf16, [4]), (bf16, [4]), calls=7)
    one.operator("aten::isin.Tensor_Tensor", ("int64", [4]), ("int64", [4]), calls=9)
    one.operator("aten::new", ("int64", [4]))
    one.save()
    return directory


def test_differences(training: Path, other: Path) -> None:
    found = differences(load(training), load(other))
    assert [(c.operator, c.before, c.after, c.calls_before, c.calls_after) for c in found.changes] == [
        ("aten::mm", "native", "refused", 400, 5),
        ("aten::isin.Tensor_Tensor", "fallback", "native", 24, 9),
        ("vendor::thing", "unknown", "absent", 6, 0),
        ("aten::mm", "refused", "absent", 2, 0),
    ]
    assert (found.same, found.only_before, found.only_after) == (1, 0, 1)
    assert found.changes[1].place is not None
    assert found.changes[1].place.line == 77
    counts = {count.verdict: (count.before, count.after) for count in found.counts}
    assert counts == {"native": (1200, 17), "fallback": (24, 0), "refused": (2, 5), "unknown": (6, 0)}
    assert (found.before.chip, found.after.chip) == ("ascend-910b3", "h200")


def test_a_report_does_not_differ_from_itself(training: Path) -> None:
    found = differences(load(training), load(training))
    assert (found.changes, found.same) == ((), 5)


def test_a_dtype_that_is_narrowed_is_a_difference(training: Path, other: Path) -> None:
    one = ProcessFiles(other, 1)
    one.operator("aten::add.Tensor", ("bfloat16", [4]), ("bfloat16", [4]), dtype_verdict="narrowed")
    one.save()
    changes = {c.operator: (c.before, c.after) for c in differences(load(training), load(other)).changes}
    assert changes["aten::add.Tensor"] == ("native", "narrowed")


def test_show(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["show", str(training)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for words in (
        "Huawei Ascend 910B3",
        "What to change",
        "compute in float32",
        "matrix products",
        "train.py:31",
    ):
        assert words in captured.out
    assert "\x1b" not in captured.out
    assert "--report" not in captured.out


def test_show_json_of_a_record_and_of_a_report(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["show", str(training), "--json"])
    text = capsys.readouterr().out
    assert from_json(text, "x") == load(training)
    (tmp_path / "a.json").write_text(text)
    command.main(["show", str(tmp_path / "a.json"), "--json"])
    assert capsys.readouterr().out == text


def test_html(training: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["show", str(training), "--html", str(tmp_path / "a.html")])
    command.main(["diff", str(training), str(other), "--html", str(tmp_path / "b.html")])
    assert capsys.readouterr().out == ""
    assert "Huawei Ascend 910B3" in (tmp_path / "a.html").read_text()
    assert "NVIDIA H200" in (tmp_path / "b.html").read_text()


def test_diff(training: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["diff", str(training), str(other)]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "isin" in line)
    assert line.split()[:2] == ["fallback", "native"]
    assert "24 → 9" in line
    command.main(["diff", str(training), str(other), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == "heitu-report-difference"
    assert said["changes"][0]["after"] == "refused"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"[1]", "is not a report of Heitu's"),
        (b'{"kind": "heitu-report", "schema": 0}', "version 0"),
        (b'{"kind": "heitu-report", "schema": 2}', "heitu is missing"),
        (b"\xff\xfe", "not text"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_bad_input(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with pytest.raises(HeituError, match=words) as raised:
        command.main(["show", str(file)])
    assert raised.value.exit_code == ExitCode.REPORT
    assert str(file) in raised.value.message


def test_exit_codes(training: Path, tmp_path: Path) -> None:
    cases = {
        ("show", str(tmp_path / "none.json")): ExitCode.REPORT,
        ("show", str(tmp_path / "empty")): ExitCode.RECORD,
        ("show", str(training), "--html", str(tmp_path / "no" / "x.html")): ExitCode.REPORT_PATH,
        ("diff", str(training)): ExitCode.USAGE,
        (): ExitCode.USAGE,
        ("show", str(training), "--json"): ExitCode.OK,
    }
    (tmp_path / "empty").mkdir()
    for args, code in cases.items():
        done = python("-m", "heitu.cli.report", *args)
        assert done.returncode == code, done.stderr
        if code not in (ExitCode.OK, ExitCode.USAGE):
            assert done.stdout == ""
            assert done.stderr.startswith("heitu: ")
            assert "Traceback" not in done.stderr


def test_a_report_of_an_unwritable_version_says_who_wrote_it(training: Path, tmp_path: Path) -> None:
    said = json.loads(to_json(load(training))) | {"schema": 9, "heitu": "9.9"}
    (tmp_path / "new.json").write_text(json.dumps(said))
    with pytest.raises(HeituError, match=r"9\.9"):
        command.main(["diff", str(training), str(tmp_path / "new.json")])


def test_rewriting_a_record_changes_the_report(training: Path) -> None:
    before = load(training)
    write_training(training, exit=1)
    assert load(training).ending != before.ending
