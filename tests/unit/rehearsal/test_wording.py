"""Numbers as people read them."""

from __future__ import annotations

import pytest

from heitu.rehearsal.wording import amount, compact, counted, duration, roughly, share, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (2e-8, "20 ns"),
        (1.5e-6, "1.5 µs"),
        (0.0412, "41.2 ms"),
        (0.9999, "1000 ms"),
        (12.5, "12.5 s"),
        (125, "2 min 5 s"),
        (2600, "43 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_an_estimate_has_two_digits() -> None:
    assert [roughly(value) for value in (0.04123, 0.9999, 0, 12.54)] == ["41 ms", "1 s", "0 s", "13 s"]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (0, "0%"),
        (0.0004, "<0.1%"),
        (0.032, "3.2%"),
        (0.5, "50%"),
        (0.9999, "99.9%"),
        (0.996, "99.6%"),
        (1, "100%"),
    ],
)
def test_what_is_not_all_does_not_read_as_all(part: float, words: str) -> None:
    assert share(part) == words


def test_sizes_and_counts() -> None:
    assert [size(n) for n in (0, 1023, 1536, 64 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "64 GiB"]
    assert [amount(n, "FLOP") for n in (12, 1.5e12)] == ["12 FLOP", "1.5 TFLOP"]
    assert [compact(n) for n in (41_203, 1_234_567)] == ["41,203", "1.2M"]
    assert [counted(n, "process", "processes") for n in (1, 2000)] == ["1 process", "2,000 processes"]
