"""The catalogue of chips: what ships is sound, users can add to it, and mistakes are named."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heitu import chips
from heitu.chips.facts import Fact, Kind
from heitu.chips.operators import DefaultClass
from heitu.chips.reading import SHIPPED, ChipFile
from heitu.chips.schema import DTYPES, GROUPS, Chip
from heitu.errors import ExitCode, HeituError

SOURCES = '[sources]\nbench = { text = "our bench", date = 2026-11-01, kind = "measured" }\n'
WANTED = {
    *("ascend-910b1", "ascend-910b2", "ascend-910b3", "ascend-910b4", "ascend-910c", "ascend-950pr"),
    *("ascend-950dt", "mlu370-x8", "mlu590", "mtt-s4000", "mtt-s5000", "c500", "c550", "bi-v100", "bi-v150"),
    *("s60", "i20", "p800", "zhenwu-810e", "br100", "br104", "tx81", "sunrise", "h200", "a100", "mi300x"),
    "tencent-zixiao",
}


def facts_of(chip: Chip) -> Iterator[Fact[Any]]:
    for name in GROUPS:
        group = getattr(chip, name)
        yield from (getattr(group, field.name) for field in dataclasses.fields(group))
    yield from (note for _, note in chip.notes)
    yield from (rule.verdict for rule in chip.dtypes)


def known(fact: Fact[Any] | None) -> Any:
    assert fact is not None
    return fact.value


# What ships


def test_every_maker_is_there() -> None:
    assert set(chips.names()) == WANTED
    assert len(chips.names()) == len(WANTED)


@pytest.mark.parametrize("name", sorted(WANTED))
def test_every_fact_has_its_evidence(name: str) -> None:
    chip = chips.load(name)
    assert chip.maker != "unknown"
    assert chip.title != name
    stated = [fact for fact in facts_of(chip) if fact is not None]
    assert any(stated)
    for one in [*stated, *(other for fact in stated for other in fact.also)]:
        assert one.source
        assert one.date >= "2020"
        assert isinstance(one.kind, Kind)


def test_no_source_is_there_for_nothing() -> None:
    for path in (SHIPPED / "data").glob("*.toml"):
        text = path.read_text()
        for key in ChipFile.open(path).table["sources"]:
            assert f'from = "{key}"' in text, f"{path.name}: {key}"


@pytest.mark.parametrize("name", sorted(WANTED))
def test_operator_lists_are_readable(name: str) -> None:
    listed = chips.operator_list(chips.load(name))
    if listed is not None:
        assert len(listed.overloads) > 50
        assert all(keys and all(keys) for keys in listed.overloads.values())


def test_lists_say_what_their_sources_say() -> None:
    ascend = chips.operator_list(chips.load("ascend-910b"))
    assert ascend is not None
    assert ascend.complete
    assert "AutogradPrivateUse1" in ascend.overloads["aten::__ior__.Scalar"]
    # torch_npu has names in aten that torch does not define; no program can reach them.
    assert "aten::_npu_dropout" not in ascend.overloads
    assert set(known(chips.load("ascend-910b").operators.on_host)) <= ascend.overloads.keys()
    assert {name for name in ascend.overloads if name.startswith("aten::")} <= chips.default_classes().keys()
    assert "aten::_linalg_det" not in ascend.overloads
    for name in ("s60", "br100"):
        listed = chips.operator_list(chips.load(name))
        assert listed is not None
        assert not listed.complete
    assert chips.operator_list(chips.load("h200")) is None


def test_default_classes() -> None:
    classes = chips.default_classes()
    assert len(classes) == 3110
    assert classes["aten::matmul"] is DefaultClass.COMPOSITE_IMPLICIT
    assert classes["aten::mm.out"] is DefaultClass.BACKEND
    with pytest.raises(HeituError, match=r"torch 1\.0; there are: 2\.13"):
        chips.default_classes("1.0")


def test_dtype_statements_are_those_of_the_generation() -> None:
    statements = chips.dtype_statements(chips.load("ascend-910b"))
    assert {statement.verdict for statement in statements} == {"stated_ok", "stated_no", "fallback_noted"}
    assert all("A2" in statement.chips for statement in statements)
    assert all(set(statement.dtypes) <= set(DTYPES) for statement in statements)
    (huber,) = [s for s in statements if s.api == "torch.nn.HuberLoss" and s.verdict == "fallback_noted"]
    assert huber.dtypes == ()
    logaddexp = [s for s in statements if s.api == "torch.logaddexp" and s.verdict == "stated_no"]
    assert [s.dtypes for s in logaddexp] == [("float64",)]
    assert chips.dtype_statements(chips.load("mlu590")) == ()


def test_dtypes_of_tritons_operators() -> None:
    table = chips.triton_dtypes(chips.load("ascend-910b"))
    assert table is not None
    assert (table.date, table.kind) == ("2026-04-27", Kind.VENDOR)
    assert "float64" in table.refused["load"]
    assert table.taken["dot"] == {"int8", "float16", "bfloat16", "float32"}
    assert "int64" not in table.taken["where"] | table.refused["where"]  # the documents contradict each other
    assert chips.triton_dtypes(chips.load("ascend-910c")) == table
    assert chips.triton_dtypes(chips.load("ascend-950pr")) is None  # the documents are of A2 and A3
    assert chips.triton_dtypes(chips.load("h200")) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("add\tfloat32", r"`# source: ...`"),
        ("# source: s\n# date: d\n# kind: rumour\nadd\tfloat32", "expected one of vendor"),
        ("# source: s\n# date: d\n# kind: vendor\nadd\tfp32", r"t.tsv:4: 'fp32' is not a dtype"),
        ("# source: s\n# date: d\n# kind: vendor\nadd\tint8\tint8", "int8 is both taken and refused"),
    ],
)
def test_a_table_of_dtypes_that_is_wrong(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "t.tsv").write_text(content)
    chip = tmp_path / "chip.toml"
    chip.write_text(
        'title = "T"\nmaker = "M"\nkernels.triton_dtypes = { value = "t.tsv", from = "bench" }\n'
        '[sources.bench]\ntext = "x"\ndate = "2026"\nkind = "vendor"\n'
    )
    with pytest.raises(HeituError, match=said):
        chips.triton_dtypes(chips.load(chip))


def test_typed_values() -> None:
    chip = chips.load("ascend-910b3")
    assert known(chip.hardware.memory_bytes) == 65536 * 2**20
    assert known(chip.hardware.memory_bandwidth) == 1.6e12
    assert known(chip.peak.float16) == 313e12
    assert known(chip.operators.others) is chips.Others.HOST_FALLBACK
    assert known(chip.operators.fallback_off) == "TORCH_NPU_FALLBACK_CPU_DISABLE=1"
    assert known(chips.load("mtt-s5000").properties.capability) == (3, 1)
    assert known(chips.load("tencent-zixiao").software.integration) is chips.Integration.NONE_PUBLIC
    assert chips.load("s60").operators.others is None
    assert chips.load("s60").peak.bfloat16 is None


def test_conflicts_keep_all_values() -> None:
    rate = chips.load("mlu590").peak.float16
    assert rate is not None
    assert sorted([rate.value, *(other.value for other in rate.also)]) == [256e12, 314e12, 345e12, 512e12]


@pytest.mark.parametrize("name", sorted(WANTED))
def test_rules_name_operators_that_torch_has(name: str) -> None:
    named = {operator for rule in chips.load(name).dtypes for operator in rule.operators}
    assert named <= chips.default_classes().keys()


def test_narrowing_rules() -> None:
    rules = {rule.key: rule for rule in chips.load("mlu370-x8").dtypes}
    assert rules["float64", ()].verdict.value is chips.Verdict.NARROWED
    assert rules["float64", ()].to == "float32"


def test_alias_and_variants() -> None:
    assert chips.load("ascend-910b") == chips.load("ascend-910b3")
    assert known(chips.load("ascend-910b4").hardware.memory_bytes) == 32 * 2**30
    # What b4 does not say for itself it has from b1; the family's facts reach both.
    assert chips.load("ascend-910b4").limits == chips.load("ascend-910b1").limits
    assert hash(chips.load("ascend-910b4"))


def test_torch_is_not_imported() -> None:
    code = "import sys; from heitu import chips; chips.load('h200'); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_unknown_name() -> None:
    with pytest.raises(HeituError, match=r"Close to it: .*ascend-910b") as raised:
        chips.load("Ascend 910-B")
    assert raised.value.exit_code is ExitCode.UNKNOWN_CHIP


# Users' files


def write(directory: Path, text: str, name: str = "mine.toml") -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_overrides_and_takes_back(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f"""
        extends = "ascend-910b"
        {SOURCES}
        [hardware]
        memory_bandwidth = {{ value = "1.4 TB/s", from = "bench", note = "copy of 8 GiB" }}
        board_power = "unknown"
        [[dtypes]]
        dtype = "complex32"
        verdict = "stated_ok"
        from = "bench"
        """,
    )
    chip, parent = chips.load(path), chips.load("ascend-910b")
    assert chip.name == "mine"
    assert chip.hardware.memory_bandwidth == Fact(
        1.4e12, "our bench", "2026-11-01", Kind.MEASURED, "copy of 8 GiB"
    )
    assert chip.hardware.board_power is None
    assert chip.hardware.memory_bytes == parent.hardware.memory_bytes
    assert chip.software == parent.software
    assert chips.operator_list(chip) == chips.operator_list(parent)
    (rule,) = [rule for rule in chip.dtypes if rule.dtype == "complex32"]
    assert rule.verdict.value is chips.Verdict.STATED_OK
    assert len(chip.dtypes) == len(parent.dtypes)


def test_a_file_with_several_chips(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f"""
        maker = "Us"
        {SOURCES}
        [operators]
        listed_in = {{ value = "ours.txt", from = "bench" }}
        [aliases]
        first = "one"
        [chips.one]
        [chips.two]
        extends = "one"
        hardware.memory_bytes = {{ value = "16 GiB", from = "bench" }}
        """,
    )
    write(
        tmp_path,
        "# source: ours\n# date: 2026-11-01\n# kind: measured\n# complete: yes\n# torch: 2.13.0\naten::mm\n",
        "ours.txt",
    )
    with pytest.raises(HeituError, match=r"2 chips: one, two\.\nSay which: .*:one"):
        chips.load(path)
    chip = chips.load(f"{path}:two")
    assert (chip.maker, known(chip.hardware.memory_bytes)) == ("Us", 16 * 2**30)
    listed = chips.operator_list(chip)
    assert listed is not None
    assert listed.overloads == {"aten::mm": frozenset({"PrivateUse1"})}
    assert chips.load(f"{path}:first").name == "one"
    with pytest.raises(HeituError, match="'three' is not in"):
        chips.load(f"{path}:three")
