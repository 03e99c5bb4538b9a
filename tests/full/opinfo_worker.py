"""Checks the entries it is given and writes a line for each finding; started by opinfo_sweep.

It writes to the file what it is about to do before doing it, so that a crash names its cause.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tests.full.opinfo_checks import (
    Pair,
    check_errors,
    declares_tested_dtypes,
    entries,
    only_on_cpu,
    states_errors,
)
from tests.full.opinfo_comparison import brief, dtype_name
from tests.full.opinfo_records import checked

PAIR_SECONDS = 4.0  # no further samples after that
STUCK_SECONDS = 60


class _Late(BaseException):
    pass


def _ring(*_: object) -> None:
    raise _Late


class Record:
    """The findings of one worker, appended to a file line by line."""

    def __init__(self, path: Path) -> None:
        self.checked = checked(path)  # before a crash
        self._file = path.open("a", encoding="utf-8")

    def write(self, **content: Any) -> None:
        self._file.write(json.dumps(content, ensure_ascii=False) + "\n")
        self._file.flush()


Samples = tuple[int, int]  # from the start, and spread over the rest


def check_pair(pair: Pair, samples: Samples) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Problems and the number of samples of each variant."""
    started = time.monotonic()
    problems: dict[str, list[str]] = {kind: [] for kind in pair.kinds()}
    counts = dict.fromkeys(problems, 0)
    for i, sample in enumerate(pair.samples(*samples)):
        for kind in problems:
            found = pair.check(kind, sample)
            if found is None:
                continue
            counts[kind] += 1
            problems[kind] += [f"{problem} [sample {i}]" for problem in found]
        if time.monotonic() - started > PAIR_SECONDS:
            break
    return {kind: found[:4] for kind, found in problems.items()}, counts


def check_refusal(pair: Pair, samples: Samples) -> dict[str, Any] | None:
    """What the device says to a dtype that CUDA does not take: texts, and how many samples it computed.

    None where the entry has no sample of the dtype.
    """
    drawn = [sample for sample in pair.samples(*samples) if pair.holds_dtype(sample)]
    if not drawn:
        return None
    said = [text for sample in drawn if (text := pair.refusal(sample)) is not None]
    return {
        "samples": len(said),
        "computed": sum(not text for text in said),
        "tested": declares_tested_dtypes(pair.op),
        "texts": sorted({t for t in said if t})[:3],
    }


def check_entry(name: str, op: Any, samples: Samples, record: Record) -> None:
    """All dtypes of an entry, and its wrong calls."""
    host = op.supported_dtypes("cpu")
    declared = set() if only_on_cpu(op) else op.supported_dtypes("cuda")
    for dtype in sorted(declared | host, key=str):
        pair = Pair(op, dtype)
        word = dtype_name(dtype)
        if (name, word) in record.checked:
            continue
        record.write(at=[name, word])
        signal.alarm(STUCK_SECONDS)
        try:
            if dtype in declared:
                problems, counts = check_pair(pair, samples)
                record.write(
                    entry=name, dtype=word, comparable=dtype in host, problems=problems, counts=counts
                )
            elif refusal := check_refusal(pair, samples):
                record.write(entry=name, dtype=word, refusal=refusal)
        except _Late:
            record.write(entry=name, dtype=word, failure=f"took longer than {STUCK_SECONDS} s")
        except Exception as error:
            record.write(entry=name, dtype=word, failure="sweep: " + brief(error))
        finally:
            signal.alarm(0)
    if states_errors(op) and (name, "errors") not in record.checked:
        record.write(at=[name, "errors"])
        signal.alarm(STUCK_SECONDS)
        try:
            record.write(entry=name, errors=check_errors(op))
        except _Late:
            record.write(entry=name, errors=[f"took longer than {STUCK_SECONDS} s"])
        except Exception as error:
            record.write(entry=name, errors=["sweep: " + brief(error)])
        finally:
            signal.alarm(0)
    record.write(done=name)


def main(arguments: list[str]) -> int:
    """Arguments: the file to append to, samples from the start, samples of the rest, names of entries."""
    signal.signal(signal.SIGALRM, _ring)
    torch.set_num_threads(1)
    record = Record(Path(arguments[0]))
    known = entries()
    samples = int(arguments[1]), int(arguments[2])
    for name in arguments[3:]:
        check_entry(name, known[name], samples, record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
