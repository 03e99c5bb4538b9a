"""Kernels with one defect each, and the same kernels without it.

`python -m tests.triton.seeded_defects` runs each of them both ways and prints what was found, as JSON. The
line at which a defect has to be found ends with the word "here".
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import triton  # noqa: F401  # it imports its backends, which the next line needs whole

from heitu.kernels.triton.checking import report
from tests.triton import seeded_accesses, seeded_races  # noqa: F401
from tests.triton.seeded_cases import CASES
from tests.triton.seeded_races import RIGHT


def _found() -> list[dict[str, Any]]:
    made = [
        {"kind": each.kind.name, "place": each.place, "text": each.text, "program": each.program,
         "element": each.element, "argument": each.argument, "count": each.count}
        for each in report.found()
    ]  # fmt: skip
    report.forget()
    return made


def main() -> None:
    torch.manual_seed(0)
    results: dict[str, Any] = {}
    for name, (_, run) in CASES.items():
        for wrong in (True, False):
            run(wrong)
            results[f"{name} {'wrong' if wrong else 'right'}"] = _found()
    for each in RIGHT:
        each()
        results[each.__name__] = _found()
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
