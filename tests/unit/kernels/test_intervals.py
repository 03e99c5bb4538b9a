"""Limits of whole numbers that are made of others with limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heitu.kernels.triton.lowering.intervals import _binary

LIMITS = st.tuples(st.integers(-6, 6), st.integers(0, 5)).map(lambda each: (each[0], each[0] + each[1]))


def result(name: str, a: int, b: int) -> int:
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b else 0
    return {
        "arith.addi": a + b,
        "arith.subi": a - b,
        "arith.muli": a * b,
        "arith.divsi": quotient,
        "arith.remsi": a - quotient * b,
    }[name]


@given(
    st.sampled_from(["arith.addi", "arith.subi", "arith.muli", "arith.divsi", "arith.remsi"]), LIMITS, LIMITS
)
def test_no_result_lies_beyond_the_limits(name: str, left: tuple[int, int], right: tuple[int, int]) -> None:
    found = _binary(name, left, right)
    if found is None:
        assert name in ("arith.divsi", "arith.remsi")
        return
    results = [
        result(name, a, b)
        for a in range(left[0], left[1] + 1)
        for b in range(right[0], right[1] + 1)
        if b or name not in ("arith.divsi", "arith.remsi")
    ]
    assert found[0] <= min(results)
    assert max(results) <= found[1]
    if name != "arith.remsi":
        assert found == (min(results), max(results))
