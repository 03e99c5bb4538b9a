"""Kernels in the record and in the report: launches, verdicts, what to change, and how it is shown."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from heitu.rehearsal import launches, terminal
from heitu.rehearsal.difference import differences
from heitu.rehearsal.html import to_html
from heitu.rehearsal.launches import LaunchCounts
from heitu.rehearsal.report import KernelRow, Report, from_json, load, to_json
from heitu.rehearsal.tables import report_text
from tests.unit.rehearsal.records import ProcessFiles, write_run

FILE = "/home/ann/project/kernels.py"


def finding(rule: str, line: int = 5) -> dict[str, Any]:
    change = "Pass a tensor of torch.float32."
    return {"rule": rule, "what": f"No {rule}.", "change": change, "file": FILE, "line": line, "column": 9}


def report_of(directory: Path) -> Report:
    """Two processes launch one kernel; others are tuned, refused, unknown, and launched too wide."""
    write_run(directory)
    for pid in (7, 8):
        one = ProcessFiles(directory, pid)
        one.kernel("softmax", 10 * pid, required=1024)
        if pid == 7:
            one.kernel("tuned", verdict="refused", required=400000, findings=[finding("memory")])
            one.kernel("tuned", 5)
            one.kernel("tuned", 6, required=8192)
            one.kernel("wide", verdict="refused", findings=[finding("dtype"), finding("dtype", 6)])
            one.kernel("asks", 1, verdict="unknown", unknown=["erf fp32", "dot int8"])
            one.kernel("long", 2)
            one.kernel("long", 0, verdict="refused", findings=[finding("grid", 3)])
        one.save()
    return load(directory)


def row(report: Report, name: str, verdict: str) -> KernelRow:
    (found,) = (one for one in report.kernels if (one.name, one.verdict) == (name, verdict))
    return found


def test_rows(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    assert row(report, "softmax", "native").launches == 150
    tuned = row(report, "tuned", "native")
    assert (tuned.launches, tuned.variants, tuned.required) == (11, 2, 8192)
    assert tuned.defined is not None
    assert (tuned.defined.file, tuned.defined.line) == ("kernels.py", 3)
    assert row(report, "wide", "refused").findings[1].at == type(tuned.defined)("kernels.py", 6, "wide")
    assert [one.verdict for one in report.kernels] == ["refused"] * 3 + ["unknown"] + ["native"] * 3


def test_each_verdict_has_its_evidence(tmp_path: Path) -> None:
    report = report_of(tmp_path)

    def facts(name: str, verdict: str) -> set[str]:
        return {report.evidence[number].fact for number in row(report, name, verdict).evidence}

    assert facts("wide", "refused") == {"kernels.triton_dtypes", "limits.on_chip_memory"}
    assert facts("tuned", "refused") == {"limits.on_chip_memory"}
    assert facts("long", "refused") == {"limits.grid_programs", "limits.on_chip_memory"}


def test_advice_leaves_out_what_a_tuner_passed_over(tmp_path: Path) -> None:
    said = [(one.subject, one.suggestion) for one in report_of(tmp_path).advice]
    assert said == [
        ("kernel long: grid", "pass a tensor of torch.float32"),
        ("kernel wide: dtype", "pass a tensor of torch.float32"),
        ("kernel wide: dtype", "pass a tensor of torch.float32"),
    ]


def test_what_a_terminal_and_a_page_show(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    summary = terminal.summary(report, None, color=False, width=100)
    assert "kernels  5 kernels, 164 launches: 3 refused, 1 unknown, 3 native" in summary
    assert terminal.on_chip_memory(row(report, "softmax", "native")) == "1 KiB of 192 KiB"
    assert terminal.why(row(report, "asks", "unknown")) == "nothing certain is known of erf fp32, dot int8"
    assert "No dtype. Pass a tensor" in terminal.why(row(report, "wide", "refused"))
    assert any("Kernels" in str(part) for part in report_text(report))
    page = to_html(report)
    assert "<h2>Kernels</h2>" in page
    assert "391 KiB of 192 KiB" in page


def test_what_is_different_between_two_reports(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    before = report_of(tmp_path / "before")
    write_run(tmp_path / "after")
    one = ProcessFiles(tmp_path / "after", 9)
    for name in ("softmax", "tuned", "wide", "long"):
        one.kernel(name, 3)
    one.kernel("asks", 1, verdict="unknown", unknown=["erf fp32"])
    one.save()
    changes = differences(before, load(tmp_path / "after")).changes
    assert [(one.operator, one.before, one.after, one.reason) for one in changes] == [
        ("kernel long", "refused", "native", "No grid."),
        ("kernel wide", "refused", "native", "No dtype."),
    ]
    assert (changes[1].calls_before, changes[1].calls_after) == (0, 3)


def test_there_and_back(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    assert from_json(to_json(report), "report.json") == report


def test_launches_are_counted_where_they_are_read(tmp_path: Path) -> None:
    counts = LaunchCounts(tmp_path / "7.launches")
    assert not (tmp_path / "7.launches").exists()  # a program without kernels has none
    places = [counts.slot() for _ in range(3)]
    assert [number for number, _ in places] == [0, 1, 2]
    ctypes.c_uint64.from_address(places[1][1]).value = 41
    assert launches.read(tmp_path / "7.launches")[:3] == (0, 41, 0)


def test_where_nothing_can_be_written_nothing_is_counted(tmp_path: Path) -> None:
    assert LaunchCounts(tmp_path / "missing" / "7.launches").slot() == (None, 0)
    assert launches.read(tmp_path / "missing" / "7.launches") == ()
    (tmp_path / "cut").write_bytes(b"\1" + bytes(10))
    assert launches.read(tmp_path / "cut") == (1,)
