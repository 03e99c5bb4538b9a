"""Kernels that access memory out of bounds, or that was never written; see seeded_defects.py."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from heitu.kernels.triton.checking.library import Kind
from tests.triton.seeded_cases import case

# Out of bounds


@triton.jit
def _copy_kernel(x, out, n, limit, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + at, mask=at < limit)  # here
    tl.store(out + at, value, mask=at < n)


@case(Kind.OUT_OF_BOUNDS)
def off_by_one(wrong: bool) -> None:
    x, out = torch.randn(1000), torch.empty(1000)
    _copy_kernel[(8,)](x, out, 1000, 1001 if wrong else 1000, 128)


@case(Kind.OUT_OF_BOUNDS)
def mask_of_padded_size(wrong: bool) -> None:
    x, out = torch.randn(1000), torch.empty(1000)
    _copy_kernel[(8,)](x, out, 1000, 1024 if wrong else 1000, 128)


@triton.jit
def _load_mask_kernel(x, out, n, B: tl.constexpr, WRONG: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.zeros((B,), tl.float32)
    if WRONG:
        value += tl.load(x + at)  # here
    else:
        value += tl.load(x + at, mask=at < n)
    tl.store(out + at, value, mask=at < n)


@case(Kind.OUT_OF_BOUNDS)
def load_without_mask(wrong: bool) -> None:
    _load_mask_kernel[(3,)](torch.randn(257), torch.empty(257), 257, 128, wrong)


@triton.jit
def _store_mask_kernel(x, out, n, B: tl.constexpr, WRONG: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + at, mask=at < n, other=0.0)
    if WRONG:
        tl.store(out + at, value)  # here
    else:
        tl.store(out + at, value, mask=at < n)


@case(Kind.OUT_OF_BOUNDS)
def store_without_mask(wrong: bool) -> None:
    x = torch.randn(200, dtype=torch.float16)
    _store_mask_kernel[(2,)](x, torch.empty_like(x), 200, 128, wrong)


@triton.jit
def _rows_kernel(x, out, columns, stride, B: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, B)
    value = tl.load(x + row * stride + at, mask=at < columns, other=0.0)  # here
    tl.store(out + row, tl.sum(value, 0))


@case(Kind.OUT_OF_BOUNDS)
def wrong_stride(wrong: bool) -> None:
    _rows_kernel[(16,)](torch.randn(16, 50), torch.empty(16), 50, 51 if wrong else 50, 64)


@triton.jit
def _difference_kernel(x, out, n, B: tl.constexpr, WRONG: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    first = 0 if WRONG else 1
    before = tl.load(x + at - 1, mask=(at >= first) & (at < n), other=0.0)  # here
    tl.store(out + at, tl.load(x + at, mask=at < n, other=0.0) - before, mask=at < n)


@case(Kind.OUT_OF_BOUNDS)
def negative_offset(wrong: bool) -> None:
    _difference_kernel[(2,)](torch.randn(100), torch.empty(100), 100, 64, wrong)


@triton.jit
def _transpose_kernel(x, out, M, N, B: tl.constexpr, WRONG: tl.constexpr):
    rows = tl.program_id(0) * B + tl.arange(0, B)[:, None]
    columns = tl.program_id(1) * B + tl.arange(0, B)[None, :]
    inside = (rows < M) & (columns < N)
    value = tl.load(x + rows * N + columns, mask=inside)
    if WRONG:
        inside = (rows < N) & (columns < M)
        value = tl.load(x + rows * N + columns, mask=inside)  # here
        tl.store(out + columns * M + rows, value, mask=(rows < M) & (columns < N))
    else:
        tl.store(out + columns * M + rows, value, mask=inside)


@case(Kind.OUT_OF_BOUNDS)
def extents_exchanged(wrong: bool) -> None:
    _transpose_kernel[(3, 3)](torch.randn(20, 40), torch.empty(40, 20), 20, 40, 16, wrong)


@triton.jit
def _histogram_kernel(x, bins, n, width, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + at, mask=at < n, other=0)
    tl.atomic_add(bins + value // width, 1, mask=at < n)  # here


@case(Kind.OUT_OF_BOUNDS)
def atomic_past_the_bins(wrong: bool) -> None:
    x = torch.arange(101 if wrong else 100, dtype=torch.int32)
    bins = torch.zeros(10, dtype=torch.int32)
    _histogram_kernel[(2,)](x, bins, x.numel(), 10, 64)
    assert bins.sum() == 100


@triton.jit
def _gather_kernel(table, indices, out, n, B: tl.constexpr):
    at = tl.arange(0, B)
    index = tl.load(indices + at, mask=at < n, other=0)
    tl.store(out + at, tl.load(table + index, mask=at < n), mask=at < n)  # here


@case(Kind.OUT_OF_BOUNDS)
def gather_of_a_bad_index(wrong: bool) -> None:
    indices = torch.tensor([0, 3, 9, 10 if wrong else 5])
    _gather_kernel[(1,)](torch.randn(10), indices, torch.empty(4), 4, 8)


@triton.jit
def _wide_kernel(x, out, stride, WRONG: tl.constexpr):
    row = tl.program_id(0)
    if not WRONG:
        row = row.to(tl.int64)
    at = row * stride >> 24
    tl.store(out + row, tl.load(x + at))  # here


@case(Kind.OUT_OF_BOUNDS)
def offset_that_wraps(wrong: bool) -> None:
    _wide_kernel[(4,)](torch.randn(256), torch.empty(4), 1 << 30, wrong)


@triton.jit
def _descriptor_kernel(x, out, n, rows, B: tl.constexpr):
    block = tl.make_tensor_descriptor(x, shape=[rows, n], strides=[n, 1], block_shape=[4, B])
    value = block.load([tl.program_id(0) * 4, 0])  # here
    at = tl.program_id(0) * 4 + tl.arange(0, 4)
    tl.store(out + at, tl.sum(value, 1), mask=at < 10)


@case(Kind.OUT_OF_BOUNDS)
def descriptor_of_another_shape(wrong: bool) -> None:
    triton.set_allocator(lambda size, align, stream: torch.empty(size, dtype=torch.int8))
    _descriptor_kernel[(3,)](torch.randn(10, 16), torch.empty(10), 16, 12 if wrong else 10, 16)


@triton.jit
def _product_kernel(a, b, c, K, B: tl.constexpr, WRONG: tl.constexpr):
    rows, columns, inner = tl.arange(0, B)[:, None], tl.arange(0, B)[None, :], tl.arange(0, B)
    total = tl.zeros((B, B), tl.float32)
    left, right = a + rows * K + inner[None, :], b + inner[:, None] * B + columns
    for k in range(0, K, B):
        limit = K if WRONG else K - k
        x = tl.load(left, mask=inner[None, :] < K - k, other=0.0)
        y = tl.load(right, mask=inner[:, None] < limit, other=0.0)  # here
        total = tl.dot(x, y, total)
        left += B
        right += B * B
    tl.store(c + rows * B + columns, total)


@case(Kind.OUT_OF_BOUNDS)
def operand_past_k(wrong: bool) -> None:
    _product_kernel[(1,)](torch.randn(16, 40), torch.randn(40, 16), torch.empty(16, 16), 40, 16, wrong)


@triton.jit
def _turns_kernel(x, out, n, B: tl.constexpr, WRONG: tl.constexpr):
    at = x + tl.arange(0, B)
    total = tl.zeros((B,), tl.float32)
    for _ in range(n + 1 if WRONG else n):
        total += tl.load(at)  # here
        at += B
    tl.store(out + tl.arange(0, B), total)


@case(Kind.OUT_OF_BOUNDS)
def one_turn_too_many(wrong: bool) -> None:
    _turns_kernel[(1,)](torch.randn(64), torch.empty(16), 4, 16, wrong)


@triton.jit(noinline=True)
def _element(x, at):
    return tl.load(x + at)  # here


@triton.jit
def _call_kernel(x, out, past):
    tl.store(out + tl.program_id(0), _element(x, tl.program_id(0) + past))


@case(Kind.OUT_OF_BOUNDS)
def in_a_function_that_is_called(wrong: bool) -> None:
    _call_kernel[(8,)](torch.randn(8), torch.empty(8), int(wrong))


@triton.jit
def _words_kernel(x, out, B: tl.constexpr, COUNT: tl.constexpr):
    words = x.to(tl.pointer_type(tl.int32))
    at = tl.arange(0, B)
    tl.store(out + at, tl.load(words + at, mask=at < COUNT, other=0), mask=at < COUNT)  # here


@case(Kind.OUT_OF_BOUNDS)
def element_across_the_end(wrong: bool) -> None:
    x, out = torch.zeros(5, dtype=torch.int16), torch.empty(4, dtype=torch.int32)
    _words_kernel[(1,)](x, out, 4, 3 if wrong else 2)


@triton.jit
def _slice_kernel(x, out, rows, columns, stride, B: tl.constexpr, WRONG: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, B)
    last = columns + 1 if WRONG else columns
    value = tl.load(x + row * stride + at, mask=at < last, other=0.0)  # here
    tl.store(out + row, tl.sum(value, 0))


@case(Kind.OUTSIDE_OF_VIEW)
def past_a_slice(wrong: bool) -> None:
    whole = torch.randn(8, 32)
    _slice_kernel[(8,)](whole[:, :20], torch.empty(8), 8, 20, 32, 32, wrong)


# Memory that was never written


@triton.jit
def _add_kernel(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + at, mask=at < n, other=0.0)
    tl.atomic_add(out + at % 16, value, mask=at < n)  # here


@case(Kind.UNINITIALISED)
def accumulator_without_a_start(wrong: bool) -> None:
    out = torch.empty(16) if wrong else torch.zeros(16)
    _add_kernel[(4,)](torch.randn(200), out, 200, 64)


@triton.jit
def _fill_kernel(out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, 1.0, mask=at < n)


@triton.jit
def _sum_kernel(x, out, n, B: tl.constexpr):
    at = tl.arange(0, B)
    tl.store(out, tl.sum(tl.load(x + at, mask=at < n, other=0.0), 0))  # here


@case(Kind.UNINITIALISED)
def written_in_part(wrong: bool) -> None:
    buffer, out = torch.empty(100), torch.zeros(1)
    _fill_kernel[(2,)](buffer, 90 if wrong else 100, 64)
    _sum_kernel[(1,)](buffer, out, 100, 128)


@case(Kind.UNINITIALISED)
def halves_never_written(wrong: bool) -> None:
    buffer, out = torch.randn(4).new_empty(64, dtype=torch.bfloat16), torch.zeros(1)
    if not wrong:
        buffer.copy_(torch.randn(64))  # by an operator, not by a kernel
    _sum_kernel[(1,)](buffer, out, 64, 64)


@triton.jit
def _where_kernel(x, out, first, n, B: tl.constexpr):
    at = tl.arange(0, B)
    value = tl.load(x + at, mask=at < n, other=0.0).to(tl.float32)  # here
    tl.store(out, tl.sum(tl.where(at < first, 0.0, value), 0))


@case(Kind.UNINITIALISED)
def chosen_and_never_written(wrong: bool) -> None:
    """What a selection throws away may be uninitialised."""
    x, out = torch.empty(64, dtype=torch.bfloat16), torch.zeros(1)
    x[2:60] = 1
    _where_kernel[(1,)](x, out, 1 if wrong else 2, 60, 64)


@triton.jit
def _half_kernel(x, out, chosen, B: tl.constexpr):
    at = tl.arange(0, B)
    value = tl.load(x + at)  # here
    tl.store(out + at, tl.where(at < chosen, value, 0.0))


@case(Kind.UNINITIALISED)
def chosen_one_too_many(wrong: bool) -> None:
    x, out = torch.empty(16), torch.zeros(16)
    x[:8] = 1
    _half_kernel[(1,)](x, out, 9 if wrong else 8, 16)
