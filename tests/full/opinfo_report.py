"""The marks of an OpInfo sweep, and what remains, as docs/conformance.md and docs/conformance.json."""

from __future__ import annotations

import datetime
import json
import platform
import re
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

# What is known of findings that remain: the first pattern found in "variant: problem: entry dtype, …" tells.
REASONS = (
    (r"values differ: .*complex32", "steps of these gradients leave the range of half precision"),
    (r"out: values differ: torch\._scaled_mm", "a float8 product rounded into an integer out="),
    (r"masked_fill", "the error is raised, in other words"),
)


class Mark(NamedTuple):
    """How many of how many, and the share that is asked for."""

    name: str
    clean: int
    total: int
    wanted: float | None  # percent

    @property
    def percent(self) -> float:
        return 100.0 * self.clean / self.total if self.total else 100.0

    @property
    def reached(self) -> bool:
        return self.wanted is None or self.percent >= self.wanted


class Report:
    """What the records of a sweep say."""

    def __init__(self, records: Iterable[dict[str, Any]], seconds: float, command: str, samples: int) -> None:
        self._seconds = seconds
        self._command = command
        self._samples = samples  # at most, of an entry in a dtype
        self._pairs: dict[tuple[str, str], dict[str, Any]] = {}
        self._errors: dict[str, list[str]] = {}
        for record in records:
            if "errors" in record:
                self._errors[record["entry"]] = record["errors"]
            elif "entry" in record:
                self._pairs[record["entry"], record["dtype"]] = record

    def problems(self, key: tuple[str, str]) -> list[tuple[str, str]]:
        """(variant, problem) of a pair."""
        record = self._pairs[key]
        if "crash" in record:
            return [("crash", record["crash"])]
        if "failure" in record:
            return [("failure", record["failure"])]
        if "refusal" in record:
            refusal = record["refusal"]
            # As PyTorch's own test of the declarations has it: calls on tensors without elements may pass.
            refused = refusal["computed"] < refusal["samples"] or not refusal["samples"]
            tested = "" if refusal["tested"] else " (PyTorch does not test what the entry declares)"
            return [] if refused else [("refusal", "computed, not refused" + tested)]
        return [(kind, problem) for kind, found in record["problems"].items() for problem in found]

    def marks(self) -> list[Mark]:
        """The table."""
        keys = list(self._pairs)
        refused = [key for key in keys if "refusal" in self._pairs[key]]
        computed = [key for key in keys if key not in set(refused)]
        comparable = [key for key in computed if self._pairs[key].get("comparable", True)]
        own = [key for key in computed if key not in set(comparable)]

        def mark(name: str, chosen: list[tuple[str, str]], wanted: float | None) -> Mark:
            return Mark(name, sum(not self.problems(key) for key in chosen), len(chosen), wanted)

        crashes = sum("crash" in self._pairs[key] for key in keys)
        marks = [
            mark("entries in float32", [key for key in comparable if key[1] == "float32"], 99.5),
            mark("pairs (entry, dtype) that CPU and CUDA share", comparable, 99.0),
            mark("pairs that only CUDA computes", own, None),
            mark("pairs that CUDA refuses and the CPU computes: refused", refused, None),
            Mark(
                "entries whose wrong calls raise as stated",
                sum(not e for e in self._errors.values()),
                len(self._errors),
                None,
            ),
            Mark("pairs without a crash", len(keys) - crashes, len(keys), 100.0),
        ]
        for kind in ("forward", "backward", "inplace", "out"):
            tried = [k for k in computed if self._pairs[k].get("counts", {}).get(kind)]
            clean = sum(not self._pairs[k]["problems"][kind] for k in tried)
            marks.append(Mark(f"of these, {kind}", clean, len(tried), None))
        return marks

    def reached(self) -> bool:
        """Whether every mark that is asked for is there."""
        return all(mark.reached for mark in self.marks())

    def table(self) -> str:
        """The marks in Markdown."""
        rows = ["| what | clean | of | percent | wanted |", "|---|---:|---:|---:|---:|"]
        for mark in self.marks():
            wanted = f"{mark.wanted:g} %" if mark.wanted is not None else ""
            rows.append(f"| {mark.name} | {mark.clean} | {mark.total} | {mark.percent:.2f} % | {wanted} |")
        return "\n".join(rows)

    def groups(self) -> dict[str, list[str]]:
        """Reason -> the pairs it concerns."""
        groups: dict[str, list[str]] = defaultdict(list)
        for entry, dtype in self._pairs:
            for kind, problem in self.problems((entry, dtype)):
                reason = f"{kind}: {_general(problem)}"
                if f"{entry} {dtype}" not in groups[reason]:
                    groups[reason].append(f"{entry} {dtype}")
        for entry, found in self._errors.items():
            for problem in found:
                groups[f"wrong calls: {_general(problem)}"].append(entry)
        return dict(sorted(groups.items(), key=lambda item: -len(item[1])))

    def write(self, folder: Path) -> None:
        """conformance.md and conformance.json in `folder`."""
        about = {
            "date": datetime.date.today().isoformat(),
            "command": self._command,
            "samples": self._samples,
            "torch": version("torch"),
            "machine": f"{platform.machine()}, {_processor()}",
            "seconds": round(self._seconds),
        }
        groups = self.groups()
        marks = [{**mark._asdict(), "percent": round(mark.percent, 2)} for mark in self.marks()]
        content = {"about": about, "marks": marks, "remaining": groups}
        text = json.dumps(content, ensure_ascii=False, indent=1)
        (folder / "conformance.json").write_text(text + "\n", encoding="utf-8")
        (folder / "conformance.md").write_text(self._page(about, groups), encoding="utf-8")

    def _page(self, about: dict[str, Any], groups: dict[str, list[str]]) -> str:
        text = (Path(__file__).with_name("conformance_template.md")).read_text(encoding="utf-8")
        remaining = "\n".join(
            f"- {reason} ({len(pairs)}): {', '.join(pairs)}{_why(reason, pairs)}"
            for reason, pairs in groups.items()
        )
        for name, value in {**about, "table": self.table(), "remaining": remaining or "Nothing."}.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text


def _why(reason: str, pairs: list[str]) -> str:
    finding = f"{reason}: {', '.join(pairs)}"
    return next((f" — {why}" for pattern, why in REASONS if re.search(pattern, finding)), "")


def _general(problem: str) -> str:
    """A problem without what differs from sample to sample."""
    problem = re.sub(r" \[sample \d+\]|^\d+: ", "", problem)
    if problem.startswith("values: "):
        return "values differ"
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", problem).replace("*", "\\*")[:160]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
