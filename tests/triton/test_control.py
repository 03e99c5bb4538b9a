"""What is computed on some ways through a kernel, and not on others."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def perhaps_kernel(x, out, n, times, B: tl.constexpr):
    at = tl.arange(0, B)
    value = tl.full([B], 7.0, tl.float32)
    if n > 0:
        value = tl.load(x + at)
    total = tl.full([B], 3.0, tl.float32)
    for _ in range(times):
        total = tl.full([B], 5.0, tl.float32)
    tl.store(out + at, tl.where(at < 2, value + total, tl.where(at < 3, 7.0, 5.0)))


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize("times", [0, 2])
def test_what_is_computed_on_one_way_only(n: int, times: int) -> None:
    x, out = torch.arange(4.0), torch.empty(4)
    perhaps_kernel[(1,)](x, out, n, times, 4)
    total = 5 if times else 3
    assert out.tolist() == [(x[0].item() if n else 7) + total, (x[1].item() if n else 7) + total, 7, 5]


@triton.jit
def returning_kernel(x, out, n, B: tl.constexpr):
    at = tl.arange(0, B)
    sevens = tl.full([B], 7.0, tl.float32)
    if n == 0:
        tl.store(out + at, tl.cumsum(sevens, 0) + tl.where(at < 2, 0.0, sevens))
        return
    tl.store(out + at, tl.where(at < 2, tl.load(x + at), sevens))
    tl.store(out + at + B, tl.cumsum(sevens, 0))


@pytest.mark.parametrize(
    ("n", "expected"), [(0, [7, 14, 28, 35, 0, 0, 0, 0]), (2, [0, 1, 7, 7, 7, 14, 21, 28])]
)
def test_what_is_computed_before_a_return(n: int, expected: list[float]) -> None:
    x, out = torch.arange(4.0), torch.zeros(8)
    returning_kernel[(1,)](x, out, n, 4)
    assert out.tolist() == expected
