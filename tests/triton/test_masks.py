"""Masks that end rows, or begin them, several in one statement."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


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
