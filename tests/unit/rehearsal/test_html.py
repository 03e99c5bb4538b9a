"""The HTML: well-formed, self-contained, and nothing in it that a program could have put there as markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from heitu.rehearsal.difference import differences
from heitu.rehearsal.html import difference_html, to_html
from heitu.rehearsal.report import load
from tests.unit.rehearsal.records import GIB, ProcessFiles, write_run, write_training

EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>\x00\x1b[31m"
VOID = {"meta", "br", "wbr", "img", "hr", "input", "link"}


class Checked(HTMLParser):
    """Every element is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: dict[str, int] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data


def parsed(html: str) -> Checked:
    found = Checked()
    found.feed(html)
    found.close()
    assert found.open == []
    return found


def test_it_is_well_formed_and_has_what_matters(training: Path) -> None:
    page = parsed(to_html(load(training)))
    text = " ".join(page.text.split())
    for words in (
        "Huawei Ascend 910B3",
        "Nothing here was measured on the chip",
        "aten::isin.Tensor_Tensor",
        "data.py:77",
        "compute in float32",
        "capacity 64 GiB",
        "≈ 19 ms",
        "FlagOpen/FlagPerf",
        "assumption",
        "sha256",
        "rank 1",
        "4.57.1",
    ):
        assert words in text, words
    assert page.tags["svg"] > 3


@pytest.mark.parametrize("chip", ["mlu590", "h200", "tencent-zixiao", "s60"])
def test_every_state_renders(training: Path, chip: str) -> None:
    for change in ({"exit": -9}, {"dry": True}, {"exit": None, "end": None}):
        write_training(training, chip=chip, **change)
        parsed(to_html(load(training)))


def test_an_empty_run(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert "No operator reached the device" in parsed(to_html(load(tmp_path))).text


def test_it_needs_nothing_else(training: Path) -> None:
    page = parsed(to_html(load(training)))
    assert page.tags.get("link", 0) == page.tags.get("img", 0) == 0
    assert page.tags["script"] == 1
    for name, value in page.attributes:
        if name in ("href", "src"):
            assert (value or "").startswith("#")
    assert not re.search(r"url\(|@import", to_html(load(training)))


def test_each_source_that_is_cited_is_there(training: Path) -> None:
    html = to_html(load(training))
    cited, there = set(re.findall(r'href="#([^"]+)"', html)), set(re.findall(r'id="([^"]+)"', html))
    assert cited
    assert cited <= there


def evil_record(directory: Path) -> None:
    write_run(directory, command=[EVIL], directory=EVIL, exit=1)
    one = ProcessFiles(directory, 7, rank=EVIL)
    place = [f"/{EVIL}.py", 3, EVIL]
    for verdict in ("native", "fallback", "refused", "unknown"):
        one.operator(
            f"{EVIL}::{EVIL}",
            (EVIL, [2]),
            verdict=verdict,
            why=EVIL,
            phase=EVIL,
            dtype_verdict=EVIL,
            user=place,
        )
    one.say(event="exception", type=EVIL, message=EVIL, user=place)
    finding = {"rule": EVIL, "what": EVIL, "change": EVIL, "file": EVIL, "line": 3, "column": 1}
    one.kernel(EVIL, 3, verdict=EVIL, findings=[finding], unknown=[EVIL], defined=place)
    one.say(event="packages", versions={EVIL: EVIL})
    one.samples = tuple((i, i * GIB, i * GIB) for i in range(5))
    one.save()


def test_nothing_is_injected(training: Path, tmp_path: Path) -> None:
    evil_record(tmp_path)
    usual = parsed(to_html(load(training)))
    report = load(tmp_path)
    for html in (to_html(report), difference_html(differences(report, load(training)))):
        page = parsed(html)
        assert page.tags.get("script", 0) <= usual.tags["script"]
        assert "img" not in page.tags
        assert not any(name.startswith("on") for name, _ in page.attributes)
        assert "<script>alert(1)</script>" in page.text
        assert not re.search("[\x00-\x08\x0b-\x1f]", html.replace("\n", ""))
