"""Operators that only Ascend's plugin has, against the same said in PyTorch on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from tests.ascend.emulator.comparing import assert_same, noted

Pair = tuple[torch.Tensor, torch.Tensor]
pytestmark = pytest.mark.filterwarnings("ignore")


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def whole(*shape: int) -> torch.Tensor:
    return torch.randint(-9, 9, shape).to(torch.int8)


def both(*tensors: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Leaves on the CPU, and the same on the device."""
    leaves = [each.clone().requires_grad_() for each in tensors]
    return leaves, [each.to("npu").requires_grad_() for each in tensors]


def slopes(
    got: torch.Tensor, there: list[torch.Tensor], wanted: torch.Tensor, here: list[torch.Tensor]
) -> Iterator[Pair]:
    """The gradients of both."""
    weight = torch.randn_like(wanted)
    first = torch.autograd.grad(got, there, weight.to("npu"))
    yield from zip(first, torch.autograd.grad(wanted, here, weight), strict=True)


def rms_norm() -> Iterator[Pair]:
    here, there = both(normal(4, 16), normal(16))
    wanted = functional.rms_norm(here[0], (16,), here[1], 1e-6)
    got = torch.ops.npu.npu_rms_norm(*there, epsilon=1e-6)[0]
    yield got, wanted
    yield from slopes(got, there, wanted, here)


def add_rms_norm() -> Iterator[Pair]:
    x, y, weight = normal(4, 16), normal(4, 16), normal(16)
    out, _, total = torch.ops.npu.npu_add_rms_norm(x.to("npu"), y.to("npu"), weight.to("npu"))
    yield total, x + y
    yield out, functional.rms_norm(x + y, (16,), weight, 1e-6)


def rotary(mode: str) -> Iterator[Pair]:
    here, there = both(normal(2, 4, 8, 16), normal(1, 1, 8, 16), normal(1, 1, 8, 16))
    x = here[0]
    if mode == "half":
        turned = torch.cat([-x[..., 8:], x[..., :8]], -1)
    else:
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    wanted = x * here[1] + turned * here[2]
    got = torch.ops.npu.npu_rotary_mul(*there, rotary_mode=mode)
    yield got, wanted
    yield from slopes(got, there, wanted, here)


def rotary_half() -> Iterator[Pair]:
    return rotary("half")


def rotary_interleaved() -> Iterator[Pair]:
    return rotary("interleave")


def swiglu() -> Iterator[Pair]:
    here, there = both(normal(4, 32))
    wanted = functional.silu(here[0][:, :16]) * here[0][:, 16:]
    got = torch.ops.npu.npu_swiglu(there[0], -1)
    yield got, wanted
    yield from slopes(got, there, wanted, here)


def geglu() -> Iterator[Pair]:
    x = normal(4, 32)
    got = torch.ops.npu.npu_geglu(x.to("npu"), -1, 1)[0]
    yield got, x[:, :16] * functional.gelu(x[:, 16:], approximate="tanh")


def group_norm_silu() -> Iterator[Pair]:
    x, weight, bias = normal(2, 8, 4, 4), normal(8), normal(8)
    got = torch.ops.npu.npu_group_norm_silu(x.to("npu"), weight.to("npu"), bias.to("npu"), 4)[0]
    yield got, functional.silu(functional.group_norm(x, 4, weight, bias))


def cross_entropy() -> Iterator[Pair]:
    here, there = both(normal(6, 10))
    target = torch.randint(0, 10, (6,))
    wanted = functional.cross_entropy(here[0], target)
    got = torch.ops.npu.npu_cross_entropy_loss(there[0], target.to("npu"))[0].reshape(())
    yield got, wanted
    yield from slopes(got, there, wanted, here)


def scaled_masked_softmax() -> Iterator[Pair]:
    x, mask = normal(2, 4, 8, 8), torch.rand(2, 1, 8, 8) > 0.5
    got = torch.ops.npu.npu_scaled_masked_softmax(x.to("npu"), mask.to("npu"), 0.5, False)
    yield got, torch.softmax((x * 0.5).masked_fill(mask, -10000.0), -1)


def batch_norm_stats() -> Iterator[Pair]:
    x = normal(4, 3, 5, 5)
    mean, invstd = torch.batch_norm_stats(x.to("npu"), 1e-5)
    yield mean, x.mean((0, 2, 3))
    yield invstd, torch.rsqrt(x.var((0, 2, 3), unbiased=False) + 1e-5)


def gating() -> Iterator[Pair]:
    x = normal(6, 8)
    got = torch.ops.npu.npu_moe_gating_top_k_softmax(x.to("npu"), None, 2)
    yield from zip(got[:2], torch.topk(x.softmax(-1), 2), strict=True)


def routing() -> Iterator[Pair]:
    x, experts, scales = normal(6, 8), torch.randint(0, 4, (6, 2)).int(), torch.rand(6, 2)
    rows, places, counts, _ = torch.ops.npu.npu_moe_init_routing_v2(
        x.to("npu"), experts.to("npu"), active_num=12, expert_num=4, expert_tokens_num_type=1,
        expert_tokens_num_flag=True, active_expert_range=[0, 4], quant_mode=-1, row_idx_type=0,
    )  # fmt: skip
    order = torch.argsort(experts.flatten().long(), stable=True)
    yield rows, x[order // 2]
    yield places, torch.argsort(order)
    yield counts, torch.bincount(experts.flatten(), minlength=4)
    column_major = torch.argsort(order).view(6, 2).t().flatten().int()
    got = torch.ops.npu.npu_moe_finalize_routing(
        rows, None, None, None, scales.to("npu"), column_major.to("npu"), experts.to("npu")
    )
    yield got, (x[:, None] * scales[..., None]).sum(1)


def permutation() -> Iterator[Pair]:
    experts = torch.randint(0, 4, (6, 2))
    (tokens, chances), there = both(normal(6, 8), torch.rand(6, 2))
    rows, places = torch.ops.npu.npu_moe_token_permute(there[0], experts.to("npu").int())
    order = torch.argsort(experts.flatten(), stable=True)
    permuted = tokens[order // 2]
    yield rows, permuted
    yield places, torch.argsort(order)
    got = torch.ops.npu.npu_moe_token_unpermute(rows, places, there[1])
    wanted = (permuted[torch.argsort(order)].view(6, 2, 8) * chances[..., None]).sum(1)
    yield got, wanted
    yield from slopes(got, there, wanted, [tokens, chances])


def grouped_matmul() -> Iterator[Pair]:
    x, weight, ends = normal(10, 8), normal(3, 8, 4), torch.tensor([3, 7, 10])
    parts = [x[:3] @ weight[0], x[3:7] @ weight[1], x[7:] @ weight[2]]
    got = torch.ops.npu.npu_grouped_matmul(
        [x.to("npu")],
        [weight.to("npu")],
        group_list=ends.to("npu"),
        split_item=3,
        group_type=0,
        group_list_type=0,
    )
    yield got[0], torch.cat(parts)
    lists = [[each.to("npu") for each in (x[:3], x[3:7])], [each.to("npu") for each in weight[:2]]]
    yield from zip(torch.ops.npu.npu_grouped_matmul(*lists, split_item=0, group_type=-1), parts, strict=False)


def quantized_matmul() -> Iterator[Pair]:
    x, weight, scale, of_tokens = whole(4, 32), whole(32, 16), torch.rand(16), torch.rand(4)
    there = x.to("npu"), weight.to("npu"), scale.to("npu")
    exact = (x.float() @ weight.float()) * scale / 100
    for dtype in (torch.bfloat16, torch.float16):
        yield torch.ops.npu.npu_quant_matmul(*there, output_dtype=dtype) / 100, exact.to(dtype)
    got = torch.ops.npu.npu_quant_matmul(
        *there, pertoken_scale=of_tokens.to("npu"), output_dtype=torch.float16
    )
    yield got / 100, exact * of_tokens[:, None]


def weight_quantized_matmul() -> Iterator[Pair]:
    x, weight, scale = normal(4, 64).half(), whole(64, 32), torch.rand(32).half()
    got = torch.ops.npu.npu_weight_quant_batchmatmul(x.to("npu"), weight.to("npu"), scale.to("npu"))
    yield got / 10, x.float() @ (weight.float() * scale.float()) / 10


def quantization() -> Iterator[Pair]:
    x = normal(4, 32).half()
    got, scale = torch.ops.npu.npu_dynamic_quant(x.to("npu"))
    steps = x.float().abs().amax(-1) / 127
    yield scale, steps
    yield got, torch.round(x.float() / steps[:, None])
    zero = torch.tensor([3], dtype=torch.int32)
    got = torch.ops.npu.npu_quantize(
        x.float().to("npu"), torch.tensor([0.1]).to("npu"), zero.to("npu"), torch.qint8, 1
    )
    yield got, (torch.round(x.float() / 0.1) + 3).clamp(-128, 127)


LAYOUTS = {
    "BNSD": lambda x: x,
    "BSND": lambda x: x.transpose(1, 2),
    "BSH": lambda x: x.transpose(1, 2).flatten(2),
    "SBH": lambda x: x.permute(2, 0, 1, 3).flatten(2),
}


def fused_attention() -> Iterator[Pair]:
    for layout, arranged in LAYOUTS.items():
        here = [normal(2, 4, 8, 16).requires_grad_() for _ in range(3)]
        there = [arranged(each.detach()).contiguous().to("npu").requires_grad_() for each in here]
        wanted = functional.scaled_dot_product_attention(*here)
        got = torch.ops.npu.npu_fusion_attention(*there, 4, layout, scale=0.25)[0]
        yield got, arranged(wanted)
        weight = torch.randn_like(wanted)
        first = torch.autograd.grad(got, there, arranged(weight).contiguous().to("npu"))
        for one, other in zip(first, torch.autograd.grad(wanted, here, weight), strict=True):
            yield one, arranged(other)


def packed_attention() -> Iterator[Pair]:
    parts = [normal(10, 4, 16) for _ in range(3)]
    got = torch.ops.npu.npu_fusion_attention(
        *(each.to("npu") for each in parts),
        4,
        "TND",
        scale=0.25,
        actual_seq_qlen=[4, 10],
        actual_seq_kvlen=[4, 10],
    )
    wanted = [
        functional.scaled_dot_product_attention(*(each[a:b].transpose(0, 1) for each in parts)).transpose(
            0, 1
        )
        for a, b in ((0, 4), (4, 10))
    ]
    yield got[0], torch.cat(wanted)


def inference_attention() -> Iterator[Pair]:
    here = [normal(2, 4, 8, 16).half() for _ in range(3)]
    wanted = functional.scaled_dot_product_attention(*(each.float() for each in here))
    options = {"num_heads": 4, "scale": 0.25, "input_layout": "BNSD"}
    yield (
        torch.ops.npu.npu_fused_infer_attention_score(*(each.to("npu") for each in here), **options)[0],
        wanted,
    )
    flat = LAYOUTS["BSH"]
    there = [flat(each).contiguous().to("npu") for each in here]
    options = {"num_heads": 4, "scale_value": 0.25, "input_layout": "BSH"}
    yield torch.ops.npu.npu_prompt_flash_attention(*there, **options), flat(wanted)
    got = torch.ops.npu.npu_incre_flash_attention(there[0][:, :1].contiguous(), *there[1:], **options)
    yield got, flat(wanted)[:, :1]


def paged_cache() -> Iterator[Pair]:
    key, value, slots = normal(5, 2, 16), normal(5, 2, 16), torch.tensor([0, 5, 11, 2, 7])
    wanted = [torch.zeros(3, 4, 2, 16) for _ in range(2)]
    caches = [each.to("npu") for each in wanted]
    torch.ops.npu.npu_scatter_pa_kv_cache(key.to("npu"), value.to("npu"), *caches, slots.int().to("npu"))
    wanted[0].view(12, 2, 16)[slots] = key
    wanted[1].view(12, 2, 16)[slots] = value
    yield from zip(caches, wanted, strict=True)


def rotary_cache() -> Iterator[Pair]:
    positions, query, key, cache = torch.tensor([3, 0, 7, 2]), normal(4, 64), normal(4, 32), normal(10, 16)
    there = [each.to("npu") for each in (positions, query, key, cache)]
    got = torch.ops.npu.npu_mrope(*there, 16, mrope_section=[0, 0, 0], rotary_mode="half")
    cos, sin = cache[positions][:, None, :8], cache[positions][:, None, 8:]
    for one, x in zip(got, (query, key), strict=True):
        first, second = x.view(4, -1, 16).chunk(2, -1)
        yield one, torch.cat([first * cos - second * sin, second * cos + first * sin], -1).flatten(1)


def quantizing_norm() -> Iterator[Pair]:
    x, y, weight, scale = (
        normal(4, 32).half(),
        normal(4, 32).half(),
        normal(32).half(),
        torch.full((32,), 0.05),
    )
    there = [each.to("npu") for each in (x, y, weight, scale.half())]
    got, _, total = torch.ops.npu.npu_add_rms_norm_quant(*there, None)
    wanted = functional.rms_norm(x.float() + y.float(), (32,), weight.float(), 1e-6)
    yield total, x.float() + y.float()
    yield got, torch.round(wanted / scale.half().float()).clamp(-128, 127)


def deep_norm() -> Iterator[Pair]:
    here, there = both(normal(4, 32), normal(4, 32), normal(32), normal(32))
    wanted = functional.layer_norm(here[0] * 0.3 + here[1], (32,), here[3], here[2], 1e-6)
    got = torch.ops.npu.npu_deep_norm(*there, 0.3, 1e-6)[2]
    yield got, wanted
    yield from slopes(got, there, wanted, here)


def fused_matmul() -> Iterator[Pair]:
    x, weight, more = normal(4, 8).half(), normal(8, 16).half(), normal(4, 16).half()
    there = [each.to("npu") for each in (x, weight)]
    exact = x.float() @ weight.float()
    yield torch.ops.npu.npu_fused_matmul(*there, x3=more.to("npu"), fused_op_type="add"), exact + more.float()
    yield torch.ops.npu.npu_fused_matmul(*there, fused_op_type="relu"), exact.relu()


def group_norm_swish() -> Iterator[Pair]:
    x, weight, bias = normal(2, 8, 4, 4), normal(8), normal(8)
    got = torch.ops.npu.npu_group_norm_swish(x.to("npu"), 4, weight.to("npu"), bias.to("npu"))[0]
    yield got, functional.silu(functional.group_norm(x, 4, weight, bias))


CHECKS = (
    rms_norm, add_rms_norm, rotary_half, rotary_interleaved, swiglu, geglu, group_norm_silu, cross_entropy,
    scaled_masked_softmax, batch_norm_stats, gating, routing, permutation, grouped_matmul, quantized_matmul,
    weight_quantized_matmul, quantization, fused_attention, packed_attention, inference_attention,
    paged_cache, rotary_cache, quantizing_norm, deep_norm, fused_matmul, group_norm_swish,
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_vendor_operator_gives_what_pytorch_gives(check: object) -> None:
    torch.manual_seed(0)
    with noted():
        for got, wanted in check():  # type: ignore[operator]
            assert_same(got.float(), wanted.float(), tolerance=5e-3)
