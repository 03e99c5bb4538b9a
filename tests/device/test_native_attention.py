"""Fused attention on the device against attention written out in float64 on the CPU."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.device.comparison import assert_close

aten = torch.ops.aten
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
HALF_TYPES = [torch.float16, torch.bfloat16]


def leaf(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.randn(*shape, dtype=dtype, device="cuda", requires_grad=True)


def allowed(queries: int, keys: int, left: int | None, right: int | None, shift: int) -> Tensor:
    distance = torch.arange(keys) - torch.arange(queries).unsqueeze(1) - shift
    result = torch.ones(queries, keys, dtype=torch.bool)
    if left is not None:
        result &= distance >= -left
    if right is not None:
        result &= distance <= right
    return result


def attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Output and logsumexp, [B, H, Sq, Dv] and [B, H, Sq], in float64 on the CPU."""
    q, k, v = (t.cpu().double() for t in (q, k, v))
    k, v = (t.repeat_interleave(q.size(1) // t.size(1), 1) for t in (k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.size(-1))
    if bias is not None:
        scores = scores + bias.cpu().double()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1).nan_to_num(0.0) @ v, scores.logsumexp(-1)


def assert_same_grads(actual: Tensor, expected: Tensor, inputs: list[Tensor], tolerance: float) -> None:
    seed = torch.randn_like(actual)
    ours = torch.autograd.grad(actual, inputs, seed, retain_graph=True)
    theirs = torch.autograd.grad(expected, inputs, seed.cpu().double(), retain_graph=True)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        assert_close(one, other, tolerance)


@pytest.mark.parametrize(
    ("dtype", "key_heads", "keys", "causal"),
    list(itertools.product(HALF_TYPES, (4, 2), (6, 9), (False, True))),
)
def test_flash(dtype: torch.dtype, key_heads: int, keys: int, causal: bool) -> None:
    torch.manual_seed(0)
    q, k, v = leaf(2, 4, 6, 16, dtype=dtype), *(leaf(2, key_heads, keys, 16, dtype=dtype) for _ in range(2))
    out, lse, _, _, max_q, max_k, rng_state, unused, debug = aten._scaled_dot_product_flash_attention(
        q, k, v, 0.0, causal
    )
    expected, expected_lse = attention(q, k, v, mask=allowed(6, keys, None, 0, keys - 6) if causal else None)
    assert_close(out, expected, TOLERANCE[dtype])
    assert_close(lse, expected_lse, 1e-2)
    assert (max_q, max_k) == (6, keys)
    assert lse.dtype == torch.float32
    assert (rng_state.dtype, rng_state.shape, unused.shape) == (torch.uint64, (2,), ())
    assert debug.numel() == 0
    assert_same_grads(out, expected, [q, k, v], 10 * TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("dtype", "value_dim", "keys", "causal", "bias", "bias_grad"),
    [
        case
        for case in itertools.product(
            (torch.float32, torch.float16), (16, 24), (6, 40), (False, True), (False, True), (False, True)
        )
        if case[4] or not case[5]
    ],
)
def test_efficient(
    dtype: torch.dtype, value_dim: int, keys: int, causal: bool, bias: bool, bias_grad: bool
) -> None:
    torch.manual_seed(0)
    q, k = leaf(2, 4, 6, 16, dtype=dtype), leaf(2, 4, keys, 16, dtype=dtype)
    v = leaf(2, 4, keys, value_dim, dtype=dtype)
    base = torch.randn(2, 1, 6, keys, dtype=dtype, device="cuda", requires_grad=bias_grad) if bias else None
    expanded = base.expand(2, 4, 6, keys) if base is not None else None
    out, lse, _, _ = aten._scaled_dot_product_efficient_attention(q, k, v, expanded, True, 0.0, causal)
    expected, expected_lse = attention(q, k, v, expanded, allowed(6, keys, None, 0, 0) if causal else None)
    assert_close(out, expected, TOLERANCE[dtype])
    assert lse.shape == (2, 4, 32)
    assert_close(lse[..., :6], expected_lse, 1e-2)
    assert out.transpose(1, 2).is_contiguous()
    inputs = [q, k, v, *([base] if base is not None and bias_grad else [])]
    assert_same_grads(out, expected, inputs, 20 * TOLERANCE[dtype])


@pytest.mark.parametrize(("causal", "bias"), list(itertools.product((False, True), (False, True))))
def test_cudnn(causal: bool, bias: bool) -> None:
    torch.manual_seed(0)
    q, k, v = leaf(2, 4, 6, 16), leaf(2, 4, 9, 16), leaf(2, 4, 9, 24)
    mask = torch.randn(2, 4, 6, 9, dtype=q.dtype, device="cuda") if bias else None
    out, lse = aten._scaled_dot_product_cudnn_attention(q, k, v, mask, True, 0.0, causal)[:2]
    expected, expected_lse = attention(q, k, v, mask, allowed(6, 9, None, 0, 0) if causal else None)
    assert_close(out, expected, 5e-3)
    assert_close(lse, expected_lse.unsqueeze(-1), 1e-2)
    assert_same_grads(out, expected, [q, k, v], 5e-2)


def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return aten._scaled_dot_product_flash_attention(q, k, v, 0.25, True)[0]  # type: ignore[no-any-return]


def efficient(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return aten._scaled_dot_product_efficient_attention(  # type: ignore[no-any-return]
        q, k, v, None, True, 0.25, True
    )[0]


def cudnn(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return aten._scaled_dot_product_cudnn_attention(  # type: ignore[no-any-return]
        q, k, v, None, True, 0.25, True
    )[0]


@pytest.mark.parametrize("operator", [flash, efficient, cudnn])
def test_dropout(operator: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    dtype = torch.float32 if operator is efficient else torch.float16
    q, k, v = (leaf(2, 4, 64, 16, dtype=dtype) for _ in range(3))
    torch.manual_seed(5)
    first, second = operator(q, k, v), operator(q, k, v)
    torch.manual_seed(5)
    assert torch.equal(first, operator(q, k, v))
    assert not torch.equal(first, second)

    # The mask of the backward pass is that of the forward pass: the output is linear in v.
    seed = torch.randn_like(first)
    grads = torch.autograd.grad(first, (q, k, v), seed)
    torch.testing.assert_close(
        (seed.double() * first.double()).sum(), (grads[2].double() * v.double()).sum(), rtol=1e-2, atol=1e-2
    )
    if operator is not efficient:
        return
    for tensor, grad in ((q, grads[0]), (k, grads[1])):
        step, value = torch.randn_like(tensor), tensor.detach().clone()
        results = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.copy_(value + sign * 1e-2 * step)
                torch.manual_seed(5)
                results.append(operator(q, k, v))
                tensor.copy_(value)
        slope = ((results[0] - results[1]).double() * seed.double()).sum() / 2e-2
        torch.testing.assert_close(slope, (grad * step).double().sum(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("operator", [flash, efficient, cudnn])
def test_dropout_rate_and_independence(operator: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Equal scores and unit values: the output counts the keys that were kept."""
    dtype = torch.float32 if operator is efficient else torch.float16
    q = torch.zeros(4, 4, 64, 8, dtype=dtype, device="cuda")
    v = torch.eye(64, dtype=dtype, device="cuda").expand(4, 4, 64, 64)
    torch.manual_seed(0)
    arguments = (q, q, v) if operator is efficient else (q.repeat(1, 1, 1, 8), q.repeat(1, 1, 1, 8), v)
    masks = [operator(*arguments) > 0 for _ in range(2)]
    rows = torch.tril(torch.ones(64, 64, dtype=torch.bool, device="cuda"))
    kept = [mask[..., rows].float() for mask in masks]
    for mask in kept:
        assert abs(mask.mean().item() - 0.75) < 0.01
    correlation = torch.corrcoef(torch.stack([mask.flatten() for mask in kept]))[0, 1]
    assert abs(correlation.item()) < 0.02


def test_efficient_dropout_mask_can_be_asked_for() -> None:
    q = torch.zeros(1, 2, 32, 8, device="cuda")
    v = torch.eye(32, device="cuda").expand(1, 2, 32, 32)
    torch.manual_seed(3)
    out, _, seed, offset = aten._scaled_dot_product_efficient_attention(q, q, v, None, True, 0.5)
    uniform = torch.empty(1, 2, 32, 32, device="cuda")
    aten._fill_mem_eff_dropout_mask_(uniform, 0.5, seed.item(), offset.item())
    assert torch.equal(out > 0, uniform > 0.5)


def test_debug_mask_has_the_dropped_elements_negative() -> None:
    torch.manual_seed(0)
    q = torch.randn(1, 1, 64, 8, dtype=torch.float16, device="cuda")
    result = aten._scaled_dot_product_flash_attention(q, q, q, 0.5, False, True)
    debug = result[8]
    assert 0.4 < (debug < 0).float().mean().item() < 0.6
    assert_close(debug.clamp(min=0).float() * 2 @ q.float(), result[0], 2e-2)


@pytest.mark.parametrize("value_dim", [8, 16])
def test_query_that_sees_no_key(value_dim: int) -> None:
    q, v = leaf(1, 1, 4, 8, dtype=torch.float32), leaf(1, 1, 4, value_dim, dtype=torch.float32)
    bias = torch.zeros(1, 1, 4, 4, device="cuda")
    bias[..., 1, :] = -math.inf
    out = aten._scaled_dot_product_efficient_attention(q, q, v, bias, True)[0]
    assert not out[0, 0, 1].any()
    for grad in torch.autograd.grad(out.sum(), (q, v)):
        assert grad.isfinite().all()


def test_undefined_shapes_and_types_are_refused() -> None:
    q = torch.randn(1, 2, 4, 16, device="cuda")
    with pytest.raises(RuntimeError, match="FlashAttention only support fp16 and bf16 data type"):
        aten._scaled_dot_product_flash_attention(q, q, q)
    with pytest.raises(RuntimeError, match="cutlassF: no kernel found to launch!"):
        aten._scaled_dot_product_efficient_attention(q.double(), q.double(), q.double(), None, True)
    wide = torch.randn(1, 2, 4, 264, dtype=torch.float16, device="cuda")
    with pytest.raises(RuntimeError, match="only supports head dimension at most 256"):
        aten._scaled_dot_product_flash_attention(wide, wide, wide)


# ---- packed sequences ----

LENGTHS_Q, LENGTHS_K = [5, 1, 7], [4, 3, 9]


def packed(dtype: torch.dtype, key_heads: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q = leaf(sum(LENGTHS_Q), 4, 16, dtype=dtype)
    k, v = (leaf(sum(LENGTHS_K), key_heads, 16, dtype=dtype) for _ in range(2))
    bounds = [
        functional.pad(torch.tensor(lengths).cumsum(0), (1, 0)).to(torch.int32).cuda()
        for lengths in (LENGTHS_Q, LENGTHS_K)
    ]
    return q, k, v, bounds[0], bounds[1]


def each_sequence(
    q: Tensor, k: Tensor, v: Tensor, mask: Callable[[int, int], Tensor | None]
) -> tuple[Tensor, Tensor]:
    results = []
    for one, key, value in zip(q.split(LENGTHS_Q), k.split(LENGTHS_K), v.split(LENGTHS_K), strict=True):
        shaped = [t.transpose(0, 1).unsqueeze(0) for t in (one, key, value)]
        results.append(attention(*shaped, mask=mask(one.size(0), key.size(0))))
    outputs = torch.cat([out[0].transpose(0, 1) for out, _ in results])
    return outputs, torch.cat([lse[0] for _, lse in results], 1)


@pytest.mark.parametrize(
    ("causal", "window", "key_heads"),
    [(False, None, 4), (True, None, 4), (False, (2, 1), 4), (True, (2, 0), 2)],
)
def test_packed_flash(causal: bool, window: tuple[int, int] | None, key_heads: int) -> None:
    q, k, v, bounds_q, bounds_k = packed(torch.float16, key_heads)
    left, right = window or (None, None)
    out, lse = aten._flash_attention_forward(
        q, k, v, bounds_q, bounds_k, max(LENGTHS_Q), max(LENGTHS_K), 0.0, causal, False,
        window_size_left=left, window_size_right=right,
    )[:2]  # fmt: skip

    def mask(queries: int, keys: int) -> Tensor:
        return allowed(queries, keys, left, 0 if causal else right, keys - queries)

    expected, expected_lse = each_sequence(q, k, v, mask)
    assert_close(out, expected, 5e-3)
    seen = expected_lse.isfinite()
    assert_close(lse[seen.cuda()], expected_lse[seen], 1e-2)
    assert_same_grads(out, expected, [q, k, v], 5e-2)


def test_packed_flash_dropout_agrees_with_its_backward() -> None:
    q, k, v, bounds_q, bounds_k = packed(torch.float16)
    out = aten._flash_attention_forward(q, k, v, bounds_q, bounds_k, 7, 9, 0.5, False, False)[0]
    seed = torch.randn_like(out)
    grad = torch.autograd.grad(out, v, seed)[0]
    torch.testing.assert_close(
        (seed.double() * out.double()).sum(), (grad.double() * v.double()).sum(), rtol=1e-2, atol=1e-2
    )


@pytest.mark.skipif(torch.__version__ < "2.12", reason="the operator takes no table of pages")
def test_flash_from_a_paged_cache() -> None:
    torch.manual_seed(0)
    lengths, page = [5, 11], 4
    q = torch.randn(2, 1, 4, 16, dtype=torch.float16, device="cuda")
    cache = torch.randn(2, 8, page, 4, 16, dtype=torch.float16, device="cuda")
    table = torch.tensor([[3, 1, 0], [7, 2, 5]], dtype=torch.int32, device="cuda")
    used = torch.tensor(lengths, dtype=torch.int32, device="cuda")
    out = aten._flash_attention_forward(
        q, cache[0], cache[1], None, None, 1, 12, 0.0, True, False, seqused_k=used, block_table=table
    )[0]
    for n, length in enumerate(lengths):
        k, v = (c[table[n].long()].flatten(0, 1)[:length].transpose(0, 1).unsqueeze(0) for c in cache)
        expected, _ = attention(q[n : n + 1].transpose(1, 2), k, v)
        assert_close(out[n : n + 1].transpose(1, 2), expected, 5e-3)


def test_flash_alibi() -> None:
    torch.manual_seed(0)
    q, k = (torch.randn(1, n, 4, 16, dtype=torch.float16, device="cuda") for n in (3, 5))
    slopes = torch.tensor([1.0, 0.5, 0.25, 0.125], device="cuda")
    out = aten._flash_attention_forward(q, k, k, None, None, 3, 5, 0.0, False, False, alibi_slopes=slopes)[0]
    distance = (torch.arange(5) - torch.arange(3).unsqueeze(1) - 2).abs()
    bias = -slopes.cpu().view(1, 4, 1, 1) * distance
    expected, _ = attention(q.transpose(1, 2), k.transpose(1, 2), k.transpose(1, 2), bias)
    assert_close(out.transpose(1, 2), expected, 5e-3)


@pytest.mark.parametrize(("mask_type", "window"), [(0, None), (1, None), (2, None), (1, 3), (2, 3)])
def test_packed_efficient(mask_type: int, window: int | None) -> None:
    q, k, v, bounds_q, bounds_k = packed(torch.float32)
    out, lse, philox_seed, philox_offset, max_q, max_k = aten._efficient_attention_forward(
        q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), None, bounds_q, bounds_k, max(LENGTHS_Q),
        max(LENGTHS_K), 0.0, mask_type, True, window_size=window,
    )  # fmt: skip
    assert (max_q, max_k) == (7, 9)
    assert lse.shape == (3, 4, 32)

    def mask(queries: int, keys: int) -> Tensor | None:
        if mask_type == 0:
            return None
        left = window - 1 if window else None
        return allowed(queries, keys, left, 0, keys - queries if mask_type == 2 else 0)

    expected, _ = each_sequence(q, k, v, mask)
    assert_close(out[0], expected, 1e-5)
    seed = torch.randn_like(out)
    with torch.no_grad():  # autograd itself leaves the window out
        ours = aten._efficient_attention_backward(
            seed, q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), None, out, bounds_q, bounds_k, 7, 9, lse,
            0.0, philox_seed, philox_offset, mask_type, False, window_size=window,
        )[:3]  # fmt: skip
    theirs = torch.autograd.grad(expected, [q, k, v], seed[0].cpu().double())
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one[0], other, 1e-4)


@pytest.mark.skipif(torch.__version__ < "2.8", reason="the operator has no gradient in this torch")
@pytest.mark.parametrize("causal", [False, True])
def test_packed_cudnn(causal: bool) -> None:
    q, k, v, bounds_q, bounds_k = packed(torch.float16)
    out, lse = aten._cudnn_attention_forward(
        q, k, v, None, bounds_q, bounds_k, max(LENGTHS_Q), max(LENGTHS_K), True, 0.0, causal
    )[:2]
    assert lse.shape == (sum(LENGTHS_Q), 4, 1)
    expected, expected_lse = each_sequence(
        q, k, v, lambda queries, keys: allowed(queries, keys, None, 0, 0) if causal else None
    )
    assert_close(out, expected, 5e-3)
    assert_close(lse.squeeze(-1), expected_lse.t(), 1e-2)
    assert_same_grads(out, expected, [q, k, v], 5e-2)


# ---- nested tensors ----


@pytest.mark.parametrize(
    ("dtype", "name", "causal"),
    [(torch.float16, "Flash", False), (torch.float16, "Flash", True), (torch.float32, "Efficient", True)],
)
def test_nested(dtype: torch.dtype, name: str, causal: bool) -> None:
    torch.manual_seed(0)
    parts = [[leaf(n, 4, 16, dtype=dtype) for n in (5, 2, 7)] for _ in range(3)]
    nested = [torch.nested.as_nested_tensor(part).transpose(1, 2) for part in parts]
    grads_wanted = name == "Flash"
    with torch.set_grad_enabled(grads_wanted), sdpa_kernel(getattr(SDPBackend, f"{name.upper()}_ATTENTION")):
        out = functional.scaled_dot_product_attention(*nested, is_causal=causal)
    rows = out.transpose(1, 2).unbind()
    seeds = [torch.randn_like(row) for row in rows]
    for n, row in enumerate(rows):
        q, k, v = (part[n].transpose(0, 1).unsqueeze(0) for part in parts)
        mask = allowed(row.size(0), row.size(0), None, 0, 0) if causal else None
        expected = attention(q, k, v, mask=mask)[0][0].transpose(0, 1)
        assert_close(row, expected, TOLERANCE[dtype])
        if grads_wanted:
            inputs = [part[n] for part in parts]
            ours = torch.autograd.grad(row, inputs, seeds[n], retain_graph=True)
            theirs = torch.autograd.grad(expected, inputs, seeds[n].cpu().double())
            for one, other in zip(ours, theirs, strict=True):
                assert_close(one, other, 10 * TOLERANCE[dtype])


# ---- the choice among them ----


def backend_of(
    q: Tensor, k: Tensor | None = None, mask: Tensor | None = None, causal: bool = False
) -> SDPBackend:
    key = q if k is None else k
    return SDPBackend(torch._fused_sdp_choice(q, key, key, mask, 0.0, causal))


def test_choice_follows_type_mask_and_head_dim() -> None:
    single = torch.randn(2, 4, 8, 16, device="cuda")
    half = single.half()
    assert backend_of(half) == SDPBackend.FLASH_ATTENTION
    assert backend_of(half.bfloat16()) == SDPBackend.FLASH_ATTENTION
    assert backend_of(single) == SDPBackend.EFFICIENT_ATTENTION
    assert backend_of(single.double()) == SDPBackend.MATH
    mask = torch.zeros(8, 8, dtype=torch.float16, device="cuda")
    assert backend_of(half, mask=mask) == SDPBackend.EFFICIENT_ATTENTION
    assert backend_of(half, half[:, :, :4], causal=True) == SDPBackend.EFFICIENT_ATTENTION
    assert backend_of(single[..., :6]) == SDPBackend.MATH
    assert backend_of(torch.randn(1, 1, 4, 512, dtype=torch.float16, device="cuda")) == (
        SDPBackend.EFFICIENT_ATTENTION
    )
    assert backend_of(single[0]) == SDPBackend.MATH


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        (SDPBackend.FLASH_ATTENTION, "ScaledDotProductFlashAttention"),
        (SDPBackend.EFFICIENT_ATTENTION, "ScaledDotProductEfficientAttention"),
        (SDPBackend.CUDNN_ATTENTION, "ScaledDotProductCudnnAttention"),
    ],
)
@pytest.mark.parametrize("head_dim", [16, 20])
def test_sdpa_kernel(backend: SDPBackend, name: str, head_dim: int) -> None:
    torch.manual_seed(0)
    q, k, v = (leaf(2, 4, 8, head_dim) for _ in range(3))
    if head_dim % 8 and backend != SDPBackend.FLASH_ATTENTION:
        with (
            sdpa_kernel(backend),
            pytest.warns(UserWarning, match="not used because"),
            pytest.raises(RuntimeError),
        ):
            functional.scaled_dot_product_attention(q, k, v)
        return
    with sdpa_kernel(backend):
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    expected, _ = attention(q, k, v, mask=allowed(8, 8, None, 0, 0))
    assert head_dim % 8 or name in type(out.grad_fn).__name__
    assert_close(out, expected, 5e-3)
    assert_same_grads(out, expected, [q, k, v], 5e-2)


def test_forced_kernel_that_cannot_serve() -> None:
    q = torch.randn(2, 4, 8, 16, device="cuda")
    with (
        sdpa_kernel(SDPBackend.FLASH_ATTENTION),
        pytest.warns(
            UserWarning, match=r"Expected query, key and value to all be of dtype: \{Half, BFloat16\}"
        ),
        pytest.raises(RuntimeError, match=r"No available kernel\. Aborting execution\."),
    ):
        functional.scaled_dot_product_attention(q, q, q)


def test_boolean_mask_through_the_public_function() -> None:
    torch.manual_seed(0)
    q, k, v = (leaf(2, 4, 7, 16, dtype=torch.float32) for _ in range(3))
    mask = torch.rand(2, 1, 7, 7, device="cuda") > 0.3
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    expected, _ = attention(q, k, v, mask=mask.cpu())
    assert "Efficient" in type(out.grad_fn).__name__
    assert_close(out, expected, 1e-5)
    assert_same_grads(out, expected, [q, k, v], 1e-4)


def test_grouped_query_attention() -> None:
    torch.manual_seed(0)
    q, k, v = leaf(2, 8, 6, 16), leaf(2, 2, 6, 16), leaf(2, 2, 6, 16)
    out = functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    expected, _ = attention(q, k, v)
    assert "Flash" in type(out.grad_fn).__name__
    assert_close(out, expected, 5e-3)
    assert_same_grads(out, expected, [q, k, v], 5e-2)


@pytest.mark.parametrize("scale", [-0.5, 0.0, 2.0])
@pytest.mark.parametrize("value_dim", [16, 24])
def test_scale(scale: float, value_dim: int) -> None:
    torch.manual_seed(0)
    q, k = leaf(2, 4, 6, 16, dtype=torch.float32), leaf(2, 4, 6, 16, dtype=torch.float32)
    v = leaf(2, 4, 6, value_dim, dtype=torch.float32)
    out = aten._scaled_dot_product_efficient_attention(q, k, v, None, True, scale=scale)[0]
    factor = scale * math.sqrt(16)
    expected, _ = attention(q * factor, k, v)
    assert_close(out, expected, 1e-5)
    assert_same_grads(out, expected, [q, k, v], 1e-4)
