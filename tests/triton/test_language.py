"""The language, on tensors of the CPU, against torch's own operators."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    torch.manual_seed(0)


@triton.jit
def softmax_kernel(x, out, columns, stride, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    value = tl.load(x + row * stride + at, mask=at < columns, other=-float("inf"))
    value = tl.exp(value - tl.max(value, 0))
    tl.store(out + row * stride + at, value / tl.sum(value, 0), mask=at < columns)


@pytest.mark.parametrize("columns", [1, 17, 256, 1000, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_softmax(columns: int, dtype: torch.dtype) -> None:
    x = torch.randn(13, columns, dtype=dtype)
    out = torch.empty_like(x)
    softmax_kernel[(13,)](x, out, columns, columns, triton.next_power_of_2(columns))
    torch.testing.assert_close(out, torch.softmax(x.float(), 1).to(dtype), rtol=1e-2, atol=1e-3)


@triton.jit
def product_kernel(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    left = a + rows[:, None] * K + inner[None, :]
    right = b + inner[:, None] * N + columns[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        x = tl.load(left, mask=(rows[:, None] < M) & (inner[None, :] + k < K), other=0.0)
        y = tl.load(right, mask=(inner[:, None] + k < K) & (columns[None, :] < N), other=0.0)
        total = tl.dot(x, y, total)
        left += BK
        right += BK * N
    tl.store(
        c + rows[:, None] * N + columns[None, :],
        total.to(c.dtype.element_ty),
        mask=(rows[:, None] < M) & (columns[None, :] < N),
    )


@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 64), (33, 70, 50), (128, 32, 257), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_product(m: int, n: int, k: int, dtype: torch.dtype) -> None:
    a, b = torch.randn(m, k, dtype=dtype), torch.randn(k, n, dtype=dtype)
    c = torch.empty(m, n, dtype=dtype)
    product_kernel[(triton.cdiv(m, 32), triton.cdiv(n, 32))](a, b, c, m, n, k, 32, 32, 32)
    torch.testing.assert_close(c.float(), a.float() @ b.float(), rtol=1e-2, atol=1e-2)


@triton.jit
def attention_kernel(Q, K, V, out, scale, N, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    d, columns = tl.arange(0, D), tl.arange(0, BN)
    q = tl.load(Q + rows[:, None] * D + d[None, :], mask=rows[:, None] < N, other=0.0)
    top = tl.full([BM], -float("inf"), tl.float32)
    weight = tl.zeros([BM], tl.float32)
    total = tl.zeros([BM, D], tl.float32)
    for start in range(0, tl.minimum((tl.program_id(0) + 1) * BM, N), BN):
        here = start + columns
        k = tl.load(K + here[:, None] * D + d[None, :], mask=here[:, None] < N, other=0.0)
        v = tl.load(V + here[:, None] * D + d[None, :], mask=here[:, None] < N, other=0.0)
        score = tl.dot(q, tl.trans(k)) * scale
        score = tl.where(rows[:, None] >= here[None, :], score, -1e30)
        higher = tl.maximum(top, tl.max(score, 1))
        shrink, p = tl.exp(top - higher), tl.exp(score - higher[:, None])
        weight = weight * shrink + tl.sum(p, 1)
        total = total * shrink[:, None] + tl.dot(p.to(v.dtype), v)
        top = higher
    tl.store(out + rows[:, None] * D + d[None, :], total / weight[:, None], mask=rows[:, None] < N)


@pytest.mark.parametrize("length", [64, 100])
def test_causal_attention(length: int) -> None:
    q, k, v = (torch.randn(length, 32) for _ in range(3))
    out = torch.empty_like(q)
    attention_kernel[(triton.cdiv(length, 32),)](q, k, v, out, 32**-0.5, length, 32, 32, 16)
    expected = torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@triton.jit
def order_kernel(x, sums, sorted_, index, B: tl.constexpr):
    at = tl.arange(0, B)
    value = tl.load(x + at)
    tl.store(sums + at, tl.cumsum(value, 0))
    tl.store(sorted_ + at, tl.sort(value))
    tl.store(index, tl.argmax(value, 0))


def test_scan_sort_and_argmax() -> None:
    x = torch.randperm(64).float()
    sums, sorted_, index = torch.empty_like(x), torch.empty_like(x), torch.empty(1, dtype=torch.int32)
    order_kernel[(1,)](x, sums, sorted_, index, 64)
    torch.testing.assert_close(sums, x.cumsum(0))
    assert torch.equal(sorted_, x.sort().values)
    assert index.item() == x.argmax().item()


@triton.jit
def two_passes_kernel(x, out, rows, columns, R: tl.constexpr, B: tl.constexpr):
    row = tl.program_id(0) * R + tl.arange(0, R)[:, None]
    total = tl.full([R, B], 0, tl.float32)
    for start in range(0, columns, B):
        at = start + tl.arange(0, B)[None, :]
        mask = (at < columns) & (row < rows)
        value = tl.load(x + row * columns + at, mask=mask, other=0.0)
        total = tl.where(mask, total + value, total)
    mean = tl.sum(total, 1)[:, None] / columns
    for start in range(0, columns, B):
        at = start + tl.arange(0, B)[None, :]
        mask = (at < columns) & (row < rows)
        value = tl.load(x + row * columns + at, mask=mask)
        tl.store(out + row * columns + at, value - mean, mask=mask)


def test_what_a_loop_reads_is_not_read_behind_it() -> None:
    x = torch.randn(7, 100)
    out = torch.empty_like(x)
    two_passes_kernel[(4,)](x, out, 7, 100, 2, 32)
    torch.testing.assert_close(out, x - x.mean(1, keepdim=True), rtol=1e-5, atol=1e-6)


@triton.jit
def count_kernel(x, bins, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + at, mask=at < n, other=0)
    tl.atomic_add(bins + value, 1, mask=at < n)


def test_programs_that_add_to_the_same_memory() -> None:
    x = torch.randint(0, 7, (5000,), dtype=torch.int32)
    bins = torch.zeros(7, dtype=torch.int32)
    count_kernel[(triton.cdiv(5000, 64),)](x, bins, 5000, 64)
    assert torch.equal(bins, torch.bincount(x, minlength=7).int())


@triton.jit
def early_kernel(x, out, n):
    if tl.program_id(0) >= n:
        return
    value = tl.load(x + tl.program_id(0))
    steps = 0
    while value > 1:
        value = value // 2 if value % 2 == 0 else 3 * value + 1
        steps += 1
    tl.store(out + tl.program_id(0), steps)


def test_early_return_and_while() -> None:
    x = torch.arange(1, 11, dtype=torch.int32)
    out = torch.full((10,), -1, dtype=torch.int32)
    early_kernel[(10,)](x, out, 9)
    assert out.tolist() == [0, 1, 7, 2, 5, 8, 16, 3, 19, -1]


@triton.jit
def shift_kernel(x, B: tl.constexpr):
    at = tl.arange(0, B)
    tl.store(x + at + 1, tl.load(x + at))


def test_a_tile_is_read_before_it_is_overwritten() -> None:
    x = torch.arange(65, dtype=torch.float32)
    shift_kernel[(1,)](x, 64)
    assert torch.equal(x, torch.cat([torch.zeros(1), torch.arange(64.0)]))


@triton.jit
def masked_loop_kernel(x, rows, columns, factor, times, B: tl.constexpr):
    i, j = tl.arange(0, B)[:, None], tl.arange(0, B)[None, :]
    mask = (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
    value = tl.load(x + i * B + j, mask=mask, other=0)
    for _ in range(times):
        value = factor * value
    tl.store(x + i * B + j, value, mask=mask)


def test_a_mask_that_is_used_twice() -> None:
    x = torch.arange(16).reshape(4, 4)
    expected = x.clone()
    expected[:3, :2] *= 8
    masked_loop_kernel[(1,)](x, 3, 2, 2, 3, 4)
    assert torch.equal(x, expected)


@triton.jit
def descriptor_kernel(source, target, M: tl.constexpr, N: tl.constexpr):
    target.store([0, 0], tl.trans(source.load([1, 2])))


def test_descriptors() -> None:
    x, y = torch.randn(9, 12), torch.empty(8, 8)
    described = TensorDescriptor.from_tensor(x, block_shape=[8, 8])
    descriptor_kernel[(1,)](described, TensorDescriptor.from_tensor(y, block_shape=[8, 8]), 8, 8)
    assert torch.equal(y, x[1:9, 2:10].t())


@triton.jit
def assert_kernel(x):
    tl.device_assert(tl.load(x) > 0, "must be positive")


def test_an_assertion_names_its_line() -> None:
    assert_kernel[(1,)](torch.ones(1), debug=True)
    with pytest.raises(RuntimeError, match=r"device-side assert triggered: .*test_language\.py:\d+: must be"):
        assert_kernel[(1,)](-torch.ones(1), debug=True)


GLUON = """
import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

@gluon.jit
def kernel(x):
    gl.store(x, 1.0)

kernel[(1,)](torch.zeros(1))
"""


@triton.jit
def assembly_kernel(x):
    tl.store(x, tl.inline_asm_elementwise("mov.u32 $0, $1;", "=r,r", [tl.load(x)], tl.int32, True, 1))


def test_assembly_is_refused_by_name() -> None:
    with pytest.raises(Exception, match=r"test_language\.py:\d+:\d+: .*tt\.elementwise_inline_asm"):
        assembly_kernel[(1,)](torch.zeros(1, dtype=torch.int32))


def test_gluon_is_refused_by_name(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(GLUON)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=300
    )
    assert "NotImplementedError: Heitu's CPU backend compiles kernels of triton.language" in done.stderr


def test_equal_kernels_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from heitu.kernels.triton import compilation

    x = torch.randn(2, 64)
    out = torch.empty_like(x)
    softmax_kernel[(2,)](x, out, 64, 64, 64, num_warps=4)
    runs: list[Any] = []
    monkeypatch.setattr(compilation, "run_compiler", runs.append)
    softmax_kernel[(2,)](x, out, 64, 64, 64, num_warps=8, num_stages=5)
    assert runs == []


@triton.jit
def copy_kernel(source, target):
    target.store([0, 0], source.load([0, 8]))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16])
def test_no_number_stands_behind_the_end_of_a_descriptor(dtype: torch.dtype) -> None:
    x, y = torch.ones(16, 16).to(dtype), torch.zeros(16, 16).to(dtype)
    source = TensorDescriptor.from_tensor(x, [16, 16])
    if not hasattr(source, "padding"):
        pytest.skip("descriptors have no padding of their own before Triton 3.5")
    source.padding = "nan"
    copy_kernel[(1,)](source, TensorDescriptor.from_tensor(y, [16, 16]))
    assert y[:, :8].float().eq(1).all()
    assert y[:, 8:].float().isnan().all()


def test_what_programs_divide_by_in_order_to_choose_a_grid() -> None:
    from triton.compiler import CompiledKernel

    x = torch.randn(2, 64)
    kernel = softmax_kernel.warmup(x, torch.empty_like(x), 64, 64, 64, grid=(1,), num_warps=8)
    assert isinstance(kernel, CompiledKernel)
    kernel._init_handles()
    assert kernel.n_regs > 0
    assert kernel.metadata.shared == 32


def test_a_tuner_does_not_repeat_what_takes_long() -> None:
    calls = []
    bench = triton.runtime.driver.active.get_benchmarker()

    def slow() -> None:
        calls.append(1)
        time.sleep(0.06)

    assert 60 <= bench(slow, quantiles=(0.5, 0.2, 0.8))[0] < 1000
    assert len(calls) == 2
    assert isinstance(bench(slow), float)
    assert len(bench(lambda: time.sleep(0.03), return_mode="all")) == 3
    assert bench(lambda: None) < 1  # by Triton's own


@triton.jit
def parts_kernel(x, bias, out, n, first, M: tl.constexpr, K: tl.constexpr, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B) + first
    ok = at < n
    column, row = at % M, at // M
    value = tl.load(x + at, mask=ok) + tl.load(bias + column, mask=ok) + row % K
    value = tl.where(row < 3, value, -value)
    tl.store(out + row + column * (n // M), value, mask=ok)


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize(
    ("m", "k", "block", "rows"),
    [(64, 16, 1024, 40), (768, 3, 1024, 5), (16, 7, 128, 10), (12, 5, 64, 10), (1024, 4, 256, 4)],
)
def test_parts_of_a_flat_number(m: int, k: int, block: int, rows: int, first: int) -> None:
    x, bias = torch.randn(m * rows), torch.randn(m)
    out = torch.zeros(m, rows)
    parts_kernel[(triton.cdiv(m * rows, block),)](x, bias, out, m * rows, first, m, k, block)
    row = torch.arange(rows)[:, None]
    expected = x.view(rows, m) + bias + row % k
    expected = torch.where(row < 3, expected, -expected).flatten()
    expected[:first] = 0
    torch.testing.assert_close(out, expected.view(rows, m).t())


@triton.jit
def columns_kernel(x, out, total, XB: tl.constexpr, RB: tl.constexpr):
    at = tl.program_id(0) * XB + tl.arange(0, XB)[:, None]
    inner = tl.arange(0, RB)[None, :]
    sums = tl.full([XB, RB], 0, tl.float32)
    for first in tl.range(0, 100, RB):
        row = first + inner
        place = at % 256 + 256 * row + 25600 * (at // 256)
        value = tl.load(x + place, row < 100, other=0.0) * 2
        sums = tl.where(row < 100, sums + value, sums)
        tl.store(out + place, value, row < 100)
    tl.store(total + at, tl.sum(sums, 1)[:, None])


@pytest.mark.parametrize(("columns", "rows"), [(16, 32), (64, 8), (512, 2), (1, 128)])
def test_sums_of_columns(columns: int, rows: int) -> None:
    x = torch.randn(2, 100, 256)
    out, total = torch.empty_like(x), torch.empty(2, 256)
    columns_kernel[(512 // columns,)](x, out, total, columns, rows)
    assert torch.equal(out, x * 2)
    torch.testing.assert_close(total, out.sum(1))


@triton.jit
def carried_kernel(x, out, turns, B: tl.constexpr):
    at = tl.arange(0, B)
    a = tl.load(x + at)
    b = a + 1
    both = a
    same = b
    for turn in range(turns):
        kept = a
        a = b
        b = kept + b
        both = b * 2
        same = both
        if turn == 1:
            both = a
    tl.store(out + at, a)
    tl.store(out + B + at, b)
    tl.store(out + 2 * B + at, both)
    tl.store(out + 3 * B + at, same)


@pytest.mark.parametrize("turns", range(5))
def test_what_loops_carry(turns: int) -> None:
    x = torch.randn(32)
    out = torch.empty(4, 32)
    carried_kernel[(1,)](x, out, turns, 32)
    a, b, both, same = x, x + 1, x, x + 1
    for turn in range(turns):
        a, b = b, a + b
        both = same = b * 2
        if turn == 1:
            both = a
    torch.testing.assert_close(out, torch.stack([a, b, both, same]))


@triton.jit
def kept_broadcast_kernel(x, out, other, N: tl.constexpr):
    at = tl.arange(0, N)
    value = tl.exp(tl.load(x + tl.arange(0, 1))).reshape([1, 1]).broadcast_to([N, 1]).reshape([N])
    tl.store(out + at, value)
    tl.store(other + at, value)


def test_one_element_is_kept_as_many() -> None:
    """What is the same for all elements is kept for a later use."""
    x = torch.randn(1)
    out, other = torch.empty(16), torch.empty(16)
    kept_broadcast_kernel[(1,)](x, out, other, 16)
    torch.testing.assert_close(out, torch.exp(x).expand(16))
    torch.testing.assert_close(other, out)
