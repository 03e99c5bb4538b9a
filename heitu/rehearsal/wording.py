"""Numbers as people read them."""

from __future__ import annotations

_LARGE = (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_BINARY = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def duration(seconds: float) -> str:
    """Seconds: "41 ms", "12.5 s", "3 min 5 s"."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    if seconds >= 600:
        return f"{seconds // 60:.0f} min"
    if seconds >= 100:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{digits(seconds / scale)} {unit}"
    return "0 s" if seconds <= 0 else f"{seconds * 1e9:.0f} ns"


def roughly(seconds: float) -> str:
    """A time with two digits, as an estimate deserves: "19 ms"."""
    return duration(float(f"{seconds:.1e}"))


def size(count: float) -> str:
    """Bytes in binary units: "12.1 GiB"."""
    for unit, scale in _BINARY:
        if count >= scale:
            return f"{digits(count / scale)} {unit}"
    return f"{count:.0f} B"


def amount(value: float, unit: str) -> str:
    """A quantity in decimal units: "1.2 TFLOP"."""
    for prefix, scale in _LARGE:
        if value >= scale:
            return f"{digits(value / scale)} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def count(number: int) -> str:
    """A whole number: "41,203"."""
    return f"{number:,}"


def compact(number: int) -> str:
    """A whole number in little room: "41,203", "1.2M"."""
    return count(number) if number < 100_000 else amount(number, "").replace(" ", "")


def counted(number: int, one: str, several: str = "") -> str:
    """A number and what is counted: "1 call", "41,203 calls"."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def share(part: float) -> str:
    """A part of 1: "96%", "3.2%", "<0.1%"."""
    percent = part * 100
    if 0 < percent < 0.1:
        return "<0.1%"
    # What is not all must not read as all.
    if 99.9 <= percent < 100:
        return "99.9%"
    text = f"{percent:.1f}" if percent < 10 or percent > 99 else f"{percent:.0f}"
    return f"{text.removesuffix('.0')}%"


def digits(value: float) -> str:
    """Two or three digits that count."""
    if value >= 99.5:
        return f"{value:.0f}"
    return f"{value:.1f}".removesuffix(".0") if value >= 10 else f"{value:.2g}"
