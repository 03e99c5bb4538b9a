"""The report as data: rows, reasons with evidence, advice, memory, the end, and JSON there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heitu import chips
from heitu.errors import ExitCode, HeituError
from heitu.rehearsal.gathering import KEPT_PLACES, KEPT_POINTS, KEPT_SHAPES, gather
from heitu.rehearsal.reading import read
from heitu.rehearsal.report import OperatorRow, Report, from_json, load, to_json
from tests.unit.rehearsal.records import GIB, ProcessFiles, rule_index, write_run, write_training


def row(report: Report, operator: str, verdict: str = "native") -> OperatorRow:
    (found,) = (one for one in report.operators if (one.operator, one.verdict) == (operator, verdict))
    return found


def test_verdicts(training: Path) -> None:
    report = load(training)
    assert {one.verdict: (one.operators, one.calls) for one in report.verdicts} == {
        "native": (2, 1200),
        "fallback": (1, 24),
        "refused": (1, 2),
        "unknown": (1, 6),
    }
    assert sum(one.share for one in report.verdicts) == pytest.approx(1)
    assert report.count("fallback").share == pytest.approx(0.36 / (1.96 + 2e-6), rel=1e-9)
    assert report.unnamed_calls == 10


def test_rows_have_the_source_of_their_verdict(training: Path) -> None:
    report = load(training)
    chip = chips.load("ascend-910b3")
    native = row(report, "aten::mm")
    assert native.reason == "the plugin registers it"
    assert report.evidence[native.evidence[0]].source == chips.operator_list(chip).source  # type: ignore[union-attr]
    refused = row(report, "aten::mm", "refused")
    assert refused.reason == "float64 is refused in this operator"
    rule = chip.dtypes[rule_index("ascend-910b3", "float64", "aten::mm")]
    evidence = report.evidence[refused.evidence[0]]
    assert (evidence.source, evidence.date, evidence.kind) == (
        rule.verdict.source,
        rule.verdict.date,
        rule.verdict.kind.value,
    )
    fallback = row(report, "aten::isin.Tensor_Tensor", "fallback")
    assert "CAUTION: The operator 'aten::isin.Tensor_Tensor'" in fallback.message
    assert {report.evidence[i].fact for i in fallback.evidence} == {
        "operators.listed_in",
        "operators.others",
    }


def test_places_are_relative_to_the_run(training: Path) -> None:
    report = load(training)
    fallback = row(report, "aten::isin.Tensor_Tensor", "fallback")
    assert [(c.user.file, c.user.line, c.calls) for c in fallback.places if c.user] == [
        ("data.py", 77, 16),
        ("data.py", 91, 8),
    ]
    site = row(report, "aten::mm").places[0].site
    assert site is not None
    assert site.file == "transformers/models/llama/modeling_llama.py"


def test_largest_shapes_and_most_frequent_places_are_kept(tmp_path: Path) -> None:
    write_run(tmp_path)
    one = ProcessFiles(tmp_path, 7)
    for i in range(1, 71):
        one.operator("aten::neg", ("float32", [i]), calls=i, ns=10, user=["a.py", i, "f"])
    one.operator("aten::neg", ("float32", None), calls=1000, ns=10, user=["a.py", 99, "f"])
    one.save()
    found = row(load(tmp_path), "aten::neg")
    assert (found.distinct_shapes, len(found.shapes)) == (71, KEPT_SHAPES)
    assert found.shapes[0].args == (("float32", (70,)),)
    assert (found.distinct_places, len(found.places)) == (71, KEPT_PLACES)
    assert found.places[0].calls == 1000
    assert found.calls == 1000 + 70 * 71 // 2


def test_advice_has_refusals_first_and_unknowns_last(training: Path) -> None:
    advice = load(training).advice
    assert [one.verdict for one in advice] == ["refused", "fallback", "unknown"]
    refused, fallback, unknown = advice
    assert (refused.subject, refused.suggestion) == ("aten::mm float64", "compute in float32")
    assert refused.place is not None
    assert (refused.place.file, refused.place.line) == ("rotary.py", 12)
    assert fallback.bytes == 2 * 12 * (8 * ((1 << 20) + 64) + (1 << 20))
    assert "broadcasting" in fallback.suggestion
    assert fallback.more_places == 1
    assert unknown.place is None


def test_fallbacks_that_cost_more_come_first(tmp_path: Path) -> None:
    write_run(tmp_path)
    one = ProcessFiles(tmp_path, 7)
    for name, copied in (("aten::small", 10), ("aten::large", 10**9), ("aten::middle", 10**7)):
        one.operator(name, ("float32", [1]), verdict="fallback", why="not_listed", bytes_in=copied)
    one.save()
    assert [a.subject for a in load(tmp_path).advice] == ["aten::large", "aten::middle", "aten::small"]


def test_a_narrowed_operator_is_native_and_advised_about(tmp_path: Path) -> None:
    rules = chips.load("ascend-910b3").dtypes
    rule = next(i for i, one in enumerate(rules) if one.verdict.value.value == "narrowed")
    write_run(tmp_path)
    one = ProcessFiles(tmp_path, 7)
    one.operator("aten::_to_copy", ("float64", [4]), rule=rule, dtype_verdict="narrowed")
    one.save()
    report = load(tmp_path)
    assert row(report, "aten::_to_copy").reason.endswith("float64 is computed in float32 in this operator")
    assert report.advice[0].verdict == "narrowed"
    assert report.count("native").calls == 1


def test_memory(training: Path, tmp_path: Path) -> None:
    memory = load(training).memory
    assert (memory.capacity, memory.peak_allocated, memory.peak_reserved) == (
        64 * GIB,
        10 * GIB,
        12 * GIB + 1,
    )
    assert memory.peaks == ((100, 0, 10 * GIB, 12 * GIB), (101, 0, 10 * GIB, 12 * GIB + 1))
    assert memory.curve is not None
    assert len(memory.curve.points) <= KEPT_POINTS
    assert memory.curve.points[-1] == (9.99, 999 * GIB // 100, 999 * GIB // 80)


def test_a_full_memory_is_advised_about(tmp_path: Path) -> None:
    write_run(tmp_path, exit=1)
    one = ProcessFiles(tmp_path, 7)
    one.reserved = (63 * GIB,)
    one.save()
    assert load(tmp_path).advice[0].verdict == "memory"
    one.reserved = (GIB,)
    one.save()
    assert load(tmp_path).advice == ()
    one.say(event="exception", type="OutOfMemoryError", message="CUDA out of memory.", user=["a.py", 1, "f"])
    assert "ran out" in load(tmp_path).advice[0].reason


@pytest.mark.parametrize(
    ("status", "ended"),
    [(0, None), (1, "exit status 1"), (-9, "killed by SIGKILL"), (139, "killed by SIGSEGV")],
)
def test_where_it_ended(tmp_path: Path, status: int, ended: str | None) -> None:
    write_run(tmp_path, exit=status)
    one = ProcessFiles(tmp_path, 7)
    one.save()
    ending = load(tmp_path).ending
    assert (ending and ending.what) == ended
    one.head["in_flight"] = one.operator("aten::bmm", user=["/home/ann/project/net.py", 5, "f"])
    one.save()
    ending = load(tmp_path).ending
    if ended:
        assert ending is not None
        assert ending.what == f"{ended} in aten::bmm"
        assert ending.at is not None
        assert ending.at.file == "net.py"
        assert load(tmp_path).processes[0].ended == "killed"
        one.say(event="exception", type="ValueError", message="\nbad\nworse", user=["x.py", 2, "g"])
        ending = load(tmp_path).ending
        assert ending is not None
        assert ending.what == "ValueError: bad"
        assert load(tmp_path).processes[0].ended == "exception"


def test_steps_and_processes(training: Path) -> None:
    report = load(training)
    assert [(one.pid, one.rank, one.steps, one.step_seconds) for one in report.processes] == [
        (100, "0", 10, 1.0),
        (101, "1", 10, 1.0),
    ]
    assert (report.estimate.per, report.estimate.steps) == ("step", 20)


def test_json_there_and_back(training: Path) -> None:
    for change in ({}, {"dry": True}, {"exit": None, "end": None}, {"chip": "mlu590", "exit": -11}):
        write_training(training, **change)
        report = load(training)
        assert from_json(to_json(report), "x") == report


def test_hashes_are_of_the_catalogues_files(training: Path) -> None:
    import hashlib

    chip = load(training).chip
    file = chips.load("ascend-910b3").file
    assert chip.file_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(chip.list_sha256) == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "version 99"),
        ({"kind": "other"}, "not a report"),
        ({"memory": None}, "memory is not an object"),
        ({"operators": [{}]}, r"operators\[0\].operator is missing"),
        ({"unnamed_calls": "x"}, "unnamed_calls is not a whole number"),
        ({"unnamed_calls": True}, "unnamed_calls is a truth value"),
        ({"evidence": {}}, "evidence is not a list"),
    ],
)
def test_json_of_something_else(training: Path, change: dict[str, Any], message: str) -> None:
    said = json.loads(to_json(load(training))) | change
    with pytest.raises(HeituError, match=message) as raised:
        from_json(json.dumps(said), "some.json")
    assert raised.value.exit_code == ExitCode.REPORT
    assert "some.json" in raised.value.message


def test_an_unknown_chip_is_an_error(training: Path) -> None:
    record = read(training)
    with pytest.raises(HeituError) as raised:
        gather(replace(record, run=replace(record.run, chip="none-such")))
    assert raised.value.exit_code == ExitCode.UNKNOWN_CHIP


def test_nothing_here_imports_torch() -> None:
    from tests.unit.conftest import python

    code = "import sys; from heitu.rehearsal import html, ending, tables; assert 'torch' not in sys.modules"
    assert python("-c", code).returncode == 0
