"""Triton programs of the bench, each beside torch's operator for the same."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch.nn import functional

# Triton's interpreter is wrong about products of bfloat16.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@triton.jit
def softmax(x, out, columns, B: tl.constexpr):
    row = tl.program_id(0) * columns
    at = tl.arange(0, B)
    value = tl.load(x + row + at, mask=at < columns, other=-float("inf"))
    value = tl.exp(value - tl.max(value, 0))
    tl.store(out + row + at, value / tl.sum(value, 0), mask=at < columns)


@triton.jit
def layer_norm(x, out, weight, bias, columns, eps, B: tl.constexpr):
    row = tl.program_id(0) * columns
    at = tl.arange(0, B)
    mask = at < columns
    value = tl.load(x + row + at, mask=mask, other=0.0)
    mean = tl.sum(value, 0) / columns
    centred = tl.where(mask, value - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / columns + eps)
    w, b = tl.load(weight + at, mask=mask), tl.load(bias + at, mask=mask)
    tl.store(out + row + at, centred * scale * w + b, mask=mask)


@triton.jit
def swiglu(gate, up, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    g, u = tl.load(gate + at, mask=at < n), tl.load(up + at, mask=at < n)
    tl.store(out + at, g * tl.sigmoid(g) * u, mask=at < n)


@triton.jit
def cross_entropy(x, target, out, columns, B: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, B)
    value = tl.load(x + row * columns + at, mask=at < columns, other=-float("inf"))
    top = tl.max(value, 0)
    total = tl.log(tl.sum(tl.exp(value - top), 0)) + top
    tl.store(out + row, total - tl.load(x + row * columns + tl.load(target + row)))


@triton.jit
def product(a, b, c, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    left = a + rows[:, None] * K + inner[None, :]
    right = b + inner[:, None] * N + columns[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for _ in range(0, K, BK):
        total = tl.dot(tl.load(left), tl.load(right), total)
        left += BK
        right += BK * N
    tl.store(c + rows[:, None] * N + columns[None, :], total.to(c.dtype.element_ty))


@triton.jit
def attention(Q, K, V, out, sums, scale, N, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    head = tl.program_id(1) * N * D
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    d, columns = tl.arange(0, D), tl.arange(0, BN)
    q = tl.load(Q + head + rows[:, None] * D + d[None, :])
    top = tl.full([BM], -float("inf"), tl.float32)
    weight = tl.zeros([BM], tl.float32)
    total = tl.zeros([BM, D], tl.float32)
    for start in range(0, N, BN):
        here = start + columns
        k = tl.load(K + head + here[:, None] * D + d[None, :])
        v = tl.load(V + head + here[:, None] * D + d[None, :])
        score = tl.dot(q, tl.trans(k)) * scale
        higher = tl.maximum(top, tl.max(score, 1))
        shrink, p = tl.exp(top - higher), tl.exp(score - higher[:, None])
        weight = weight * shrink + tl.sum(p, 1)
        total = total * shrink[:, None] + tl.dot(p.to(v.dtype), v)
        top = higher
    tl.store(out + head + rows[:, None] * D + d[None, :], (total / weight[:, None]).to(out.dtype.element_ty))
    tl.store(sums + tl.program_id(1) * N + rows, top + tl.log(weight))


@triton.jit
def attention_delta(out, gradient, delta, D: tl.constexpr, BM: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    at = rows[:, None] * D + tl.arange(0, D)[None, :]
    products = tl.load(out + at).to(tl.float32) * tl.load(gradient + at).to(tl.float32)
    tl.store(delta + rows, tl.sum(products, 1))


@triton.jit
def attention_backward_columns(
    Q, K, V, gradient, sums, delta, dK, dV, scale, N, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr
):
    head = tl.program_id(1) * N
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    d = tl.arange(0, D)
    here = (head + columns)[:, None] * D + d[None, :]
    k, v = tl.load(K + here), tl.load(V + here)
    dk, dv = tl.zeros([BN, D], tl.float32), tl.zeros([BN, D], tl.float32)
    for start in range(0, N, BM):
        rows = head + start + tl.arange(0, BM)
        at = rows[:, None] * D + d[None, :]
        q, g = tl.load(Q + at), tl.load(gradient + at)
        p = tl.exp(tl.dot(k, tl.trans(q)) * scale - tl.load(sums + rows)[None, :])
        dv = tl.dot(p.to(g.dtype), g, dv)
        ds = p * (tl.dot(v, tl.trans(g)) - tl.load(delta + rows)[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk)
    tl.store(dK + here, (dk * scale).to(dK.dtype.element_ty))
    tl.store(dV + here, dv.to(dV.dtype.element_ty))


@triton.jit
def attention_backward_rows(
    Q, K, V, gradient, sums, delta, dQ, scale, N, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr
):
    head = tl.program_id(1) * N
    rows = head + tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.arange(0, D)
    at = rows[:, None] * D + d[None, :]
    q, g = tl.load(Q + at), tl.load(gradient + at)
    total, share = tl.load(sums + rows)[:, None], tl.load(delta + rows)[:, None]
    dq = tl.zeros([BM, D], tl.float32)
    for start in range(0, N, BN):
        here = (head + start + tl.arange(0, BN))[:, None] * D + d[None, :]
        k, v = tl.load(K + here), tl.load(V + here)
        p = tl.exp(tl.dot(q, tl.trans(k)) * scale - total)
        ds = p * (tl.dot(g, tl.trans(v)) - share)
        dq = tl.dot(ds.to(k.dtype), k, dq)
    tl.store(dQ + at, (dq * scale).to(dQ.dtype.element_ty))


@triton.jit
def rope(x, cos, sin, out, T, H: tl.constexpr, D: tl.constexpr):
    """Of (T, H, D): halves of a head turn together."""
    row = tl.program_id(0)
    half = tl.arange(0, D // 2)[None, :]
    at = row * H * D + tl.arange(0, H)[:, None] * D + half
    c, s = tl.load(cos + row * (D // 2) + half), tl.load(sin + row * (D // 2) + half)
    first, second = tl.load(x + at), tl.load(x + at + D // 2)
    tl.store(out + at, first * c - second * s)
    tl.store(out + at + D // 2, second * c + first * s)


@triton.jit
def product_int4(
    a, b, scales, c, N, K, G: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr
):
    """(M, K) times (K, N) of 4 bits, eight along K in an int32, with a scale for G of them."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        k = start + inner
        words = tl.load(b + (k // 8)[:, None] * N + columns[None, :])
        numbers = ((words >> ((k % 8) * 4)[:, None]) & 15) - 8
        scale = tl.load(scales + (start // G) * N + columns)
        left = tl.load(a + rows[:, None] * K + k[None, :])
        total = tl.dot(left, numbers.to(tl.float32) * scale[None, :], total)
    tl.store(c + rows[:, None] * N + columns[None, :], total)


Pair = tuple[str, Callable[[], object], Callable[[], object]]


def pairs() -> list[Pair]:
    """Each kernel with the operator that does the same, in the order of the table."""
    return [*rows(), *products(), *attentions(torch.float32), *attentions(torch.bfloat16)]


def rows() -> list[Pair]:
    """What goes along rows."""
    x, out = torch.randn(4096, 1024), torch.empty(4096, 1024)
    w, b = torch.randn(1024), torch.randn(1024)
    logits, target, loss = torch.randn(512, 32000), torch.randint(0, 32000, (512,)), torch.empty(512)
    heads, turned = torch.randn(2048, 16, 64), torch.empty(2048, 16, 64)
    angles = torch.arange(2048.0)[:, None] * 10000 ** (-torch.arange(32) / 32)
    cos, sin = angles.cos(), angles.sin()

    def turn_heads() -> torch.Tensor:
        first, second = heads.chunk(2, -1)
        c, s = cos[:, None], sin[:, None]
        return torch.cat((first * c - second * s, second * c + first * s), -1)

    return [
        ("softmax 4096x1024", lambda: softmax[(4096,)](x, out, 1024, 1024), lambda: torch.softmax(x, 1)),
        (
            "layer norm 4096x1024",
            lambda: layer_norm[(4096,)](x, out, w, b, 1024, 1e-5, 1024),
            lambda: functional.layer_norm(x, (1024,), w, b),
        ),
        (
            "swiglu 4M",
            lambda: swiglu[(4096,)](x, out, out, 4096 * 1024, 1024),
            lambda: functional.silu(x) * out,
        ),
        (
            "cross entropy 512x32000",
            lambda: cross_entropy[(512,)](logits, target, loss, 32000, 32768),
            lambda: functional.cross_entropy(logits, target, reduction="none"),
        ),
        ("rope 2048x16x64", lambda: rope[(2048,)](heads, cos, sin, turned, 2048, 16, 64), turn_heads),
    ]


def products() -> list[Pair]:
    """Products of matrices."""
    found: list[Pair] = []
    sizes = [(n, torch.float32) for n in (512, 1024, 2048)] + [(n, torch.bfloat16) for n in (512, 1024)]
    for n, dtype in sizes:
        first, second, made = (torch.randn(n, n, dtype=dtype) for _ in range(3))

        def kernel(
            a: torch.Tensor = first, b: torch.Tensor = second, c: torch.Tensor = made, n: int = n
        ) -> None:
            product[(n // 64, n // 64)](a, b, c, n, n, 64, 64, 64)

        operator = lambda a=first, b=second, c=made: torch.mm(a, b, out=c)  # noqa: E731
        found.append((f"mm {n} {str(dtype)[6:]}", kernel, operator))
    a, words = torch.randn(64, 1024), torch.randint(-(2**31), 2**31 - 1, (128, 1024), dtype=torch.int32)
    scales, c = torch.rand(1024 // 64, 1024), torch.empty(64, 1024)
    shifts = (torch.arange(8, dtype=torch.int32) * 4)[None, :, None]

    def dequantised() -> torch.Tensor:
        numbers = (((words[:, None] >> shifts) & 15) - 8).view(1024, 1024).float()
        return a @ (numbers.view(16, 64, 1024) * scales[:, None]).view(1024, 1024)

    kernel4 = lambda: product_int4[(1, 16)](a, words, scales, c, 1024, 1024, 64, 64, 64, 64)  # noqa: E731
    return [*found, ("mm 64x1024x1024 int4", kernel4, dequantised)]


def attentions(dtype: torch.dtype) -> list[Pair]:
    """Attention of 4 heads, there and back."""
    q, k, v = (torch.randn(1, 4, 1024, 64, dtype=dtype, requires_grad=True) for _ in range(3))
    made, gradient = (torch.randn(1, 4, 1024, 64, dtype=dtype) for _ in range(2))
    dq, dk, dv = (torch.empty(1, 4, 1024, 64, dtype=dtype) for _ in range(3))
    sums, delta = torch.empty(4, 1024), torch.empty(4, 1024)
    scale, out = 64**-0.5, functional.scaled_dot_product_attention(q, k, v)

    def forward() -> None:
        attention[(16, 4)](q, k, v, made, sums, scale, 1024, 64, 64, 64)

    def backward() -> None:
        attention_delta[(64,)](made, gradient, delta, 64, 64)
        given = (q, k, v, gradient, sums, delta)
        attention_backward_columns[(16, 4)](*given, dk, dv, scale, 1024, 64, 64, 64)
        attention_backward_rows[(16, 4)](*given, dq, scale, 1024, 64, 64, 64)

    def operator() -> torch.Tensor:
        with torch.no_grad():
            return functional.scaled_dot_product_attention(q, k, v)

    def back() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)

    name = str(dtype)[6:]
    forward()
    backward()
    for ours, theirs in zip((dq, dk, dv), back(), strict=True) if not INTERPRETED else ():
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)
    return [
        (f"attention 4x1024x64 {name}", forward, operator),
        (f"attention backward {name}", backward, back),
    ]
