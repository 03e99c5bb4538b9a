"""The end of a run: eight lines, and files that are written or said not to be."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from heitu.errors import ExitCode, HeituError
from heitu.rehearsal import ending, finish, terminal
from heitu.rehearsal.report import load
from tests.unit.rehearsal.records import GIB, ProcessFiles, write_run, write_training


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(directory: Path, *reports: Path, quiet: bool = False) -> str:
    stream = io.StringIO()
    finish(directory, reports, quiet, stream)
    return stream.getvalue()


def test_the_summary(training: Path) -> None:
    assert said(training).splitlines() == [
        "heitu: Huawei Ascend 910B3, emulated on the CPU, 2 processes, 12.5 s",
        "  of time  82% native (1,200), 18% fallback (24), refused (2), <0.1% unknown (6)",
        "  refused  aten::mm float64: 2 calls at rotary.py:12",
        "  fallback aten::isin.Tensor_Tensor: 24 calls, 216 MiB copied at data.py:77",
        "  unknown  vendor::thing: 6 calls",
        "  peak     12 GiB of the 64 GiB of device memory (19%)",
        "  estimate a step takes about 19 ms on the chip (4.9 ms to 40 ms)",
        "  report   in full with heitu run --report FILE.html",
    ]


def test_an_estimate_of_launches_is_called_so(tmp_path: Path) -> None:
    directory = tmp_path / "record"
    directory.mkdir()
    write_run(directory)
    one = ProcessFiles(directory, 100)
    one.operator("aten::add.Tensor", ("float32", [4]), calls=1000, bytes_in=16000, bytes_out=16000)
    one.save()
    line = next(line for line in said(directory).splitlines() if line.startswith("  estimate"))
    assert line == "  estimate the whole run takes about 5 ms, launch-bound (2 ms to 20 ms)"


def test_at_most_eight_lines_of_80_columns(training: Path) -> None:
    """With long names, many verdicts, and an end by a signal."""
    write_training(training, exit=-9, chip="tencent-zixiao", command=["a" * 200])
    one = ProcessFiles(training, 200)
    long = "/home/ann/project/" + "deep/" * 40 + "file.py"
    for verdict in ("refused", "fallback", "unknown"):
        why = "not_listed"
        one.operator("aten::" + "long" * 40, verdict=verdict, why=why, calls=10**9, user=[long, 7, "f"])
    one.say(event="exception", type="RuntimeError", message="no\x1b[31m " * 50, user=[long, 8, "f"])
    one.save()
    lines = said(training, training / "out.json").splitlines()
    assert len(lines) <= terminal.LINES
    assert max(map(len, lines)) <= terminal.WIDTH or all(
        len(line) <= terminal.WIDTH for line in lines if "out.json" not in line
    )
    assert "\x1b" not in "".join(lines)
    ended = next(line for line in lines if line.startswith("  ended"))
    assert ended.endswith("file.py:8")


def test_colour_only_for_a_terminal_that_wants_it(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    finish(training, [], stream=stream)
    assert "\x1b[31mrefused" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    finish(training, [], stream=stream)
    assert "\x1b" not in stream.getvalue()


def test_a_program_that_used_no_device(tmp_path: Path) -> None:
    write_run(tmp_path)
    lines = said(tmp_path).splitlines()
    assert lines[1] == "  calls    no operator reached the device"
    assert "0 processes" in lines[0]


def test_a_dry_run_has_no_times(training: Path) -> None:
    write_training(training, dry=True)
    text = said(training)
    assert "without data" in text
    assert "  calls    1,200 native, 24 fallback, 2 refused, 6 unknown" in text


def test_no_number_is_said_to_be_none(training: Path) -> None:
    write_training(training, chip="mlu590")
    text = said(training)
    assert "estimate a step takes over" in text


def test_reports_are_written(training: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    text = said(training, out, page)
    assert f"report   {out}, {page}" in text or "…" in text
    assert load(out) == load(training)
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"out.json", "out.html"}


def test_quiet_writes_only(training: Path, tmp_path: Path) -> None:
    assert said(training, tmp_path / "out.json", quiet=True) == ""
    assert (tmp_path / "out.json").exists()


def test_a_report_that_cannot_be_written_is_one_sentence(training: Path, tmp_path: Path) -> None:
    text = said(training, tmp_path / "none" / "out.json", tmp_path / "out.json", tmp_path / "out.pdf")
    lines = text.splitlines()
    assert lines[0] == (
        f"heitu: The report {tmp_path}/none/out.json cannot be written: "
        f"there is no directory {tmp_path}/none."
    )
    assert lines[1] == f"heitu: {tmp_path}/out.pdf: a report is a file with the suffix .html or .json."
    assert lines[2].startswith("heitu: Huawei")
    assert json.loads((tmp_path / "out.json").read_text())["kind"] == "heitu-report"


def test_a_full_disk_leaves_what_was_there(
    training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.json"
    out.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "No space left on device" in said(training, out)
    assert out.read_text() == "before"
    assert [path for path in tmp_path.iterdir() if path.is_file()] == [out]


def test_no_record_is_one_sentence(tmp_path: Path) -> None:
    text = said(tmp_path, tmp_path / "out.json")
    assert text.startswith("heitu: there is no report: ")
    assert len(text.splitlines()) == 1


def test_a_failure_of_ours_is_one_sentence(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(ending, "gather", broken)
    assert said(training) == "heitu: there is no report: ZeroDivisionError: of ours\n"


def test_a_closed_stderr_is_no_error(training: Path) -> None:
    stream = io.StringIO()
    stream.close()
    finish(training, [], stream=stream)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("out.txt", ExitCode.USAGE),
        ("none/out.json", ExitCode.REPORT_PATH),
        ("there.json", ExitCode.REPORT_PATH),
    ],
)
def test_paths_are_checked_before_the_run(tmp_path: Path, name: str, code: ExitCode) -> None:
    (tmp_path / "there.json").mkdir()
    with pytest.raises(HeituError) as raised:
        ending.check(tmp_path / name)
    assert raised.value.exit_code == code
    ending.check(tmp_path / "fine.html")


def test_peak_is_said_where_the_capacity_is_unknown(tmp_path: Path) -> None:
    write_run(tmp_path)
    one = ProcessFiles(tmp_path, 7)
    one.capacity, one.reserved = 0, (3 * GIB,)
    one.operator("aten::neg", ("float32", [4]), bytes_in=16, bytes_out=16)
    one.save()
    assert "peak     3 GiB of device memory; the chip's is unknown" in said(tmp_path)
