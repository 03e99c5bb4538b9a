"""Triton's kernels on the CPU backend against torch's own operators, taking turns.

    PYTHONPATH=.venv/triton python bench/triton_kernels.py [--rounds 9] [--threads 1]

Prints the median of both in milliseconds and the median of the ratios of neighbouring runs; then what a
launch costs in microseconds.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--rounds", type=int, default=9)
parser.add_argument("--threads", type=int, default=1)
chosen = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(chosen.threads)

import torch  # noqa: E402
import triton  # noqa: E402
import triton.language as tl  # noqa: E402
from torch.nn import functional  # noqa: E402

torch.set_num_threads(chosen.threads)


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
def attention(Q, K, V, out, scale, N, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
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


Pair = tuple[str, Callable[[], object], Callable[[], object]]


def pairs() -> list[Pair]:
    """Each kernel with the operator that does the same."""
    x, out = torch.randn(4096, 1024), torch.empty(4096, 1024)
    w, b = torch.randn(1024), torch.randn(1024)
    found: list[Pair] = [
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
    ]
    logits, target, loss = torch.randn(512, 32000), torch.randint(0, 32000, (512,)), torch.empty(512)
    found.append(
        (
            "cross entropy 512x32000",
            lambda: cross_entropy[(512,)](logits, target, loss, 32000, 32768),
            lambda: functional.cross_entropy(logits, target, reduction="none"),
        )
    )
    for n, dtype in ((512, torch.float32), (1024, torch.float32), (1024, torch.bfloat16)):
        m1, m2, m3 = (
            torch.randn(n, n, dtype=dtype),
            torch.randn(n, n, dtype=dtype),
            torch.empty(n, n, dtype=dtype),
        )

        def kernel(a: torch.Tensor = m1, b: torch.Tensor = m2, c: torch.Tensor = m3, n: int = n) -> None:
            product[(n // 96 if n % 96 == 0 else n // 64, n // 64)](a, b, c, n, n, 64, 64, 64)

        found.append((f"mm {n} {str(dtype)[6:]}", kernel, lambda a=m1, b=m2, c=m3: torch.mm(a, b, out=c)))
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (torch.randn(1, 4, 1024, 64, dtype=dtype) for _ in range(3))
        made = torch.empty_like(q)
        found.append(
            (
                f"attention 4x1024x64 {str(dtype)[6:]}",
                lambda q=q, k=k, v=v, made=made: attention[(16, 4)](
                    q, k, v, made, 64**-0.5, 1024, 64, 64, 64
                ),
                lambda q=q, k=k, v=v: functional.scaled_dot_product_attention(q, k, v),
            )
        )
    return found


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def turn(call: Callable[[], object]) -> float:
    """Milliseconds of a call, the median of three after one that is not counted.

    Torch's threads look for work for a while before they leave a processor to others, hence the pause.
    """
    time.sleep(0.02)
    call()
    return statistics.median(timed(call) for _ in range(3))


def main() -> int:
    """Prints the table."""
    ratios = []
    print(f"{'':28}{'kernel':>9}{'torch':>9}{'ratio':>7}")
    for name, kernel, operator in pairs():
        kernel(), operator()
        runs = [(turn(kernel), turn(operator)) for _ in range(chosen.rounds)]
        ours, theirs = (statistics.median(column) for column in zip(*runs, strict=True))
        ratio = statistics.median(a / b for a, b in runs)
        ratios.append(ratio)
        print(f"{name:28}{ours:9.2f}{theirs:9.2f}{ratio:7.2f}", flush=True)
    print(f"geometric mean {math.exp(statistics.fmean(map(math.log, ratios))):.2f}")
    x = torch.randn(64)
    launch = swiglu[(1,)]
    launch(x, x, x, 64, 64)
    costs = [
        timed(lambda: [launch(x, x, x, 64, 64) for _ in range(1000)]) for _ in range(7)
    ]  # ms: us a launch
    print(f"a launch of one program: {statistics.median(costs):.1f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
