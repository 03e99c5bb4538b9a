"""The file that workers of the sweep append to: a JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file; a line cut short by a crash is left out."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def checked(path: Path) -> set[tuple[str, str]]:
    """The (entry, dtype) that are there already; wrong calls go by the dtype "errors"."""
    found: set[tuple[str, str]] = set()
    for record in lines(path):
        if "again" in record:
            found = {pair for pair in found if pair[0] != record["again"]}
        elif "entry" in record:
            found.add((record["entry"], record.get("dtype", "errors")))
    return found
