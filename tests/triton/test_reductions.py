"""Reductions along long rows, which are added up in parts, against torch."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

ROWS = 3


@triton.jit
def _xor(a, b):
    return a ^ b


@triton.jit
def _product(a, b):
    return a * b


@triton.jit
def statistics(x, out, columns, B: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, B)
    mask = at < columns
    value = tl.load(x + row * columns + at, mask=mask, other=0.0)
    mean = tl.sum(value, 0) / columns
    centred = tl.where(mask, value - mean, 0.0)
    tl.store(out + row * 5, mean)
    tl.store(out + row * 5 + 1, tl.sum(centred * centred, 0))
    tl.store(out + row * 5 + 2, tl.max(tl.where(mask, centred, float("-inf")), 0))
    tl.store(out + row * 5 + 3, tl.min(tl.where(mask, centred, float("inf")), 0))
    tl.store(out + row * 5 + 4, tl.reduce(tl.where(mask, 1 + centred / 100, 1.0), 0, _product))


@triton.jit
def whole_numbers(x, out, columns, B: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, B)
    mask = at < columns
    value = tl.load(x + row * columns + at, mask=mask, other=0)
    value += tl.max(value, 0) % 7
    tl.store(out + row * 4, tl.sum(tl.where(mask, value, 0), 0))
    tl.store(out + row * 4 + 1, tl.max(tl.where(mask, value, -(2**31)), 0))
    tl.store(out + row * 4 + 2, tl.min(tl.where(mask, value, 2**31 - 1), 0))
    tl.store(out + row * 4 + 3, tl.reduce(tl.where(mask, value, 0), 0, _xor))


@pytest.mark.parametrize("columns", [1, 3, 255, 256, 1000, 1021, 1024])
def test_floats(columns: int) -> None:
    generator = torch.Generator().manual_seed(columns)
    x = torch.randn(ROWS, columns, generator=generator)
    out = torch.empty(ROWS, 5)
    kernel = statistics[(ROWS,)](x, out, columns, 1024)
    assert kernel.asm["c"].count("= turn") == 16  # four reductions in four parts; the first one reads memory
    centred = x.double() - x.double().mean(1, keepdim=True)
    expected = [
        x.double().mean(1),
        (centred**2).sum(1),
        centred.amax(1),
        centred.amin(1),
        (1 + centred / 100).prod(1),
    ]
    torch.testing.assert_close(out, torch.stack(expected, 1).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("place", [0, 300, 700, 999])
def test_what_is_no_number(place: int) -> None:
    x = torch.zeros(ROWS, 1000)
    x[1, place] = float("nan")
    out = torch.empty(ROWS, 5)
    statistics[(ROWS,)](x, out, 1000, 1024)
    assert out[1, :2].isnan().all()
    assert torch.equal(out[0], torch.tensor([0.0, 0, 0, 0, 1]))


@pytest.mark.parametrize("columns", [2, 511, 777, 1024])
def test_whole_numbers(columns: int) -> None:
    generator = torch.Generator().manual_seed(columns)
    x = torch.randint(-(2**31), 2**31 - 8, (ROWS, columns), generator=generator, dtype=torch.int32)
    out = torch.empty(ROWS, 4, dtype=torch.int32)
    whole_numbers[(ROWS,)](x, out, columns, 1024)
    most = x.amax(1, keepdim=True)
    rest = torch.fmod(torch.maximum(most, torch.zeros_like(most) if columns < 1024 else most), 7)
    value = x + rest
    exclusive = torch.zeros(ROWS, dtype=torch.int32)
    for column in value.T:
        exclusive ^= column
    expected = [value.sum(1).to(torch.int32), value.amax(1), value.amin(1), exclusive]
    assert torch.equal(out, torch.stack(expected, 1))


@triton.jit
def extremes(x, out, value, C: tl.constexpr, N: tl.constexpr, LEFT: tl.constexpr, AXIS: tl.constexpr):
    i, j = tl.arange(0, C)[:, None], tl.arange(0, N)[None, :]
    tile = tl.load(x + i * N + j) if AXIS == 1 else tl.load(x + j * C + i).trans()
    rows = tl.arange(0, C)
    tl.store(out + rows, tl.argmax(tile, AXIS, tie_break_left=LEFT))
    tl.store(out + C + rows, tl.argmin(tile, AXIS, tie_break_left=LEFT))
    highest, place = tl.max(tile, AXIS, return_indices=True)
    tl.store(value + rows, highest)
    tl.store(out + 2 * C + rows, place)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_argmax_and_argmin_skip_nan(left: bool, axis: int) -> None:
    nan = float("nan")
    x = torch.randn(16, 16)
    x[torch.rand(16, 16) < 0.3] = nan
    x[0], x[1, :3], x[2, 13:], x[3], x[4, 5] = nan, nan, nan, torch.arange(16.0), nan
    x[5, 0], x[5, 1:] = 1.0, nan
    x[6:, 15] = 0.5
    given = x if axis == 1 else x.T.contiguous()
    out, value = torch.empty(3, 16, dtype=torch.int32), torch.empty(16)
    extremes[(1,)](given, out, value, 16, 16, left, axis)
    highest, lowest = x.nan_to_num(-torch.inf), x.nan_to_num(torch.inf)
    wanted = torch.stack([highest.argmax(1), lowest.argmin(1), highest.argmax(1)])
    assert torch.equal(out, wanted.int())
    assert torch.equal(value[1:], highest.amax(1)[1:])
