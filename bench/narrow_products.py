"""Products of 16-bit matrices on the emulated device against the same on the CPU, one thread.

    heitu run bench/narrow_products.py

A processor with no instructions for a dtype computes it slowly; the device computes in float32 there and
rounds once. Prints the medians in milliseconds of interleaved calls, cpu and cuda.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional

CALLS = 21


def cases(device: str) -> dict[str, Callable[[], object]]:
    """Label -> the operation, its arguments on `device`."""
    generator = torch.Generator().manual_seed(0)

    def make(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    result: dict[str, Callable[[], object]] = {}
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        a, b = make(256, 256, dtype=dtype), make(256, 256, dtype=dtype)
        result[f"mm 256 × 256, {name}"] = lambda a=a, b=b: a @ b
        c, d = make(8, 64, 64, dtype=dtype), make(8, 64, 64, dtype=dtype)
        result[f"bmm 8 × 64 × 64, {name}"] = lambda c=c, d=d: torch.bmm(c, d)
        x, w, v = make(512, 256, dtype=dtype), make(256, 256, dtype=dtype), make(256, dtype=dtype)
        result[f"linear 512 × 256 × 256, {name}"] = lambda x=x, w=w, v=v: functional.linear(x, w, v)
        image, kernel = make(1, 8, 32, 32, dtype=dtype), make(8, 8, 3, 3, dtype=dtype)
        result[f"conv2d 8 → 8, 3 × 3, 32 × 32, {name}"] = lambda i=image, k=kernel: functional.conv2d(
            i, k, padding=1
        )
        q = make(2, 4, 128, 64, dtype=dtype).requires_grad_()

        def attention(q: torch.Tensor = q) -> None:
            functional.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()

        result[f"attention 2 × 4 × 128 × 64, forward and backward, {name}"] = attention
    return result


def main() -> None:
    """Prints one line a case."""
    torch.set_num_threads(1)
    sides = [cases(device) for device in ("cpu", "cuda")]
    print(f"{'operation':62} {'cpu ms':>8} {'cuda ms':>8}")
    for name in sides[0]:
        times: list[list[float]] = [[], []]
        for turn in range(CALLS + 2):
            for index in (0, 1) if turn % 2 else (1, 0):
                start = time.perf_counter()
                sides[index][name]()
                if turn >= 2:
                    times[index].append(1e3 * (time.perf_counter() - start))
        cpu, cuda = map(statistics.median, times)
        print(f"{name:62} {cpu:8.2f} {cuda:8.2f}")


if __name__ == "__main__":
    main()
