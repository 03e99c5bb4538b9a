"""The table of programs over chips: which programs and chips, what a cell says, and what ends badly."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from heitu.cli import matrix as command
from heitu.device import build
from heitu.errors import ExitCode, HeituError
from heitu.rehearsal import matrix
from heitu.rehearsal.matrix import Cell, Finding, Program, kinds, read_programs, to_json
from heitu.rehearsal.matrix_page import page, share, text

REFUSAL = "call aclnnErf failed: `self` not implemented for DT_DOUBLE | see <log>"


def finding(verdict: str, operator: str, reason: str = "not listed (a source, 2026)") -> Finding:
    return Finding(verdict, operator, ("float64",), 3, reason, "model.py:12")


def cell(chip: str = "ascend-910b3", program: str = "train", **other: object) -> Cell:
    given: dict[str, object] = {"status": 0, "calls": 10, "native": 10, "findings": (), "ending": ""}
    return Cell(program, chip, **(given | other))  # type: ignore[arg-type]


def written(*cells: Cell) -> str:
    """The page of one program on some chips."""
    program = Program(cells[0].program, ("train.py",), Path())
    of = {(one.program, one.chip): one for one in cells}
    return page(of, {one.chip: [one.chip] for one in cells}, [program], "heitu matrix train.py")


@pytest.mark.parametrize(
    ("native", "calls", "said"),
    [
        (10, 10, "100 %"),
        (9995, 10_000, "99.9 %"),  # 99.95 would round to 100
        (999_999, 1_000_000, "99.9 %"),
        (1, 3, "33.3 %"),
        (0, 5, "unknown"),
        (0, 0, "no operator"),
    ],
)
def test_share_is_100_percent_only_if_all_is_native(native: int, calls: int, said: str) -> None:
    assert share(cell(native=native, calls=calls)) == said


def test_a_cell_counts_operators_of_each_verdict() -> None:
    findings = (
        finding("unknown", "aten::a"),
        finding("fallback", "aten::isin"),
        finding("fallback", "aten::isin"),
        finding("narrowed", "aten::mm"),
        finding("stated_no", "aten::sin"),
        finding("refused", "aten::erf"),
    )
    said = text(cell(native=7, findings=findings))
    assert said == "70.0 %, 1 unknown, 1 on the host, 1 narrowed, 1 doubtful, 1 refused"


def test_a_program_that_ends_at_a_refusal_is_refused_and_any_other_end_is_a_failure() -> None:
    refused = (finding("refused", "aten::sort"), finding("refused", "aten::erf"))
    assert text(cell(status=1, findings=refused)) == "**refused** erf"
    assert text(cell(status=1, findings=(finding("fallback", "aten::isin"),))) == "**failed**"
    # What was refused and caught ends nothing.
    assert text(cell(native=9, findings=refused)) == "90.0 %, 2 refused"


def test_where_nothing_is_published_the_cell_is_unknown() -> None:
    assert text(cell("s60", native=0, findings=(finding("unknown", "aten::a"),))) == "unknown"


def test_the_page_says_why_for_every_cell_that_is_not_plain() -> None:
    said = written(
        cell("h200"),
        cell("ascend-910b3", status=1, findings=(finding("refused", "aten::erf", REFUSAL),)),
        cell("br100", status=1, ending="ValueError: no data"),
        cell("mlu590", native=9, findings=tuple(finding("fallback", f"aten::op{i}") for i in range(8))),
    )
    why = said.partition("## Why")[2]
    assert "- ascend-910b3: refused: `erf` (float64) at model.py:12. call aclnnErf failed" in why
    assert "- br100: failed: ValueError: no data" in why
    assert "`op5` (float64) at model.py:12 and 2 more. not listed (a source, 2026)" in why
    assert "h200" not in why
    assert "| program | h200 | ascend-910b3 | br100 | mlu590 |\n|---|---|---|---|---|\n" in said
    assert "| train | 100 % | **refused** erf | **failed** | 90.0 %, 8 on the host |" in said


def test_a_page_of_plain_cells_gives_no_reasons() -> None:
    assert written(cell("h200")).rstrip().endswith("## Why")


def test_markdown_shows_names_and_messages_letter_by_letter() -> None:
    said = written(
        cell("ascend-910b3", "a|b `c`", status=1, findings=(finding("refused", "aten::erf", REFUSAL),))
    )
    row = next(line for line in said.splitlines() if line.startswith("| a"))
    assert row == "| a\\|b \\`c\\` | **refused** erf |"
    assert "\\`self\\` not implemented for DT_DOUBLE \\| see \\<log>" in said


def test_a_long_message_is_cut_and_put_on_one_line() -> None:
    said = written(cell(status=1, ending="Error:\n  " + "word " * 200))
    line = next(line for line in said.splitlines() if "failed: Error" in line)
    assert line.startswith("- ascend-910b3: failed: Error: word word")
    assert len(line) < 340
    assert line.endswith("…")


def test_programs_are_scripts_commands_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "serve.py").touch()
    (tmp_path / "sub" / "list.toml").write_text('"a server" = "serve.py --tokens \'3 2\'"\n')
    found = read_programs(["train.py --lr 1", "-m json.tool", "sub/list.toml"])
    assert found == [
        Program("train --lr 1", ("train.py", "--lr", "1"), tmp_path),
        Program("-m json.tool", ("-m", "json.tool"), tmp_path),
        Program("a server", ("serve.py", "--tokens", "3 2"), tmp_path / "sub"),
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("missing.py", "no program missing.py"),
        (" ", "no program"),
        ("'train.py", "No closing quotation"),
        ("missing.toml", "missing.toml: "),
        ("broken.toml", "broken.toml: "),
        ("empty.toml", "empty.toml: train: expected a command"),
        ("number.toml", "number.toml: train: expected a command"),
        ("gone.toml", "no program train (gone.py, of gone.toml)"),
    ],
)
def test_what_is_wrong_with_a_program_is_said(
    given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text("train = train.py\n")
    (tmp_path / "empty.toml").write_text('train = "  "\n')
    (tmp_path / "number.toml").write_text("train = 1\n")
    (tmp_path / "gone.toml").write_text('train = "gone.py"\n')
    with pytest.raises(HeituError) as caught:
        read_programs([given])
    assert said in caught.value.message
    assert caught.value.exit_code is ExitCode.USAGE


def test_two_programs_of_one_name_are_not_mixed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.py").touch()
    with pytest.raises(HeituError, match="Two programs are called train"):
        read_programs(["a/train.py", "b/train.py"])


def test_chips_of_equal_rules_share_a_column_and_tencent_has_none() -> None:
    found = kinds(None)
    columns = {name: first for first, members in found.items() for name in members}
    assert columns["ascend-910b1"] == columns["ascend-910b3"]
    assert columns["ascend-910b3"] != columns["h200"]
    assert columns["mtt-s5000"] != columns["br100"]
    assert "tencent-zixiao" not in columns
    assert list(found) == list(dict.fromkeys(columns.values()))


def test_chosen_chips() -> None:
    assert kinds(["ascend-910b", "ascend-910b3", "h200"]) == {
        "ascend-910b3": ["ascend-910b3"],
        "h200": ["h200"],
    }
    with pytest.raises(HeituError, match=r"[Nn]o chip|not a chip|h2000") as caught:
        kinds(["h2000"])
    assert caught.value.exit_code is ExitCode.UNKNOWN_CHIP
    with pytest.raises(HeituError, match="No software for tencent-zixiao is public"):
        kinds(["tencent-zixiao"])


def test_a_chip_of_a_file_keeps_its_file_wherever_programs_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text('extends = "h200"\ntitle = "Mine"\n')
    file = str(tmp_path / "my.toml")
    assert kinds(["./my.toml"]) == {file: [file]}
    said = page({("train", file): cell(file)}, {file: [file]}, [Program("train", (), Path())], "")
    assert f"Mine ({file})" in said


def fake_heitu(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """A `heitu` that does what `program` says instead of a rehearsal."""
    package = folder / "fake" / "heitu"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


def test_a_program_that_takes_too_long_is_ended_and_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ended"
    fake_heitu(
        tmp_path,
        monkeypatch,
        f"import pathlib, signal, sys, time\n"
        f"def end(*_): pathlib.Path({str(marker)!r}).touch(); sys.exit(1)\n"
        f"signal.signal(signal.SIGTERM, end)\ntime.sleep(60)\n",
    )
    told: list[Cell] = []
    program = Program("train", ("train.py",), tmp_path)
    start = time.monotonic()
    cells = matrix.run([program], ["h200"], jobs=1, seconds=1.5, done=told.append)
    assert time.monotonic() - start < 20
    assert told == [Cell("train", "h200", -1, 0, 0, (), "not done after 1.5 s")]
    assert cells == {("train", "h200"): told[0]}
    assert marker.exists()
    assert text(told[0]) == "**failed**"


def test_a_program_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ignore = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)\n"
    fake_heitu(tmp_path, monkeypatch, ignore)
    monkeypatch.setattr(matrix, "GRACE", 0.5)
    start = time.monotonic()
    matrix.run([Program("train", (), tmp_path)], ["h200"], jobs=1, seconds=1.5, done=lambda _: None)
    assert time.monotonic() - start < 20


def test_a_program_without_a_report_has_the_last_word_of_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_heitu(tmp_path, monkeypatch, "import sys\nsys.exit('first\\nheitu: no compiler')\n")
    found: list[Cell] = []
    matrix.run([Program("train", (), tmp_path)], ["h200"], jobs=1, seconds=60, done=found.append)
    assert found == [Cell("train", "h200", 1, 0, 0, (), "heitu: no compiler")]


@pytest.fixture
def rehearsals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A program, and rehearsals that are noted instead of done."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    done: list[str] = []

    def one(program: Program, chip: str, seconds: float) -> Cell:
        done.append(chip)
        return cell(chip, program.name)

    monkeypatch.setattr(matrix, "_cell", one)
    monkeypatch.setattr(build, "core_library", lambda: tmp_path)
    return done


def test_the_command_prints_the_page_or_json(
    rehearsals: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["train.py", "--chips", "h200,ascend-910b"]) == 0
    printed = capsys.readouterr()
    assert "| train | 100 % | 100 % |" in printed.out
    assert "Made by `heitu matrix train.py --chips h200,ascend-910b`" in printed.out
    assert sorted(rehearsals) == ["ascend-910b3", "h200"]
    command.main(["train.py", "--chips", "h200", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["programs"] == {"train": "train.py"}
    assert [one["chip"] for one in said["cells"]] == ["h200"]


def test_the_command_writes_the_page_and_the_data_beside_it(rehearsals: list[str], tmp_path: Path) -> None:
    command.main(["train.py", "--chips", "h200", "--out", "matrix.md"])
    assert (tmp_path / "matrix.md").read_text().startswith("# Programs on chips")
    assert json.loads((tmp_path / "matrix.json").read_text())["cells"][0]["native"] == 10


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--chips", "nope"], ExitCode.UNKNOWN_CHIP),
        (["--out", "missing/matrix.md"], ExitCode.REPORT_PATH),
        (["--out", "."], ExitCode.REPORT_PATH),
    ],
)
def test_a_wrong_option_costs_no_rehearsal(rehearsals: list[str], options: list[str], code: ExitCode) -> None:
    with pytest.raises(HeituError) as caught:
        command.main(["train.py", *options])
    assert caught.value.exit_code is code
    assert rehearsals == []


@pytest.mark.parametrize("options", [["--chips", ","], ["--jobs", "0"], ["--timeout", "-1"]])
def test_options_out_of_range(rehearsals: list[str], options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["train.py", *options])
    assert caught.value.code == 2
    assert rehearsals == []


def test_data_has_every_cell_once() -> None:
    programs = [Program("a", ("a.py",), Path()), Program("b", ("b.py", "x y"), Path())]
    cells = {(one.name, chip): cell(chip, one.name) for one in programs for chip in ("h200", "br100")}
    said = to_json(cells, {"h200": ["h200"], "br100": ["br100"]}, programs)
    assert said["programs"] == {"a": "a.py", "b": "b.py 'x y'"}
    assert len(said["cells"]) == 4  # type: ignore[arg-type]
    json.dumps(said)
