"""Masks that end rows, or begin them, several in one statement."""

from __future__ import annotations

import random

import pytest
import torch
import triton
import triton.language as tl

from tests.triton.conftest import Load


@triton.jit
def between(x, out, low, high, B: tl.constexpr):
    at = tl.arange(0, B)
    tl.store(out + at, tl.load(x + at), mask=(at < high) & (at >= low))


@pytest.mark.parametrize(("low", "high"), [(0, 64), (5, 60), (60, 5), (0, 0), (64, 64), (-3, 70)])
def test_a_row_that_begins_later(low: int, high: int) -> None:
    x, out = torch.randn(64), torch.zeros(64)
    between[(1,)](x, out, low, high, 64)
    at = torch.arange(64)
    assert torch.equal(out, torch.where((at < high) & (at >= low), x, 0))


@triton.jit
def padded(x, out, given, wanted, B: tl.constexpr):
    at = tl.arange(0, B)
    value = tl.load(x + at, mask=at < given, other=7.0)
    tl.store(out + at, tl.where(at < wanted - 8, value, -value), mask=at < wanted)


@pytest.mark.parametrize("given", [0, 11, 40, 64])
@pytest.mark.parametrize("wanted", [0, 4, 40, 64])
def test_masks_of_a_load_of_a_choice_and_of_a_store(given: int, wanted: int) -> None:
    x, out = torch.randn(64), torch.zeros(64)
    padded[(1,)](x, out, given, wanted, 64)
    at = torch.arange(64)
    value = torch.where(at < given, x, 7.0)
    value = torch.where(at < wanted - 8, value, -value)
    assert torch.equal(out, torch.where(at < wanted, value, 0))


@triton.jit
def triangle(x, out, n, B: tl.constexpr):
    i, j = tl.arange(0, B)[:, None], tl.arange(0, B)[None, :]
    value = tl.load(x + i * B + j, mask=(i < n) & (j < n), other=1.0)
    value = tl.where(j <= i, value, -1.0)
    tl.store(out + i * B + j, tl.where(j < n, value, 5.0))


@pytest.mark.parametrize("n", [0, 9, 32])
def test_rows_that_end_at_different_places(n: int) -> None:
    x, out = torch.randn(32, 32), torch.empty(32, 32)
    triangle[(1,)](x, out, n, 32)
    i, j = torch.arange(32)[:, None], torch.arange(32)[None, :]
    value = torch.where((i < n) & (j < n), x, 1.0)
    value = torch.where(j <= i, value, -1.0)
    assert torch.equal(out, torch.where(j < n, value, 5.0))


@triton.jit
def product_and_what_it_began_with(x, out, B: tl.constexpr):
    i, j = tl.arange(0, B)[:, None], tl.arange(0, B)[None, :]
    tile = tl.load(x + i * B + j)
    first = tl.dot(tile, tile, tile * 2, input_precision="ieee")
    second = tl.dot(tile, first, first, input_precision="ieee")
    tl.store(out + i * B + j, first)
    tl.store(out + B * B + i * B + j, second)


def test_a_sum_that_is_wanted_later_is_not_added_to() -> None:
    x, out = torch.randn(16, 16), torch.empty(2, 16, 16)
    product_and_what_it_began_with[(1,)](x, out, 16)
    first = x @ x + 2 * x
    torch.testing.assert_close(out, torch.stack([first, x @ first + first]), rtol=1e-4, atol=1e-4)


@triton.jit
def wherever_asked(x, asked, out, n, B: tl.constexpr):
    at = tl.arange(0, B)
    tl.store(out + at, tl.load(x + at, mask=at < n, other=9.0), mask=tl.load(asked + at) != 0)


@pytest.mark.parametrize("n", [0, 17, 64])
def test_a_load_that_ends_before_its_store(n: int) -> None:
    x, out = torch.randn(64), torch.zeros(64)
    asked = torch.randint(2, (64,), dtype=torch.int32)
    wherever_asked[(1,)](x, asked, out, n, 64)
    value = torch.where(torch.arange(64) < n, x, 9.0)
    assert torch.equal(out, torch.where(asked != 0, value, 0))


@triton.jit
def one_behind_the_other(
    a, b, c, out, rows, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr, X: tl.constexpr
):
    flat = tl.program_id(0) * X + tl.arange(0, X)
    inside = flat < rows * (A + B + C)
    column, row = flat % (A + B + C), flat // (A + B + C)
    first = tl.load(a + A * row + column, inside & (column < A), other=0.0)
    is_second = (column >= A) & (column < A + B)
    second = tl.load(b + B * row + (column - A), inside & is_second, other=0.0)
    third = tl.load(c + C * row + (column - A - B), inside & (column >= A + B), other=0.0)
    tl.store(out + flat, tl.where(column < A, first, tl.where(is_second, second, third)), inside)


@pytest.mark.parametrize(
    ("A", "B", "C"), [(64, 64, 64), (64, 32, 96), (32, 16, 16), (5, 60, 3), (128, 1, 127)]
)
@pytest.mark.parametrize("X", [16, 64, 256])
def test_masks_of_which_one_holds(A: int, B: int, C: int, X: int) -> None:
    parts = [torch.randn(7, extent) for extent in (A, B, C)]
    out = torch.full((7 * (A + B + C) + 8,), -5.0)
    one_behind_the_other[(-(-7 * (A + B + C) // X),)](*parts, out, 7, A, B, C, X)
    assert torch.equal(out[:-8], torch.cat(parts, 1).reshape(-1))
    assert (out[-8:] == -5).all()


@triton.jit
def loop_to_a_constant(x, out, N: tl.constexpr, START: tl.constexpr, STEP: tl.constexpr, B: tl.constexpr):
    for first in tl.range(START, N, STEP):
        at = first + tl.arange(0, B)
        inside = (at < N) & (at >= 0)
        tl.store(out + at, tl.load(x + at, inside, other=0.0) + tl.where(at <= N - 1, 1, 2), inside)


@pytest.mark.parametrize("N", [128, 100, 31, 0])
@pytest.mark.parametrize(("start", "step"), [(0, 32), (3, 32), (-32, 32), (0, 7)])
def test_masks_that_may_always_hold(N: int, start: int, step: int) -> None:
    x, out = torch.randn(160), torch.zeros(160)
    loop_to_a_constant[(1,)](x, out, N, start, step, 32)
    wanted = torch.zeros(160)
    for first in range(start, N, step):
        wanted[max(first, 0) : min(first + 32, N)] = x[max(first, 0) : min(first + 32, N)] + 1
    assert torch.equal(out, wanted)


@triton.jit
def beyond_the_type(out, B: tl.constexpr):
    at = tl.arange(0, B)
    tl.store(out + at, tl.where(at + 2147483640 < 2147483647, at, -1), mask=at * 2147483647 >= -10000000)


def test_limits_where_numbers_wrap() -> None:
    out = torch.full((32,), 7, dtype=torch.int32)
    beyond_the_type[(1,)](out, 32)
    at = torch.arange(32, dtype=torch.int32)
    wanted = torch.where(at + 2147483640 < 2147483647, at, -1)
    assert torch.equal(out, torch.where(at * 2147483647 >= -10000000, wanted, 7))


@triton.jit
def whole_rows(x, out, COLUMNS: tl.constexpr, n, X: tl.constexpr, R: tl.constexpr):
    i = tl.program_id(0) * X + tl.arange(0, X)[:, None]
    j = tl.arange(0, R)[None, :]
    value = tl.load(x + i + COLUMNS * j, (i < COLUMNS) & (j < n), other=2.0)
    value = tl.where(i < COLUMNS, value, 3.0)
    tl.store(out + i + 256 * j, tl.where(j < n, value, -value))


@pytest.mark.parametrize("columns", [128, 256, 40])
@pytest.mark.parametrize("X", [8, 32, 128])
def test_masks_that_hold_for_whole_rows(columns: int, X: int) -> None:
    x, out = torch.randn(4, columns), torch.empty(4, 256)
    whole_rows[(256 // X,)](x, out, columns, 3, X, 4)
    wanted = torch.full((4, 256), 3.0)
    wanted[:3, :columns], wanted[3, :columns] = x[:3], 2.0
    wanted[3] *= -1
    assert torch.equal(out, wanted)


NUMBERS = (0, 1, 2, 7, 31, 32, 33, 64, 2**20, 2**30, 2**31 - 40, -1, -2, -33)
SIGNS = ("<", "<=", ">", ">=", "==", "!=")
BOTH = {"//": "quotient({}, {})", "%": "remainder({}, {})"}


def number(chance: random.Random, depth: int) -> tuple[str, str]:
    """An expression of places in a row, counters and constants: as Triton takes it, and as torch does."""
    if depth == 0 or chance.random() < 0.2:
        name = chance.choice(["at", "at", "turn", "program"])
        return name, name
    first = number(chance, depth - 1)
    sign = chance.choice(["+", "+", "-", "-", "*", "//", "%"])
    if sign in BOTH:
        by = str(chance.choice([1, 3, 8, 32]))
        return f"({first[0]} {sign} {by})", BOTH[sign].format(first[1], by)
    constant = str(chance.choice(NUMBERS))
    second = (constant, constant) if chance.random() < 0.6 else number(chance, depth - 1)
    return f"({first[0]} {sign} {second[0]})", f"({first[1]} {sign} {second[1]})"


def truncated(first: torch.Tensor, by: int) -> torch.Tensor:
    return torch.div(first, by, rounding_mode="trunc")


@pytest.mark.parametrize("seed", range(8))
def test_comparisons_of_numbers_with_known_limits(load: Load, seed: int) -> None:
    chance = random.Random(seed)
    tests = []
    for _ in range(40):
        left, sign = number(chance, 3), chance.choice(SIGNS)
        right = (str(chance.choice(NUMBERS)),) * 2 if chance.random() < 0.7 else number(chance, 1)
        tests.append(tuple(f"{a} {sign} {b}" for a, b in zip(left, right, strict=True)))
    start, stop, step = chance.choice([(0, 64, 32), (0, 3, 1), (5, 40, 7), (-32, 32, 16), (3, 4, 9)])
    lines = "".join(
        f"        tl.store(out + {k * 32} + at, tl.where({test}, at + 1, 0))\n"
        for k, (test, _) in enumerate(tests)
    )
    module = load(
        "@triton.jit\ndef judged(result, B: tl.constexpr):\n"
        "    at = tl.arange(0, B)\n    program = tl.program_id(0)\n"
        f"    for turn in tl.range({start}, {stop}, {step}):\n"
        f"        out = result + ((turn - {start}) // {step} * 2 + program) * {len(tests) * 32}\n{lines}"
    )
    turns = range(start, stop, step)
    found = torch.full((len(turns), 2, len(tests), 32), -1, dtype=torch.int32)
    module.judged[(2,)](found, 32)
    names = {"quotient": truncated, "remainder": torch.fmod, "at": torch.arange(32, dtype=torch.int32)}
    for row, turn in enumerate(turns):
        for program in range(2):
            names["turn"], names["program"] = torch.tensor([[turn], [program]], dtype=torch.int32)
            for k, (text, test) in enumerate(tests):
                wanted = torch.where(eval(test, dict(names)), names["at"] + 1, 0)
                assert torch.equal(found[row, program, k], wanted), (text, turn, program)


@triton.jit
def at_most(x, out, LIMIT: tl.constexpr, flag, n, X: tl.constexpr, R: tl.constexpr, KIND: tl.constexpr):
    i = tl.program_id(0) * X + tl.arange(0, X)[None, :]
    j = tl.arange(0, R)[:, None]
    value = tl.load(x + 256 * j + i, i < n, other=5.0)
    if KIND == "at most":
        value = tl.where(i <= LIMIT, value, 2.0)
    elif KIND == "beyond":
        value = tl.where(i > LIMIT, value, 2.0)
    elif KIND == "turned":
        value = tl.where(i >= LIMIT, tl.where(j < LIMIT, value, 2.0), 3.0)
    elif KIND == "rows":
        value = tl.where(j < 2, value, 2.0)
    elif KIND == "flag":
        value = tl.where(flag > 0, value, 2.0)
    tl.store(out + 256 * j + i, value, i < 250)


@pytest.mark.parametrize("kind", ["at most", "beyond", "turned", "rows", "flag"])
@pytest.mark.parametrize("X", [8, 64, 256])
@pytest.mark.parametrize(("limit", "flag", "n"), [(128, 1, 256), (64, 0, 200), (0, 1, 64), (3, 0, 7)])
def test_choices_that_hold_for_rows_or_parts_of_them(
    kind: str, X: int, limit: int, flag: int, n: int
) -> None:
    x, out = torch.randn(4, 256), torch.full((4, 256), -7.0)
    at_most[(256 // X,)](x, out, limit, flag, n, X, 4, kind)
    i, j = torch.arange(256)[None, :], torch.arange(4)[:, None]
    value = torch.where(i < n, x, 5.0)
    wanted = {
        "at most": torch.where(i <= limit, value, 2.0),
        "beyond": torch.where(i > limit, value, 2.0),
        "turned": torch.where(i >= limit, torch.where(limit > j, value, 2.0), 3.0),
        "rows": torch.where(j < 2, value, 2.0),
        "flag": value if flag else torch.full_like(value, 2.0),
    }[kind]
    assert torch.equal(out, torch.where(i < 250, wanted, -7.0))


@triton.jit
def partly(x, asked, out, n, B: tl.constexpr):
    at = tl.arange(0, B)
    both = (tl.load(asked + at) != 0) & (at < n)
    tl.store(out + at, tl.load(x + at, both, other=4.0), mask=at < 60)


@pytest.mark.parametrize("n", [0, 30, 64])
def test_masks_of_which_a_part_ends_rows(n: int) -> None:
    x, out, asked = torch.randn(64), torch.zeros(64), torch.randint(2, (64,), dtype=torch.int32)
    partly[(1,)](x, asked, out, n, 64)
    at = torch.arange(64)
    wanted = torch.where((asked != 0) & (at < n), x, 4.0)
    assert torch.equal(out, torch.where(at < 60, wanted, 0))
