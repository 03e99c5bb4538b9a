"""What only some releases of Triton have."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from heitu.kernels.triton.versions import RELEASE


@triton.jit
def blocks_kernel(x, out, rows, columns, B: tl.constexpr):
    source = tl.make_block_ptr(x, (rows, columns), (columns, 1), (0, 0), (B, B), (1, 0))
    total = tl.zeros((B, B), tl.float32)
    for _ in range(0, columns, B):
        total += tl.load(source, boundary_check=(0, 1), padding_option="zero")
        source = tl.advance(source, (0, B))
    target = tl.make_block_ptr(out, (rows, B), (B, 1), (0, 0), (B, B), (1, 0))
    tl.store(target, total, boundary_check=(0,))


@pytest.mark.skipif(RELEASE >= (3, 9), reason="Triton 3.9 has no block pointers any more")
def test_block_pointers() -> None:
    x, out = torch.randn(5, 20), torch.zeros(5, 8)
    blocks_kernel[(1,)](x, out, 5, 20, 8)
    padded = torch.nn.functional.pad(x, (0, 4)).reshape(5, 3, 8)
    torch.testing.assert_close(out, padded.sum(1))


@triton.jit
def number_kernel(number, out):
    tl.store(out, number.to(tl.int64))


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63)])
def test_numbers_of_64_bits(number: int) -> None:
    out = torch.zeros(1, dtype=torch.int64)
    number_kernel[(1,)](number, out)
    assert out.item() == (number if number < 0 else -1)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_numbers_of_more_than_64_bits(number: int) -> None:
    """From 3.6 on Triton itself says so, before that the launch."""
    with pytest.raises(OverflowError):
        number_kernel[(1,)](number, torch.zeros(1, dtype=torch.int64))
