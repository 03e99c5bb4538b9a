"""Random expressions of flat numbers, which kernels take apart with `%` and `//`, against torch."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .conftest import Load

BLOCK, PROGRAMS, MEMORY = 128, 3, 1 << 13
KERNEL = """@triton.jit
def kernel(x, out, back, start, n, B: tl.constexpr):
    i, pid = tl.arange(0, B), tl.program_id(0)
    at = pid * {stride} + tl.arange({first}, {first} + B) + {moved}
    for k in range({begin}, {begin} + {turns} * {step}, {step}):
        flat = at + k
        value = tl.broadcast_to({expression}, (B,))
        place = (k - {begin}) // {step} * 3 * B + pid * B + i
        mask = flat < n
        tl.store(out + place, value, mask=mask)
        tl.store(back + place, tl.load(x + (value & {last}), mask=mask, other=-1), mask=mask)
"""
NUMBERS = st.sampled_from([1, 2, 3, 5, 8, 16, 24, 32, 64, 96, 128, 256])


def nodes(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A part of an expression, or a sum of two."""
    parts = st.tuples(children, st.sampled_from(["%", "//", "%", "//", "*", "+"]), NUMBERS)
    return st.one_of(
        parts.map(lambda part: f"({part[0]} {part[1]} {part[2]})"),
        st.tuples(children, children).map(lambda pair: f"({pair[0]} + {pair[1]})"),
        st.tuples(children, st.integers(1, 40)).map(lambda part: f"({part[0]} - {part[1]})"),
    )


LEAVES = st.sampled_from(["flat", "flat", "flat", "i", "pid", "start"])


class Number:
    """A number as C divides it, rounding toward zero."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value

    def __add__(self, other: Any) -> Number:
        return Number(self.value + _of(other))

    def __sub__(self, other: Any) -> Number:
        return Number(self.value - _of(other))

    def __mul__(self, other: Any) -> Number:
        return Number(self.value * _of(other))

    def __mod__(self, other: Any) -> Number:
        return Number(torch.fmod(self.value, _of(other)))

    def __floordiv__(self, other: Any) -> Number:
        return Number(torch.div(self.value, _of(other), rounding_mode="trunc"))


def _of(other: Any) -> Any:
    return other.value if isinstance(other, Number) else other


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    expression=st.recursive(LEAVES, nodes, max_leaves=4),
    stride=st.sampled_from([BLOCK, BLOCK, 64, 40]),
    first=st.sampled_from([0, 0, BLOCK, 8, 3]),
    moved=st.sampled_from([0, 0, 0, 16, 5, -64, -7]),
    loop=st.sampled_from([(0, 1, 1), (0, 2, 128), (64, 3, 24), (8, 2, 64), (-16, 2, 7)]),
    start=st.sampled_from([0, 16, 7, -24]),
    cut=st.integers(0, 500),
)
# Numbers below 0; a remainder of what is known of a program; a loop that begins anywhere; two periods.
@example("(flat % 64)", BLOCK, 0, -64, (0, 1, 1), 0, 500)
@example("((((pid * 8) % 64) + i) % 64)", BLOCK, 0, 0, (0, 1, 1), 0, 500)
@example("(flat % 64)", BLOCK, 0, 0, (8, 2, 64), 0, 500)
@example("((flat // 16) + (flat % 24))", BLOCK, 0, 0, (0, 1, 1), 0, 301)
def test_parts_of_flat_numbers(
    load: Load,
    expression: str,
    stride: int,
    first: int,
    moved: int,
    loop: tuple[int, int, int],
    start: int,
    cut: int,
) -> None:
    begin, turns, step = loop
    text = KERNEL.format(
        expression=expression,
        stride=stride,
        first=first,
        moved=moved,
        begin=begin,
        turns=turns,
        step=step,
        last=MEMORY - 1,
    )
    x = torch.randperm(MEMORY, generator=torch.Generator().manual_seed(0)).int()
    out = torch.full((turns, PROGRAMS, BLOCK), -5, dtype=torch.int32)
    back = out.clone()
    load(text).kernel[(PROGRAMS,)](x, out, back, start, cut, BLOCK)

    i = torch.arange(BLOCK)
    program, turn = torch.arange(PROGRAMS)[:, None], torch.arange(turns)[:, None, None]
    flat = program * stride + i + first + moved + begin + turn * step
    known = {"flat": flat, "i": i, "pid": program, "start": torch.tensor(start)}
    numbers = {name: Number(number) for name, number in known.items()}
    value = (eval(expression, numbers).value + torch.zeros_like(flat)).int()
    kept = flat < cut
    assert torch.equal(out, torch.where(kept, value, -5))
    assert torch.equal(back, torch.where(kept, x[(value & MEMORY - 1).long()], -5))


@triton.jit
def two_axes(out, N: tl.constexpr):
    i, j = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    at = i * N + j
    tl.store(out + at, (i + j) % N)
    tl.store(out + N * N + at, at % 48 + at // 48)


def test_two_axes_of_one_extent() -> None:
    out = torch.empty(2, 32, 32, dtype=torch.int32)
    two_axes[(1,)](out, 32)
    i, j = torch.arange(32)[:, None], torch.arange(32)[None, :]
    at = i * 32 + j
    assert torch.equal(out, torch.stack([(i + j) % 32, at % 48 + at // 48]).int())
