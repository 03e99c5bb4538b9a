"""Chip files: each mistake is named, junk is refused, and what is written reads as it was."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heitu import chips
from heitu.chips.facts import Fact, Kind
from heitu.chips.quantities import show, size
from heitu.chips.schema import DTYPES, GROUPS, Chip, DtypeRule
from heitu.chips.writing import to_toml
from heitu.errors import ExitCode, HeituError
from tests.unit.test_chips import SOURCES, WANTED, write

FACT = "hardware.memory_bytes = "
RULE = '[[dtypes]]\nfrom = "bench"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title = \n", r"not TOML: .*line 1"),
        ("[[[", "not TOML"),
        ("x = " + "[" * 5000, "not TOML"),
        ("flops = 3", r"flops: there is no such key; expected one of .*peak"),
        ("hardwear = {}", r"hardwear: .*did you mean 'hardware'"),
        ("hardware = 3", r"hardware: 3: expected a table"),
        ("title = 3", r"title: 3: expected a text"),
        ('extends = "ascend-910x"', r"extends: The chip 'ascend-910x' is not in the catalogue"),
        ("extends = 3", r"extends: 3: expected a text"),
        (
            f"{SOURCES}[hardware]\nmemory = 3",
            r"hardware.memory: there is no such key; .*did you mean 'memory_",
        ),
        (f"{FACT}3", r"hardware.memory_bytes: 3: expected a table, such as \{ value"),
        (f'{FACT}{{ from = "bench" }}', r"hardware.memory_bytes: `value` is missing"),
        (f"{FACT}{{ value = 3 }}", r"hardware.memory_bytes: `from` is missing"),
        (
            f'{FACT}{{ value = "3 GiB", from = "x" }}',
            r"from: 'x': expected a key of \[sources\]: .*there are none",
        ),
        (
            f'{FACT}{{ value = "3 GiB", from = "bnch" }}\n{SOURCES}',
            r"from: 'bnch': .*did you mean 'bench'",
        ),
        (f'{FACT}{{ value = "lots", from = "bench" }}\n{SOURCES}', r"value: 'lots': expected a quantity"),
        (f'{FACT}{{ value = true, from = "bench" }}\n{SOURCES}', r"value: True: expected a quantity"),
        (
            f'{FACT}{{ value = 1{"0" * 400}, from = "bench" }}\n{SOURCES}',
            r"expected a quantity from 1 to 2\^63",
        ),
        (f'{FACT}{{ value = nan, from = "bench" }}\n{SOURCES}', r"value: nan: expected a quantity from 1"),
        (f'{FACT}{{ value = 3, from = "bench", also = 1 }}\n{SOURCES}', r"also: 1: expected a list"),
        (f'{FACT}{{ value = 3, from = "bench", date = 3 }}\n{SOURCES}', r"date: 3: expected a date"),
        (
            f'{FACT}{{ value = 3, from = "bench", kind = [] }}\n{SOURCES}',
            r"kind: \[\]: expected one of vendor",
        ),
        (
            f'operators.others = {{ value = "explode", from = "bench" }}\n{SOURCES}',
            r"others.value: 'explode': expected one of host_fallback, error",
        ),
        (
            f'operators.fallback_off = {{ value = "A", from = "bench" }}\n{SOURCES}',
            r"'A': expected a variable and its value",
        ),
        (
            f'operators.listed_in = {{ value = "no.txt", from = "bench" }}\n{SOURCES}',
            r"operators.listed_in: 'no.txt': there is no such file in",
        ),
        (
            f'properties.capability = {{ value = 9.0, from = "bench" }}\n{SOURCES}',
            r"capability.value: 9.0: expected two numbers as text",
        ),
        (
            f'kernels.smallest_dot = {{ value = ["16x16x16"], from = "bench" }}\n{SOURCES}',
            r'expected texts such as "16 bits: 1x1x16"',
        ),
        (
            f'limits.grid_extents = {{ value = [1, 2], from = "bench" }}\n{SOURCES}',
            r"expected three whole numbers, of x, y and z",
        ),
        (f"{SOURCES}{RULE}", r"dtypes\[0\]: `verdict` is missing"),
        (f'{SOURCES}{RULE}verdict = "refused"', r"dtypes\[0\].dtype: None: expected one of bfloat16"),
        (f'{SOURCES}{RULE}verdict = "refused"\ndtype = "bf16"', r"dtype: 'bf16': .*did you mean 'bfloat16'"),
        (f'{SOURCES}{RULE}verdict = "narrowed"\ndtype = "int64"', r"to: '': expected a dtype if"),
        (f'{SOURCES}{RULE}verdict = "refused"\ndtype = "int64"\nto = "int32"', r"to: 'int32': expected a dt"),
        ("dtypes = 3", r"dtypes: 3: expected a list of tables"),
        ("sources = 3", r"sources: 3: expected a table"),
        (
            '[sources.bench]\ntext = "x"\ndate = "last week"\nkind = "vendor"\n'
            '[hardware]\nboard_power = { value = 3, from = "bench" }',
            r"sources.bench.date: 'last week': expected a date",
        ),
        ("chips = 3", r"chips: 3: expected a table"),
        ('[chips."My Chip"]', r"'My Chip': expected a name of small letters"),
        ("[chips.a]\nsources = {}", r"chips.a.sources: there is no such key"),
        ('[chips.a]\nextends = "a"', r"chips.a.extends: 'a': expected a chip that does not itself extend"),
        ('[chips.a]\n[aliases]\nb = "c"', r"aliases.b: 'c': expected one of a"),
        ("[chips.a]\n[aliases]\nb = []", r"aliases.b: \[\]: expected one of a"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(HeituError, match=expected) as raised:
        chips.load(path)
    assert raised.value.exit_code is ExitCode.CHIP_FILE
    assert raised.value.message.startswith(f"{path}: ")


def test_the_documented_file_loads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "chips.md").read_text(encoding="utf-8")
    lines = page[page.index("# my-chip.toml") : page.index("A fact that is written")].splitlines()
    path = write(tmp_path, "\n".join(line.strip() for line in lines), "my-chip.toml")
    bandwidth = chips.load(path).hardware.memory_bandwidth
    assert bandwidth is not None
    assert bandwidth.value == 1.4e12


def test_two_chips_that_extend_each_other(tmp_path: Path) -> None:
    path = write(tmp_path, '[chips.a]\nextends = "b"\n[chips.b]\nextends = "a"\n')
    with pytest.raises(HeituError, match="expected a chip that does not itself extend this one"):
        chips.load(f"{path}:a")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, expected in [
        (tmp_path / "none.toml", "there is no such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / ("x" * 300 + ".toml"), "File name too long"),
    ]:
        with pytest.raises(HeituError, match=expected) as raised:
            chips.load(path)
        assert raised.value.exit_code is ExitCode.CHIP_FILE
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    with pytest.raises(HeituError, match="byte 9 is not UTF-8"):
        chips.load(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aten::mm\n", r"l.txt:1: the head has no line `# source"),
        ("# source: x\n# date: 2026\n# kind: rumour\n# complete: yes\n# torch: 2\n", "kind: rumour"),
        ("# source: x\n# date: 2026\n# kind: press\n# complete: half\n# torch: 2\n", "expected yes or no"),
        ("# source: x\n# date: 2026\n# kind: press\n# complete: no\n# torch: 2\nmm\n", r"l.txt:6: 'mm'"),
        ("# source: x\na\tb\tc\n", r"l.txt:2: 3 columns"),
    ],
)
def test_mistakes_in_operator_lists(tmp_path: Path, text: str, expected: str) -> None:
    write(tmp_path, text, "l.txt")
    path = write(tmp_path, f'{SOURCES}[operators]\nlisted_in = {{ value = "l.txt", from = "bench" }}')
    chip = chips.load(path)
    with pytest.raises(HeituError, match=expected) as raised:
        chips.operator_list(chip)
    assert raised.value.exit_code is ExitCode.CHIP_FILE


# Writing and reading again


@pytest.mark.parametrize("name", sorted(WANTED))
def test_what_is_written_reads_the_same(name: str, tmp_path: Path) -> None:
    chip = chips.load(name)
    assert dataclasses.replace(chips.load(write(tmp_path, to_toml(chip))), name=name) == chip


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
values = {
    "B": st.integers(1, 2**63 - 1),
    **dict.fromkeys(("B/s", "FLOP/s", "OP/s", "W", "Hz"), st.floats(1, 2.0**62)),
    "version": st.tuples(st.integers(0, 999), st.integers(0, 999)),
}


@st.composite
def evidence(draw: st.DrawFn, value: st.SearchStrategy[Any], depth: int = 0) -> Fact[Any]:
    also = draw(st.lists(evidence(value, depth + 1), max_size=2)) if depth == 0 else []
    dates = st.dates().map(str)
    note = draw(st.just("") | texts)
    return Fact(draw(value), draw(texts), draw(dates), draw(st.sampled_from(Kind)), note, tuple(also))


@st.composite
def made_up_chips(draw: st.DrawFn) -> Chip:
    groups: dict[str, Any] = {}
    for name in ("hardware", "peak", "properties"):
        fields = [f for f in dataclasses.fields(GROUPS[name]) if f.metadata["unit"]]
        chosen = draw(st.lists(st.sampled_from(fields), unique_by=lambda f: f.name, max_size=4))
        groups[name] = GROUPS[name](**{f.name: draw(evidence(values[f.metadata["unit"]])) for f in chosen})
    rules = st.builds(
        DtypeRule,
        st.sampled_from(DTYPES),
        evidence(st.sampled_from([chips.Verdict.REFUSED, chips.Verdict.STATED_OK])),
        operators=st.lists(texts, max_size=2).map(tuple),
        message=st.just("") | texts,
    )
    return Chip(
        "mine",
        draw(texts),
        draw(texts),
        Path("mine.toml"),
        **groups,
        dtypes=tuple(draw(st.lists(rules, max_size=3, unique_by=lambda rule: rule.key))),
        notes=tuple(draw(st.dictionaries(texts, evidence(texts), max_size=3)).items()),
    )


@settings(max_examples=100, deadline=None)
@given(made_up_chips())
def test_any_chip_reads_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, chip: Chip) -> None:
    path = write(tmp_path_factory.getbasetemp(), to_toml(chip))
    assert chips.load(path) == chip


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
words = st.sampled_from(
    [
        *(*GROUPS, "value", "from", "also", "date", "kind", "note", "sources", "chips", "extends", "dtypes"),
        *("aliases", "notes", "memory_bytes", "float16", "text", "verdict", "dtype", "h200", "title", "a"),
        *("listed_in", "operators"),
    ]
)
tables = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


def toml(value: object) -> str:
    """Any value as an inline TOML value; None has none."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "?")
    return str(value).lower() if value is not None else "2026-01-01"


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(words, tables, max_size=5), st.binary(max_size=5))
def test_junk_is_a_heitu_error(
    tmp_path_factory: pytest.TempPathFactory, junk: dict[str, Any], tail: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.toml"
    lines = "".join(f"{key} = {toml(value)}\n" for key, value in junk.items())
    for content in (lines.encode(), lines.encode() + tail):
        path.write_bytes(content)
        refused = None
        try:
            chips.load(path)
        except HeituError as error:
            refused = error.exit_code
        assert refused in (None, ExitCode.CHIP_FILE, ExitCode.UNKNOWN_CHIP)


@given(st.integers(1, 2**63 - 1))
def test_a_size_that_is_shown_is_about_right(value: int) -> None:
    assert size(show(value, "B")) == pytest.approx(value, rel=1e-3)
