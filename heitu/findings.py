"""What `heitu doctor` says: one line for each thing that was looked at."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(str, enum.Enum):
    """How a check came out."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the table: what was looked at, what was found, and the next command where one helps."""

    check: str
    status: Status
    found: str
    next: str = ""


Line = tuple[Status, str, str]  # as a check yields it: status, what was found, the next command
