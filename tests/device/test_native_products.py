"""Matrix products that only CUDA has, against plain references on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.device.comparison import assert_close


@pytest.mark.skipif(torch.__version__ < "2.8", reason="mm takes no out_dtype in this torch")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_with_a_wider_result(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(3, 8, 8, dtype=dtype, device="cuda") for _ in range(2))
    c = torch.randn(3, 8, 8, device="cuda")
    x, y = a.cpu().double(), b.cpu().double()
    wide = torch.float32
    results = [
        (torch.mm(a[0], b[0], out_dtype=wide), x[0] @ y[0]),
        (torch.bmm(a, b, out_dtype=wide), x @ y),
        (
            torch.addmm(c[0], a[0], b[0], out_dtype=wide, beta=0.5, alpha=2),
            0.5 * c[0].cpu() + 2 * (x[0] @ y[0]),
        ),
        (torch.baddbmm(c, a, b, out_dtype=wide, beta=0.5, alpha=2), 0.5 * c.cpu() + 2 * (x @ y)),
    ]
    for actual, expected in results:
        assert actual.dtype == wide
        assert_close(actual, expected, 1e-4)
    with pytest.raises(RuntimeError, match="out_dtype must be the same as input dtype or fp32"):
        torch.mm(a[0], b[0], out_dtype=torch.float64)


def test_int_mm_has_cublas_limits() -> None:
    torch.manual_seed(0)
    a, b = (torch.randint(-128, 127, shape, dtype=torch.int8) for shape in ((17, 8), (8, 16)))
    assert torch.equal(torch._int_mm(a.cuda(), b.cuda()).cpu(), a.int() @ b.int())
    with pytest.raises(RuntimeError, match=r"self.size\(0\) needs to be greater than 16, but got 16"):
        torch._int_mm(a[:16].cuda(), b.cuda())
    with pytest.raises(RuntimeError, match="a multiple of 8, but got 15"):
        torch._int_mm(a.cuda(), b[:, :15].cuda())


def float8(*shape: int, dtype: torch.dtype = torch.float8_e4m3fn) -> Tensor:
    return torch.randn(*shape, device="cuda").to(dtype)


def blockwise(scale: Tensor, rows: int, columns: int, shape: tuple[int, int]) -> Tensor:
    return scale.repeat_interleave(rows, 0).repeat_interleave(columns, 1)[: shape[0], : shape[1]]


@pytest.mark.parametrize("scaling", ["tensor", "row", "1x128 by 128x128", "1x128 by 1x128"])
def test_scaled_mm(scaling: str) -> None:
    torch.manual_seed(0)
    m, k, n = 48, 256, 160
    a, b = float8(m, k), float8(n, k).t()
    if scaling == "tensor":
        scale_a, scale_b = torch.tensor(0.5, device="cuda"), torch.tensor(3.0, device="cuda")
        spread_a, spread_b = scale_a, scale_b
    elif scaling == "row":
        scale_a, scale_b = torch.rand(m, 1, device="cuda"), torch.rand(1, n, device="cuda")
        spread_a, spread_b = scale_a, scale_b
    else:
        scale_a = torch.rand(k // 128, m, device="cuda").t()
        spread_a = blockwise(scale_a, 1, 128, (m, k))
        if scaling.endswith("128x128"):
            scale_b = torch.rand(2, k // 128, device="cuda").t()
            spread_b = blockwise(scale_b, 128, 128, (k, n))
        else:
            scale_b = torch.rand(k // 128, n, device="cuda")
            spread_b = blockwise(scale_b, 128, 1, (k, n))
    out = torch._scaled_mm(a, b, scale_a, scale_b, out_dtype=torch.float32)
    expected = (a.cpu().double() * spread_a.cpu()) @ (b.cpu().double() * spread_b.cpu())
    assert_close(out, expected, 1e-4)
    assert torch._scaled_mm(a, b, scale_a, scale_b, out_dtype=torch.bfloat16).dtype == torch.bfloat16


def test_scaled_mm_bias_and_limits() -> None:
    torch.manual_seed(0)
    a, b, one = float8(16, 32), float8(16, 32).t(), torch.ones((), device="cuda")
    bias = torch.randn(16, dtype=torch.bfloat16, device="cuda")
    out = torch._scaled_mm(a, b, one, one, bias=bias, out_dtype=torch.bfloat16)
    assert_close(out, a.cpu().double() @ b.cpu().double() + bias.cpu().double(), 1e-1)
    with pytest.raises(RuntimeError, match="Bias is not supported when out_dtype is set to Float32"):
        torch._scaled_mm(a, b, one, one, bias=bias, out_dtype=torch.float32)
    with pytest.raises(RuntimeError, match="Only multiplication of row-major and column-major matrices"):
        torch._scaled_mm(a, float8(32, 16), one, one, out_dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match=r"mat2 shape \(32x8\) must be divisible by 16"):
        torch._scaled_mm(a, float8(8, 32).t(), one, one, out_dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match="Expected trailing dimension of mat1 to be divisible by 16"):
        torch._scaled_mm(float8(16, 8), float8(16, 8).t(), one, one, out_dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match="Invalid scaling configuration"):
        torch._scaled_mm(a, b, torch.ones(3, 1, device="cuda"), one, out_dtype=torch.bfloat16)
    e5m2 = float8(16, 32, dtype=torch.float8_e5m2)
    with pytest.raises(ValueError, match="Multiplication of two Float8_e5m2 matrices is not supported"):
        torch._scaled_mm(e5m2, e5m2.t(), one, one)


@pytest.mark.parametrize("case", ["2d by 3d", "3d by 2d", "2d by 2d", "3d by 3d"])
def test_scaled_grouped_mm(case: str) -> None:
    torch.manual_seed(0)
    m, k, n, groups = 16, 32, 48, 2
    ends = torch.tensor([16, 32], dtype=torch.int32, device="cuda")
    rand = lambda *shape: torch.rand(*shape, device="cuda")  # noqa: E731
    if case == "2d by 3d":
        a, b, scale_a, scale_b = float8(32, k), float8(groups, n, k).mT, rand(32), rand(groups, n)
        pairs = [(a[s], b[g], scale_a[s], scale_b[g]) for g, s in enumerate((slice(0, 16), slice(16, 32)))]
    elif case == "3d by 2d":
        a, b, scale_a, scale_b = float8(groups, m, k), float8(32, k).t(), rand(groups, m), rand(32)
        pairs = [(a[g], b[:, s], scale_a[g], scale_b[s]) for g, s in enumerate((slice(0, 16), slice(16, 32)))]
    elif case == "2d by 2d":
        a, b = float8(m, 32), float8(n, 32).t()
        scale_a, scale_b = rand(groups * m), rand(groups * n)
        pairs = [
            (a[:, s], b[s], scale_a[g * m : (g + 1) * m], scale_b[g * n : (g + 1) * n])
            for g, s in enumerate((slice(0, 16), slice(16, 32)))
        ]
    else:
        a, b, scale_a, scale_b = (
            float8(groups, m, k),
            float8(groups, n, k).mT,
            rand(groups, m),
            rand(groups, n),
        )
        pairs = [(a[g], b[g], scale_a[g], scale_b[g]) for g in range(groups)]
    offsets = None if case == "3d by 3d" else ends
    out = torch._scaled_grouped_mm(a, b, scale_a, scale_b, offs=offsets, out_dtype=torch.bfloat16)
    parts = [x.cpu().double() @ y.cpu().double() * sx.cpu().unsqueeze(1) * sy.cpu() for x, y, sx, sy in pairs]
    join: dict[str, Callable[[list[Tensor]], Tensor]] = {
        "2d by 3d": torch.cat,
        "3d by 2d": lambda p: torch.cat(p, 1),
    }
    assert_close(out, join.get(case, torch.stack)(parts), 5e-2)


@pytest.mark.parametrize("inner_tiles", [2, 4, 8])
def test_int4_weights(inner_tiles: int) -> None:
    torch.manual_seed(0)
    n, k, group = 16, 256, 64
    levels = torch.randint(0, 16, (n, k), dtype=torch.uint8)
    packed = torch._convert_weight_to_int4pack((levels[:, ::2] << 4 | levels[:, 1::2]).cuda(), inner_tiles)
    assert packed.shape == (n // 8, k // (inner_tiles * 16), 32, inner_tiles // 2)
    # Lane 5 of the first tile serves row 1 and the columns 2, 3, 10, 11 of two tiles of 16.
    columns = [2, 3, 10, 11, 18, 19, 26, 27]
    word = sum(
        int(levels[1, column]) << 4 * nibble
        for column, nibble in zip(columns, (0, 4, 1, 5, 2, 6, 3, 7), strict=True)
    )
    assert packed[0, 0, 5, 0].item() & 0xFFFFFFFF == word
    scales_and_zeros = torch.randn(k // group, n, 2, dtype=torch.bfloat16)
    a = torch.randn(5, k, dtype=torch.bfloat16)
    out = torch._weight_int4pack_mm(a.cuda(), packed, group, scales_and_zeros.cuda())
    spread = scales_and_zeros.transpose(0, 1).repeat_interleave(group, 1).float()
    weight = ((levels.float() - 8) * spread[..., 0] + spread[..., 1]).bfloat16()
    assert_close(out, a.double() @ weight.double().t(), 5e-2)
