"""Tiles of kernels that walk through memory along another axis than the last one."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from heitu.kernels.triton.lowering.module import lower
from heitu.kernels.triton.reader import read


@triton.jit
def total_of_columns(x, y, out, made, columns, rows, X: tl.constexpr, R: tl.constexpr):
    at = tl.program_id(0) * X + tl.arange(0, X)[:, None]
    inside = at < columns
    total = tl.full([X, R], 0, tl.float32)
    highest = tl.full([X, R], float("-inf"), tl.float32)
    for first in tl.range(0, rows, R):
        row = first + tl.arange(0, R)[None, :]
        mask = (row < rows) & inside
        value = tl.load(x + at + columns * row, mask, other=0.0) * tl.load(y + row, row < rows, other=0.0)
        total = tl.where(mask, total + value, total)
        highest = tl.where(mask, tl.maximum(highest, value), highest)
        tl.store(made + at + columns * row, value + 1, mask)
    tl.store(out + at, tl.sum(total, 1)[:, None], inside)
    tl.store(out + columns + at, tl.max(highest, 1)[:, None], inside)


@pytest.mark.parametrize(("columns", "rows"), [(64, 32), (50, 33), (128, 7)])
@pytest.mark.parametrize(("X", "R"), [(16, 32), (64, 4), (8, 64), (32, 1), (1, 32)])
def test_sums_of_columns(columns: int, rows: int, X: int, R: int) -> None:
    x, y = torch.randn(rows, columns), torch.randn(rows)
    out, made = torch.zeros(2, columns), torch.zeros(rows, columns)
    total_of_columns[(-(-columns // X),)](x, y, out, made, columns, rows, X, R)
    value = x * y[:, None]
    torch.testing.assert_close(made, value + 1)
    torch.testing.assert_close(out, torch.stack([value.sum(0), value.amax(0)]), rtol=1e-5, atol=1e-5)


@triton.jit
def both_ways(x, out, X: tl.constexpr, R: tl.constexpr, STEP: tl.constexpr, KIND: tl.constexpr):
    i, j = tl.arange(0, X)[:, None], tl.arange(0, R)[None, :]
    first = tl.load(x + i + X * j)
    second = tl.load(x + X * R + i + X * j)
    if STEP == 1:
        first, second = second, first * 2
    value = first * 3 + second
    if KIND == "rows":
        tl.store(out + i + X * j, value - tl.sum(value, 1)[:, None])
    elif KIND == "columns":
        tl.store(out + i + X * j, value - tl.sum(value, 0)[None, :])
    elif KIND == "turned":
        tl.store(out + tl.arange(0, R)[:, None] + R * tl.arange(0, X)[None, :], tl.trans(value))
    elif KIND == "added up":
        tl.store(out + i + X * j, tl.cumsum(value, 1) + tl.max(value, 1)[:, None])
    elif KIND == "flat":
        tl.store(out + tl.arange(0, X * R), tl.reshape(value, [X * R]))
    elif KIND == "where":
        place = tl.argmax(value, 0)
        tl.store(out + i + X * j, tl.where(i == place[None, :], value, first))


@pytest.mark.parametrize("kind", ["rows", "columns", "turned", "added up", "flat", "where"])
@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(("X", "R"), [(16, 32), (32, 8)])
def test_what_is_done_with_such_tiles(kind: str, step: int, X: int, R: int) -> None:
    x, out = torch.randn(2, R, X), torch.empty(X * R)
    both_ways[(1,)](x, out, X, R, step, kind)
    first, second = x[0].T, x[1].T
    if step:
        first, second = second, first * 2
    value = first * 3 + second
    wanted = {
        "rows": lambda: (value - value.sum(1, keepdim=True)).T,
        "columns": lambda: (value - value.sum(0)).T,
        "turned": lambda: value,
        "added up": lambda: (value.cumsum(1) + value.amax(1, keepdim=True)).T,
        "flat": lambda: value,
        "where": lambda: torch.where(torch.arange(X)[:, None] == value.argmax(0), value, first).T,
    }[kind]()
    torch.testing.assert_close(out, wanted.reshape(-1), rtol=1e-5, atol=1e-5)


@triton.jit
def product(x, out, X: tl.constexpr, R: tl.constexpr):
    tile = tl.load(x + tl.arange(0, X)[:, None] + X * tl.arange(0, R)[None, :])
    made = tl.dot(tl.trans(tile), tile, input_precision="ieee")
    tl.store(out + tl.arange(0, R)[:, None] * R + tl.arange(0, R)[None, :], made)


def test_what_takes_rows_only() -> None:
    x = torch.randn(16, 32)
    out = torch.empty(16, 16)
    product[(1,)](x, out, 32, 16)
    torch.testing.assert_close(out, x @ x.T, rtol=1e-5, atol=1e-5)


@triton.jit
def carried(x, out, turns, X: tl.constexpr, R: tl.constexpr):
    i, j = tl.arange(0, X)[:, None], tl.arange(0, R)[None, :]
    tile = tl.load(x + i + X * j)
    other = tile + 1
    n = 0
    while n < turns:
        tile, other = other, tile * 0.5
        if n % 2 == 0:
            tile += 3
        n += 1
    tl.store(out + i + X * j, tile - other)


@pytest.mark.parametrize("turns", [0, 1, 4])
def test_such_tiles_through_loops_and_conditions(turns: int) -> None:
    x, out = torch.randn(8, 16), torch.empty(8, 16)
    carried[(1,)](x, out, turns, 16, 8)
    tile, other = x, x + 1
    for n in range(turns):
        tile, other = other, tile * 0.5
        if n % 2 == 0:
            tile = tile + 3
    torch.testing.assert_close(out, tile - other)


def test_they_lie_as_they_are_walked_through() -> None:
    x, y = torch.randn(64, 64), torch.randn(64)
    out, made = torch.zeros(2, 64), torch.zeros(64, 64)
    kernel = total_of_columns[(4,)](x, y, out, made, 64, 64, 16, 32)
    text = lower(read(kernel.asm["ttir"])).text
    assert "[i1 * 16 + i2]" in text
    assert "* 32 + i1]" not in text


@triton.jit
def scattered(x, out, N: tl.constexpr):
    place = tl.sort(tl.load(x + tl.arange(0, N)))
    for _ in tl.static_range(12):
        place = (place + place) % N + (place ^ 1) * 0
    tl.store(out + place, tl.load(x + place) + 1)


def test_places_that_many_operations_make() -> None:
    x = torch.randperm(64, dtype=torch.int32)
    out = torch.full((64,), -1, dtype=torch.int32)
    scattered[(1,)](x, out, 64)
    wanted = torch.full((64,), -1, dtype=torch.int32)
    places = (torch.arange(64) * 2**12 % 64).unique()
    wanted[places] = x[places] + 1
    assert torch.equal(out, wanted)
