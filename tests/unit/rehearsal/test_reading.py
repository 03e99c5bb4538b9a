"""Reading records: what processes leave, whole or not."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heitu.errors import ExitCode, HeituError
from heitu.rehearsal.reading import read
from heitu.rehearsal.record import Counts, Place, TensorArgument
from tests.unit.rehearsal.records import GIB, NOTHING, ProcessFiles, write_run, write_training


def total(record_calls: object) -> int:
    return sum(counts.calls for _, counts in record_calls)  # type: ignore[attr-defined]


def test_processes_are_merged(training: Path) -> None:
    record = read(training)
    assert record.run.chip == "ascend-910b3"
    assert record.run.command == ("train.py", "--lr", "1e-3")
    assert [process.rank for process in record.processes] == ["0", "1"]
    # Five lines and slot 0 in each process; the same five lines, but for two of isin.
    assert len(record.operators) == 6
    calls = {(operator.name, operator.verdict): counts for operator, counts in record.operators}
    assert calls["aten::mm", "native"] == Counts(
        400, 1_200_000_000, 400 * 2 * (512 * 256 + 256 * 1024), 400 * 2 * 512 * 1024, 3_000_000, 0
    )
    assert calls["aten::mm", "refused"].calls == 2
    assert record.unnamed == Counts(10, 8000, 0, 0, 1000, 0)
    assert record.packages == (("torch", "2.13.0+cpu"), ("transformers", "4.57.1"))
    assert record.notes == ()


def test_what_an_operator_line_says(training: Path) -> None:
    operator = next(o for o, _ in read(training).operators if o.name == "aten::mm" and o.verdict == "native")
    assert operator.args == (TensorArgument("bfloat16", (512, 256)), TensorArgument("bfloat16", (256, 1024)))
    assert operator.user == Place("/home/ann/project/train.py", 31, "step")
    assert operator.site is not None
    assert operator.site.line == 123


def test_memory_and_steps(training: Path) -> None:
    one, other = read(training).processes
    assert (one.capacity, one.peak_allocated[0], other.peak_reserved[0]) == (64 * GIB, 10 * GIB, 12 * GIB + 1)
    assert (one.steps, one.first_step_ns, one.last_step_ns) == (10, 2_000_000_000, 11_000_000_000)
    assert len(one.samples) == 1000
    assert one.samples[500].allocated == 500 * GIB // 100
    assert one.end == 1012.0


def test_operator_in_flight(tmp_path: Path) -> None:
    one = ProcessFiles(tmp_path, 7)
    slot = one.operator("aten::bmm", ("float32", [2, 3, 4]), user=["a.py", 3, "f"])
    one.head["in_flight"] = slot
    one.save()
    (process,) = read(tmp_path).processes
    assert process.in_flight is not None
    assert process.in_flight.name == "aten::bmm"
    one.head["in_flight"] = NOTHING
    one.save()
    assert read(tmp_path).processes[0].in_flight is None


def test_what_was_executed_between_steps(tmp_path: Path) -> None:
    one = ProcessFiles(tmp_path, 7)
    slot = one.operator("aten::bmm", ("float32", [2, 3, 4]), calls=10)
    one.slots[slot] = (*one.slots[slot][:6], 9, 2)
    one.save()
    assert read(tmp_path).operators[0][1].between == 7


def test_more_slots_than_the_head_says_are_counted(tmp_path: Path) -> None:
    one = ProcessFiles(tmp_path, 7)
    for _ in range(70):
        one.operator("aten::add.Tensor", ("float32", None), calls=3)
    one.used = 5
    one.save()
    assert total(read(tmp_path).operators) == 210


def test_missing_counters(training: Path) -> None:
    (training / "101.counters").unlink()
    record = read(training)
    assert "101.counters is missing" in record.notes[0]
    assert total(record.operators) == 200 + 400 + 12 + 1 + 3
    assert len(record.processes) == 2


def test_missing_log_keeps_the_counts(training: Path) -> None:
    before = read(training)
    (training / "101.jsonl").unlink()
    record = read(training)
    assert total(record.operators) + record.unnamed.calls == total(before.operators) + before.unnamed.calls
    assert record.unnamed.calls == 5 + 5 + 200 + 400 + 12 + 1 + 3


def test_half_written_line(training: Path) -> None:
    log = training / "101.jsonl"
    log.write_bytes(log.read_bytes() + b'{"event":"operator","id":')
    record = read(training)
    assert record.notes == ("101.jsonl: 1 lines cannot be read",)
    assert len(record.operators) == 6


def test_counters_of_another_program(training: Path) -> None:
    (training / "101.counters").write_bytes(b"something else" * 10)
    record = read(training)
    assert record.notes == ("101.counters: not counters of version 1",)


def test_exceptions_kernels_and_strict(tmp_path: Path) -> None:
    one = ProcessFiles(tmp_path, 7)
    one.say(event="exception", type="RuntimeError", message="no", user=["a.py", 1, "f"])
    one.say(event="strict", operator="aten::mm", message="refused")
    one.kernel("k", 5)
    one.kernel("k", 2)
    one.kernel("other")
    one.save()
    record = read(tmp_path)
    assert [failure.type for failure in record.failures] == ["RuntimeError", "strict"]
    assert [(kernel.name, launches) for kernel, launches in record.kernels] == [("k", 7), ("other", 0)]
    assert record.notes == ("run.json: No such file or directory",)


def test_no_record(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(HeituError) as raised:
            read(path)
        assert raised.value.exit_code == ExitCode.RECORD


def test_another_version(tmp_path: Path) -> None:
    write_run(tmp_path, version=2)
    with pytest.raises(HeituError, match="version 2"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": 1, "exit": "x"}', "\x00", "{}"])
def test_broken_run(training: Path, content: str) -> None:
    (training / "run.json").write_text(content)
    record = read(training)
    assert record.notes[0].startswith("run.json: ")
    assert total(record.operators) == 2 * (200 + 400 + 12 + 1 + 3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ("id", "operator", "phase", "verdict", "why", "rule", "args", "user", "pid", "argv", "type", "message")
events = st.dictionaries(st.sampled_from(KEYS), json_values)
EVENTS = ("process", "operator", "exception", "strict", "packages", "kernel", "end", "other")


@settings(max_examples=40, deadline=None)
@given(
    cut_log=st.integers(0, 4000),
    cut_counters=st.none() | st.integers(0, 110_000),
    lines=st.lists(st.tuples(st.sampled_from(EVENTS), events), max_size=4),
    tail=st.binary(max_size=40),
)
def test_whatever_is_cut_off_or_appended(
    cut_log: int, cut_counters: int | None, lines: list[tuple[str, dict[str, object]]], tail: bytes
) -> None:
    """Never an error; and as long as the counters are whole, no call is lost, whatever is in the log."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_training(directory)
        log, counters = directory / "100.jsonl", directory / "100.counters"
        content = log.read_bytes()[:cut_log]
        for event, said in lines:
            content += b"\n" + json.dumps({"event": event} | said).encode()
        log.write_bytes(content + b"\n" + tail)
        if cut_counters is not None:
            counters.write_bytes(counters.read_bytes()[:cut_counters])
        record = read(directory)
        counted = total(record.operators) + record.unnamed.calls
        expected = 5 + 200 + 400 + 12 + 1 + 3
        if cut_counters is None:
            assert counted == 2 * expected
        assert expected <= counted <= 2 * expected
