"""A fixed sample of PyTorch's operator database on the device, and the dtypes that set CUDA apart.

The whole database in all dtypes is tests/full/opinfo_sweep.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

pytest.importorskip("expecttest")  # which torch's own test modules import
from tests.full.opinfo_checks import Pair, entries

F = torch.nn.functional
SAMPLE = """
abs add addbmm addcdiv addcmul addmm addmv addr all amax amin angle any arange argmax argmin argsort
argwhere as_strided atan2 baddbmm bernoulli bitwise_and block_diag bmm broadcast_to bucketize cat cdist ceil
chunk clamp clone column_stack complex conj constant_pad_nd contiguous copysign cos cross cummax cumprod
cumsum diag_embed diagonal diff dist div[floor_rounding] div[no_rounding_mode] dot einsum empty_like eq erf
exp expand expm1 fft.fft2 fft.irfft fft.rfft fill flatten flip fmod frac gather ge hypot index_add
index_copy index_fill index_put index_reduce[mean] index_select isnan kthvalue lerp linalg.cholesky
linalg.det linalg.eigh linalg.inv linalg.lstsq linalg.matrix_norm linalg.qr linalg.solve linalg.svd
linalg.vector_norm linspace log log_softmax logaddexp logcumsumexp logsumexp masked_fill masked_scatter
masked_select matmul max[reduction_with_dim] maximum mean median meshgrid[list_of_tensors] min[binary] mm
mode msort mul multinomial mv nan_to_num narrow native_batch_norm native_layer_norm ne new_empty new_zeros
nn.functional.adaptive_avg_pool2d nn.functional.avg_pool2d nn.functional.batch_norm nn.functional.conv2d
nn.functional.conv_transpose2d nn.functional.cosine_similarity nn.functional.cross_entropy
nn.functional.dropout nn.functional.embedding nn.functional.embedding_bag nn.functional.gelu
nn.functional.glu nn.functional.grid_sample nn.functional.group_norm nn.functional.huber_loss
nn.functional.interpolate[bilinear] nn.functional.layer_norm nn.functional.linear nn.functional.max_pool2d
nn.functional.mse_loss nn.functional.nll_loss nn.functional.normalize nn.functional.pad[reflect]
nn.functional.pixel_shuffle nn.functional.scaled_dot_product_attention nn.functional.silu
nn.functional.softplus nn.functional.unfold nonzero norm ones_like permute pow prod quantile repeat
repeat_interleave reshape roll round rsqrt scatter scatter_add scatter_reduce[sum] searchsorted select
sigmoid sign slice softmax sort split sqrt squeeze stack std sub sum svd t take take_along_dim tanh
tensor_split tile topk trace transpose trapezoid tril triu unbind unfold unique unsqueeze var view
view_as_complex where xlogy zero_ zeros_like
"""
ENTRIES = SAMPLE.split()
KNOWN = entries()


@pytest.mark.parametrize("name", [name for name in ENTRIES if name in KNOWN])
def test_entry_in_float32(name: str) -> None:
    op = KNOWN[name]
    pair = Pair(op, torch.float32)
    if torch.float32 not in op.supported_dtypes("cuda"):
        pytest.skip("not an operator on floats")
    for sample in pair.samples(first=3, later=2):
        for kind in pair.kinds():
            assert not pair.check(kind, sample), f"{kind} of {sample}"


def test_sample_of_entries_is_wide() -> None:
    assert sum(name in KNOWN for name in ENTRIES) >= 150


def ones(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.ones(shape, device="cuda").to(dtype)


REFUSED: list[tuple[Callable[[], Tensor], str]] = [
    (
        lambda: ones(2, 2, dtype=torch.int64) @ ones(2, 2, dtype=torch.int64),
        "\"addmm_cuda\" not implemented for 'Long'",
    ),
    (lambda: F.linear(*(ones(2, 2, dtype=torch.int32),) * 2), "\"addmm_cuda\" not implemented for 'Int'"),
    (
        lambda: torch.bmm(*(ones(2, 2, 2, dtype=torch.uint8),) * 2),
        "\"baddbmm_cuda\" not implemented for 'Byte'",
    ),
    (
        lambda: torch.mv(ones(2, 2, dtype=torch.int16), ones(2, dtype=torch.int16)),
        "\"addmv_impl_cuda\" not implemented for 'Short'",
    ),
    (lambda: torch.dot(*(ones(2, dtype=torch.int8),) * 2), "\"dot\" not implemented for 'Char'"),
    (
        lambda: F.avg_pool2d(ones(1, 2, 2, dtype=torch.int64), 2),
        "\"avg_pool2d_out_cuda_frame\" not implemented for 'Long'",
    ),
    (
        lambda: F.max_pool2d(ones(1, 2, 2, dtype=torch.int32), 2),
        "\"max_pool2d_with_indices_out_cuda_frame\" not implemented for 'Int'",
    ),
    (
        lambda: torch.igamma(*(ones(2, dtype=torch.float16),) * 2),
        "\"igamma_cuda\" not implemented for 'Half'",
    ),
    (lambda: ones(2, dtype=torch.bfloat16).angle(), "\"angle_cuda\" not implemented for 'BFloat16'"),
    (
        lambda: F.interpolate(ones(1, 1, 2, 2, dtype=torch.uint8), scale_factor=2, mode="bilinear"),
        "\"upsample_bilinear2d_out_frame\" not implemented for 'Byte'",
    ),
    (
        lambda: torch.histogram(ones(2, dtype=torch.float32), 2)[0],
        "Could not run 'aten::histogram.bin_ct' with arguments from the 'CUDA' backend",
    ),
]


@pytest.mark.parametrize(("call", "text"), REFUSED)
def test_dtype_that_cuda_has_no_kernel_for_is_refused(call: Callable[[], Tensor], text: str) -> None:
    with pytest.raises(RuntimeError) as raised:
        call()
    assert text in str(raised.value)


PROMOTED: list[tuple[str, torch.dtype, Callable[[Tensor], Tensor]]] = [
    ("acos", torch.complex32, lambda x: x.acos()),
    ("acos_", torch.complex32, lambda x: x.clone().acos_()),
    (
        "acos out=",
        torch.complex32,
        lambda x: torch.acos(x, out=torch.empty(0, dtype=x.dtype, device=x.device)),
    ),
    ("exp", torch.complex32, lambda x: x.exp()),
    ("sum", torch.complex32, lambda x: x.sum(-1)),
    ("div", torch.complex32, lambda x: x / (x + 1)),
    ("angle", torch.complex32, lambda x: x.angle()),
    ("fft", torch.complex32, lambda x: torch.fft.fft(x)),
    ("rfft", torch.float16, lambda x: torch.fft.rfft(x)),
    ("avg_pool3d", torch.bfloat16, lambda x: F.avg_pool3d(x, 2)),
    ("polygamma", torch.float16, lambda x: torch.polygamma(2, x.abs() + 1)),
    ("round", torch.float16, lambda x: x.round(decimals=1)),
]


@pytest.mark.parametrize(("name", "dtype", "call"), PROMOTED)
def test_dtype_that_only_cuda_computes(
    name: str, dtype: torch.dtype, call: Callable[[Tensor], Tensor]
) -> None:
    wide = torch.complex64 if dtype.is_complex else torch.float32
    x = torch.rand(1, 4, 4, 4, dtype=wide).to(dtype)
    result = call(x.cuda())
    expected = call(x.to(wide))
    assert result.dtype == (
        torch.float16 if name == "angle" else torch.complex32 if name == "rfft" else dtype
    )
    coarse = 2e-2 if dtype == torch.bfloat16 else 4e-3
    torch.testing.assert_close(result.cpu().to(expected.dtype), expected, rtol=coarse, atol=coarse)


def test_programs_with_integers_keep_working() -> None:
    x = torch.arange(12, device="cuda").view(3, 4)
    assert (x * x).sum().item() == 506
    assert torch.mm(x[:, :0], x[:0]).shape == (3, 4)  # of nothing: no kernel is asked
    assert F.one_hot(x.view(-1)).sum().item() == 12
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert F.linear(x.float(), x.float()).dtype == torch.bfloat16
