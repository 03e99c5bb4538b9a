"""What a value in a chip file may look like: each parser takes what TOML gave and answers in base units.

A parser raises ValueError with a sentence that says what is allowed. Sizes and rates may be written as
text with a unit ("64 GiB", "1.6 TB/s", "313 TFLOP/s") or as a plain number in base units.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import TypeVar

E = TypeVar("E", bound=enum.Enum)

_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected a text that is not empty")
    return value


def texts(value: object) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list) or not value or not all(isinstance(x, str) and x.strip() for x in value):
        raise ValueError('expected a list of texts, such as ["a", "b"]')
    return tuple(value)


def whole(value: object) -> int:
    """A whole number from 0 up."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("expected a whole number from 0 up")
    return value


def version(value: object) -> tuple[int, int]:
    """Two numbers as text: "9.0"."""
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('expected two numbers as text, such as "9.0"')
    return int(match[1]), int(match[2])


def extents(value: object) -> tuple[int, ...]:
    """Three whole numbers, of x, y and z."""
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("expected three whole numbers, of x, y and z")
    return tuple(whole(each) for each in value)


def dots(value: object) -> tuple[str, ...]:
    """Texts such as "16 bits: 1x1x16": the width of an operand's elements, then M, N and K."""
    found = texts(value)
    if not all(re.fullmatch(r"\d{1,3} bits: \d{1,4}x\d{1,4}x\d{1,4}", each) for each in found):
        raise ValueError('expected texts such as "16 bits: 1x1x16", with M, N and K')
    return found


def assignment(value: object) -> str:
    """An environment variable and its value: "NAME=1"."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_]\w*=\S*", value):
        raise ValueError('expected a variable and its value, such as "NAME=1"')
    return value


def choice(kinds: type[E]) -> Callable[[object], E]:
    """One of an enumeration's values."""

    def parse(value: object) -> E:
        allowed = [kind.value for kind in kinds]
        if value not in allowed:
            raise ValueError(f"expected one of {', '.join(map(str, allowed))}")
        return kinds(value)

    return parse


def size(value: object) -> int:
    """Bytes: "64 GiB", "141 GB", 68719476736."""
    return int(_quantity(value, "B", _DECIMAL | _BINARY, '"64 GiB"'))


def bandwidth(value: object) -> float:
    """Bytes a second: "1.6 TB/s"."""
    return _quantity(value, "B/s", _DECIMAL, '"1.6 TB/s"')


def rate(value: object) -> float:
    """Operations a second: "313 TFLOP/s" or "256 TOP/s"."""
    return _quantity(value, "(?:FL)?OP/s", _DECIMAL, '"313 TFLOP/s"')


def power(value: object) -> float:
    """Watts: "350 W"."""
    return _quantity(value, "W", _DECIMAL, '"350 W"')


def frequency(value: object) -> float:
    """Hertz: "1500 MHz"."""
    return _quantity(value, "Hz", _DECIMAL, '"1500 MHz"')


def _quantity(value: object, unit: str, prefixes: dict[str, int], example: str) -> float:
    if isinstance(value, str):
        match = re.fullmatch(rf"(\d+(?:\.\d+)?)\s*([A-Za-z]*?){unit}", value.strip())
        if match is None or match[2] not in prefixes:
            raise ValueError(f"expected a quantity such as {example}")
        number = float(match[1]) * prefixes[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    else:
        raise ValueError(f"expected a quantity such as {example}, or a number in base units")
    if not 1 <= number < 2**63:
        raise ValueError(f"expected a quantity from 1 to 2^63 in base units, such as {example}")
    return number


def show(value: object, unit: str) -> str:
    """A value of a fact as a person reads it.

    Args:
        value: in base units.
        unit: the field's: "B", "B/s", "FLOP/s", "OP/s", "W", "Hz", "version", or "" for what has none.
    """
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return (".".join if unit == "version" else ", ".join)(map(str, value))
    if not unit or not isinstance(value, int | float):
        return str(value)
    if unit == "B":
        # In binary units where they come out even: makers mean either.
        fitting = [(prefix, factor) for prefix, factor in _BINARY.items() if value >= factor]
        for prefix, factor in reversed(fitting[-2:]):
            if value * 100 % factor == 0:
                return f"{value / factor:.8g} {prefix}B"
    prefix, factor = [(prefix, factor) for prefix, factor in _DECIMAL.items() if value >= factor][-1]
    return f"{value / factor:.4g} {prefix}{unit}"
