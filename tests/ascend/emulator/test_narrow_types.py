"""Operators in 16 bits for which the CPU has no kernel, so that the emulator computes them in float32."""

from __future__ import annotations

import pytest
import torch

from tests.ascend.emulator.comparing import noted


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_the_cpu_has_no_kernel_for(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3, 4).to(dtype), torch.randn(3, 4).to(dtype)
    wanted = torch.relu(a.float() + 2 * b.float()).to(dtype)
    with noted():
        assert torch._add_relu(a.npu(), b.npu(), alpha=2).cpu().equal(wanted)
        in_place = a.npu()
        torch._add_relu_(in_place, b.npu(), alpha=2)
        assert in_place.cpu().equal(wanted)
        volume = torch.randn(1, 2, 4, 4, 4).to(dtype)
        got = torch.nn.functional.avg_pool3d(volume.npu(), 2).cpu()
    assert got.equal(torch.nn.functional.avg_pool3d(volume.float(), 2).to(dtype))
