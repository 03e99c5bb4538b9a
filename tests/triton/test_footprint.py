"""The estimate of shared memory, and what Triton's own compiler takes for NVIDIA's GPUs. None is needed."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler import ASTSource

from heitu.kernels.triton.footprint import shared_memory
from heitu.kernels.triton.reader import read
from heitu.kernels.triton.versions import RELEASE

pytestmark = pytest.mark.skipif(RELEASE != (3, 9), reason="other releases may take other numbers of copies")
KEPT_BACK = {80: 1, 90: 0}


@triton.jit
def one_product(a, b, c, o, N, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr):
    m, w, k = tl.arange(0, M), tl.arange(0, W), tl.arange(0, K)
    total = tl.zeros((M, W), tl.float32)
    for i in range(0, N, K):
        x = tl.load(a + m[:, None] * N + (i + k)[None, :])
        total = tl.dot(x, tl.load(b + (i + k)[:, None] * W + w[None, :]), total)
    tl.store(o + m[:, None] * W + w[None, :], total.to(tl.float16))


@triton.jit
def two_products(a, b, c, o, N, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr):
    m, w, k = tl.arange(0, M), tl.arange(0, W), tl.arange(0, K)
    total, other = tl.zeros((M, W), tl.float32), tl.zeros((M, W), tl.float32)
    for i in range(0, N, K):
        x = tl.load(a + m[:, None] * N + (i + k)[None, :])
        total = tl.dot(x, tl.load(b + (i + k)[:, None] * W + w[None, :]), total)
        other = tl.dot(x, tl.load(c + (i + k)[:, None] * W + w[None, :]), other)
    tl.store(o + m[:, None] * W + w[None, :], (total * other).to(tl.float16))


@triton.jit
def gathered(a, b, c, o, N, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr):
    m, w, k = tl.arange(0, M), tl.arange(0, W), tl.arange(0, K)
    total = tl.zeros((M, W), tl.float32)
    for i in range(0, N, K):
        at = tl.load(c + i + k).to(tl.int32)
        x = tl.load(a + m[:, None] * N + at[None, :])
        total = tl.dot(x, tl.load(b + at[:, None] * W + w[None, :]), total)
    tl.store(o + m[:, None] * W + w[None, :], total.to(tl.float16))


@triton.jit
def attention(a, b, c, o, N, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr):
    m, w, k = tl.arange(0, M), tl.arange(0, W), tl.arange(0, K)
    q = tl.load(a + m[:, None] * K + k[None, :])
    most, weight, total = (
        tl.full((M,), -1e30, tl.float32),
        tl.zeros((M,), tl.float32),
        tl.zeros((M, K), tl.float32),
    )
    for i in range(0, N, W):
        score = tl.dot(q, tl.load(b + (i + w)[None, :] * K + k[:, None]))
        new = tl.maximum(most, tl.max(score, 1))
        p, scale = tl.exp2(score - new[:, None]), tl.exp2(most - new)
        weight, most = weight * scale + tl.sum(p, 1), new
        v = tl.load(c + (i + w)[:, None] * K + k[None, :])
        total = tl.dot(p.to(v.dtype), v, total * scale[:, None])
    tl.store(o + m[:, None] * K + k[None, :], (total / weight[:, None]).to(tl.float16))


@triton.jit
def chained(a, b, c, o, N, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr):
    m, w, k = tl.arange(0, M), tl.arange(0, W), tl.arange(0, K)
    total = tl.zeros((M, W), tl.float32)
    x = tl.load(a + m[:, None] * N + k[None, :])
    for i in range(0, N, K):
        y = tl.load(b + (i + k)[None, :] * W + w[:, None])
        total += tl.dot(x, tl.trans(y)) * 2
        z = tl.load(c + (i + m)[:, None] * K + k[None, :])
        total = tl.dot(z, tl.trans(y), total)
    tl.store(o + m[:, None] * W + w[None, :], total.to(tl.float16))


@pytest.fixture(autouse=True)
def _no_machine_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is asked is known before PTX is made, which takes most of the time."""

    def make_ptx(self: Any, source: Any, metadata: dict[str, Any], *_: Any) -> str:
        metadata["name"] = "kernel"
        return ""

    monkeypatch.setattr(CUDABackend, "make_ptx", make_ptx)
    monkeypatch.setattr(CUDABackend, "make_cubin", lambda *_: b"")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def both(kernel: Any, tile: tuple[int, int, int], arch: int, warps: int, stages: int) -> tuple[int, int]:
    """The estimate, and what Triton takes, in bytes."""
    names = kernel.arg_names
    constants = dict(zip("MWK", tile, strict=True))
    types = {name: "constexpr" if name in constants else "i32" if name == "N" else "*fp16" for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name not in constants}
    at = {(names.index(name),): value for name, value in constants.items()}
    made = triton.compile(
        ASTSource(kernel, types, constexprs=at, attrs=aligned),
        target=GPUTarget("cuda", arch, 32),
        options={"num_stages": stages, "num_warps": warps},
    )
    estimate = shared_memory(read(made.asm["ttir"]).kernel, warps, stages, KEPT_BACK[arch])
    return estimate.bytes, made.metadata.shared


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("kernel", [one_product, two_products], ids=["one", "two"])
def test_products_that_do_not_wait_for_each_other(kernel: Any, arch: int) -> None:
    for tile, stages, warps in product(
        [(16, 64, 64), (32, 32, 32), (64, 64, 64), (128, 64, 64)], (2, 4), (4, 8)
    ):
        estimate, taken = both(kernel, tile, arch, warps, stages)
        assert estimate == taken, (tile, stages, warps)


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("kernel", [gathered, attention, chained], ids=["gathered", "attention", "chained"])
def test_others_are_not_overestimated(kernel: Any, arch: int) -> None:
    for tile, stages in product([(32, 32, 32), (128, 64, 128)], (1, 4)):
        estimate, taken = both(kernel, tile, arch, 4, stages)
        assert 0 < estimate <= taken, (tile, stages)
        assert estimate >= taken / 3, (tile, stages)
