"""Random kernels against torch: expressions over tiles of random shapes, strides, masks and reductions."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Load

KERNEL = """@triton.jit
def kernel(x, y, out, sums, m, n, xs, ys, M: tl.constexpr, N: tl.constexpr):
    i, j = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    mask = (i < m) & (j < n)
    a = tl.load(x + i * xs + j, mask=mask, other=1.0)
    b = tl.load(y + i + j * ys, mask=mask, other=2.0)
    c = tl.load(x + j, mask=j < n, other=0.5)
    value = {expression}
    value = value + tl.zeros((M, N), tl.float32)
    tl.store(sums + tl.arange(0, {kept}), tl.{reduction}(tl.where(mask, value, {neutral}), {axis}))
    again = value * {again}
    tl.store(out + i * N + j, again, mask=mask)
"""
LEAVES = st.sampled_from(["a", "b", "c", "0.5", "(i * 2 + j).to(tl.float32)"])
NAMES = {"tl.maximum": torch.maximum, "tl.minimum": torch.minimum}


def nodes(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """An operation on two expressions, or on one."""
    pair = st.tuples(children, children)
    return st.one_of(
        st.tuples(st.sampled_from("+-*"), pair).map(lambda t: f"({t[1][0]} {t[0]} {t[1][1]})"),
        st.tuples(st.sampled_from(sorted(NAMES)), pair).map(
            lambda t: f"{t[0]}(a * 0 + {t[1][0]}, {t[1][1]})"
        ),
        pair.map(lambda t: f"tl.where(a > b, {t[0]}, {t[1]})"),
        pair.map(lambda t: f"tl.where(i <= j, {t[0]}, {t[1]})"),
        children.map(lambda t: f"tl.exp(-tl.abs(a * 0 + {t}))"),
    )


class Tile:
    """What `tl` is for torch."""

    float32 = torch.float32
    where, exp, abs = torch.where, torch.exp, torch.abs

    @staticmethod
    def maximum(x: torch.Tensor, y: torch.Tensor | float) -> torch.Tensor:
        return torch.maximum(x, torch.as_tensor(y))

    @staticmethod
    def minimum(x: torch.Tensor, y: torch.Tensor | float) -> torch.Tensor:
        return torch.minimum(x, torch.as_tensor(y))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    expression=st.recursive(LEAVES, nodes, max_leaves=7),
    again=st.sampled_from(["value", "a", "2.0"]),
    sizes=st.tuples(st.sampled_from([1, 2, 8, 32]), st.sampled_from([1, 4, 16, 64])),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    strides=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    axis=st.integers(0, 1),
    reduction=st.sampled_from(["sum", "max"]),
)
def test_random_kernels(
    load: Load,
    expression: str,
    again: str,
    sizes: tuple[int, int],
    cut: tuple[float, float],
    strides: tuple[int, int],
    axis: int,
    reduction: str,
) -> None:
    rows, columns = sizes
    m, n = round(cut[0] * rows), round(cut[1] * columns)
    neutral = "0.0" if reduction == "sum" else "-1e30"
    kept = (columns, rows)[axis]
    text = KERNEL.format(
        expression=expression, again=again, kept=kept, axis=axis, reduction=reduction, neutral=neutral
    )
    generator = torch.Generator().manual_seed(rows * 1000 + columns)
    xs, ys = columns + strides[0], rows + strides[1]
    x, y = torch.randn(rows * xs, generator=generator), torch.randn(columns * ys, generator=generator)
    out, sums = torch.full((rows, columns), 7.0), torch.empty(kept)
    load(text).kernel[(1,)](x, y, out, sums, m, n, xs, ys, rows, columns)

    i, j = torch.arange(rows)[:, None], torch.arange(columns)[None, :]
    mask = (i < m) & (j < n)
    a = torch.where(mask, torch.as_strided(x, (rows, columns), (xs, 1)), 1.0)
    b = torch.where(mask, torch.as_strided(y, (rows, columns), (1, ys)), 2.0)
    c = torch.where(j < n, x[None, :columns], 0.5)
    known = {"a": a, "b": b, "c": c, "i": i, "j": j, "tl": Tile}
    value = torch.as_tensor(eval(expression, known)) + torch.zeros(rows, columns)
    masked = torch.where(mask, value, float(neutral))
    expected = masked.sum(axis) if reduction == "sum" else masked.amax(axis)
    torch.testing.assert_close(sums, expected, rtol=1e-4, atol=1e-4)
    doubled = value * eval(again, known | {"value": value})
    torch.testing.assert_close(out, torch.where(mask, doubled, 7.0), rtol=1e-4, atol=1e-4)
