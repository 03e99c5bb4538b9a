"""A fact, and where it is from."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class Kind(str, enum.Enum):
    """What sort of evidence a fact rests on, the strongest first."""

    VENDOR = "vendor"  # published by the chip's maker: documents or source code
    MEASURED = "measured"  # somebody ran it and said what came out
    THIRD_PARTY = "third-party"  # other people's source code or tables
    PRESS = "press"
    INFERRED = "inferred"  # read between the lines of what `source` says


@dataclass(frozen=True)
class Source:
    """One entry of a file's [sources].

    Attributes:
        text: what to look up: repository and commit, address, title.
        date: of the source where it bears one, else the day it was read; YYYY, YYYY-MM or YYYY-MM-DD.
        kind: what sort of evidence it is.
    """

    text: str
    date: str
    kind: Kind


@dataclass(frozen=True)
class Fact(Generic[T]):
    """One value with its evidence.

    Attributes:
        value: in base units: bytes, bytes/s, operations/s, watts.
        source: its text.
        date: the source's.
        kind: the source's, or weaker where the source does not quite say this.
        note: what the value holds for, where it does not hold without saying.
        also: what other sources say instead; `value` is the one that is used.
    """

    value: T
    source: str
    date: str
    kind: Kind
    note: str = ""
    also: tuple[Fact[T], ...] = ()
