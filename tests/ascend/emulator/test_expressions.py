"""What programs write with plain numbers, and rarer operators, on the emulated device and on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.ascend.emulator.comparing import assert_same, noted

# float32: x, y (4, 6), m (4, 4), v (2, 3, 8, 8, 8); int64, positive: i (4, 6); bool: b (4, 6)
EXPRESSIONS = """
x == 1.0
x != 1.0
x < 0.5
x <= 0.5
x > 0.5
x >= 0.5
0.5 < x
x - 2
2 - x
x * 3
x / 3
3 / x
x // 0.5
i // 2
x % 0.7
i % 3
2.0 % x.abs()
x ** 2
2 ** x
x.fmod(0.3)
x.remainder(0.3)
torch.remainder(2.0, x.abs() + 0.1)
i & 3
i ^ 3
i << 1
i >> 1
~i
x.div(0.3, rounding_mode="floor")
x.div(0.3, rounding_mode="trunc")
x.clone().eq_(1.0)
x.clone().ne_(1.0)
x.clone().lt_(0.5)
x.clone().le_(0.5)
x.clone().gt_(0.5)
x.clone().ge_(0.5)
x.clone().sub_(2)
x.clone().floor_divide_(0.5)
x.clone().fmod_(0.3)
x.clone().remainder_(0.3)
x.clone().div_(0.3, rounding_mode="floor")
i.clone().bitwise_and_(3)
i.clone().bitwise_xor_(3)
x.clone().xlogy_(2.0)
torch.xlogy(x.abs(), 2.0)
torch.xlogy(2.0, y.abs() + 0.1)
m.clone().fill_diagonal_(3.0)
F.hardtanh(x.clone(), inplace=True)
x.clone().index_fill_(1, i[0, :2] % 6, 4.0)
F.hardswish(x.clone(), inplace=True)
torch.linspace(0, 1, 7, device=x.device)
torch.logspace(0, 2, 7, device=x.device)
torch.arange(0, 7, 2, device=x.device)
torch.eye(3, 5, device=x.device)
torch.isin(i, 2)
torch.isin(3, i)
torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0], device=x.device))
torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0], device=x.device), 0.5)
torch.cdist(x, y)
torch.slogdet(m)
torch.inverse(m)
torch.aminmax(x, dim=1)
torch.unique(i, dim=0)
x.repeat_interleave(i[0, :4] % 3, 0)
torch.repeat_interleave(i[0] % 3)
F.affine_grid(x[:, :6].view(4, 2, 3), (4, 1, 3, 3))
F.pad(v, (1, 1, 1, 1, 1, 1), "reflect")
F.pad(v, (1,) * 6, "replicate")
F.interpolate(v[0], scale_factor=2, mode="bilinear", antialias=True)
F.interpolate(v[0], scale_factor=2, mode="bicubic", antialias=True)
F.interpolate(v[0, 0], size=5, mode="nearest")
F.interpolate(v[0], size=5)
F.interpolate(v, size=5)
F.interpolate(v, size=5, mode="nearest-exact")
F.interpolate(v[0], size=5, mode="nearest-exact")
torch.split(x, [1, 2, 3], 1)
F.one_hot(i % 5, 5)
torch.conv_tbc(v[0, :, :, 0], v[0, :, :, 1].contiguous(), v[0, 0, 0, 2])
F.embedding(i % 4, m, max_norm=1.0)
torch.topk(x, 3, largest=False)
x.kthvalue(2)
x.mode()
torch.where(b, x, 0.0)
x.masked_fill(b, 2.0)
x[b]
x[i[:, 0] % 4]
x[:, i[0] % 6]
x.masked_scatter(b, y)
torch.lerp(x, y, 0.3)
torch.addcmul(x, y, y, value=0.5)
torch.nan_to_num(x / 0, 1.0)
x.cumprod(1)
x.logsumexp(1)
torch._foreach_sub([x, y], 2.0)
torch._foreach_sub([x, y], [1.0, 2.0])
torch._foreach_maximum([x, y], 0.1)
torch._foreach_maximum([x, y], [0.1, 0.2])
torch._foreach_minimum([x, y], 0.1)
torch._foreach_pow(2.0, [x, y])
torch._foreach_minimum([x, y], [0.1, 0.2])
torch._foreach_pow([x.abs(), y.abs()], [2.0, 3.0])
F.logsigmoid(x)
F.rrelu(x)
x.equal(y)
torch.histc(x, 5, -1, 1)
i | 3
"""


def names(device: str) -> dict[str, torch.Tensor]:
    """The tensors of expressions, the same on every device."""
    generator = torch.Generator().manual_seed(0)
    found = {"x": torch.randn(4, 6, generator=generator), "y": torch.randn(4, 6, generator=generator)}
    found["i"] = torch.randint(1, 50, (4, 6), generator=generator)
    found["b"] = found["x"] > 0
    found["v"] = torch.randn(2, 3, 8, 8, 8, generator=generator)
    found["m"] = torch.randn(4, 4, generator=generator) + 4 * torch.eye(4)
    return {name: value.to(device) for name, value in found.items()}


WORDS = {"torch": torch, "F": functional}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("expression", EXPRESSIONS.strip().splitlines())
def test_an_expression(expression: str) -> None:
    wanted = eval(expression, WORDS, names("cpu"))
    with noted():
        got = eval(expression, WORDS, names("npu"))
        if isinstance(wanted, bool):
            assert got == wanted
        else:
            assert_same(got, wanted)
