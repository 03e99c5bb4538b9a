"""Failures that users of such chips have reported, foretold: the smallest program of each.

What the report says must show on that chip, and the same program must pass on a chip that has it.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.conftest import Rehearsed, rehearser


@dataclass(frozen=True)
class Pain:
    """A reported failure.

    Attributes:
        report: where it was reported.
        shows: what must be seen: "refused", "fallback", or a flag on the dtype: "narrowed", "stated_no".
        operator: at which.
        says: part of what is raised or warned.
    """

    name: str
    report: str
    chip: str
    shows: str
    operator: str
    program: str
    says: str = ""


PAINS = (
    Pain("rotary_frequencies", "huggingface/diffusers#10820, PR#10123", "ascend-910b", "refused",
         "aten::repeat_interleave.self_int", """
         grid = torch.arange(8, device="cuda").to("cpu").double()
         frequencies = torch.outer(grid, 1.0 / 10000 ** (torch.arange(0, 8, 2).double() / 8)).cuda()
         frequencies.cos().repeat_interleave(2, dim=1)
         """, "aclnnRepeatInterleaveIntWithDim failed"),
    Pain("expm1_of_float64", "sgl-project/sglang#29011", "ascend-910b", "refused", "aten::expm1",
         "torch.ones(3, dtype=torch.float64).cuda().expm1()", "aclnnExpm1 failed"),
    Pain("uint64_random", "Ascend/pytorch#158", "ascend-910b", "refused", "aten::random_.from",
         "torch.empty(6, dtype=torch.uint64, device='cuda').random_(0, 9)", "self scalar_type:UInt64"),
    Pain("matmul_of_float64", "flagos-ai/Torch-FL@1adbc97, dtypes of aclnnMatmul", "ascend-910b", "refused",
         "aten::matmul", "a = torch.ones(4, 4, dtype=torch.float64).cuda(); a @ a"),
    Pain("double_becomes_float", "safetensors/safetensors#661", "ascend-910b", "narrowed", "aten::_to_copy",
         "assert torch.ones(7, device='cuda').double().dtype is DOUBLE",
         "Device do not support double dtype now, dtype cast replace with float"),
    Pain("nms_on_the_host", "opendatalab/MinerU#1695, #1941", "ascend-910b", "fallback", "torchvision::nms",
         "torch.ops.torchvision.nms(torch.rand(3, 4).cuda(), torch.rand(3).cuda(), 0.5)",
         "The operator 'torchvision::nms' is not currently supported on the NPU backend"),
    Pain("encoder_layer_in_inference", "Ascend/pytorch#51", "ascend-910b", "fallback",
         "aten::_transformer_encoder_layer_fwd", """
         layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).cuda().eval()
         with torch.no_grad():
             layer(torch.ones(1, 3, 8, device="cuda"))
         """, "The operator 'aten::_transformer_encoder_layer_fwd' is not currently supported"),
    Pain("efficient_attention_by_name", "vllm-project/vllm-omni#755", "ascend-910b", "refused",
         "aten::_scaled_dot_product_efficient_attention", """
         q = torch.ones(1, 2, 4, 8, device="cuda")
         torch.ops.aten._scaled_dot_product_efficient_attention(q, q, q, None, False)
         """, "Could not run 'aten::_scaled_dot_product_efficient_attention'"),
    Pain("half_complex", "flagos-ai/FlagGems#3267", "ascend-910b", "stated_no", "aten::mul.Tensor",
         "x = torch.ones(9, dtype=torch.complex32, device='cuda'); x * x"),
    Pain("scaler_in_float64", "flagos-ai/Torch-FL PR#135", "ascend-910b", "narrowed", "aten::_to_copy", """
         scaler = torch.amp.GradScaler("cuda")
         weight = torch.nn.Parameter(torch.ones(3, 3, device="cuda"))
         optimizer = torch.optim.SGD([weight], lr=0.1)
         scaler.scale(weight.sum()).backward()
         scaler.step(optimizer)
         """),
    Pain("float64_sums", "flagos-ai/FlagGems#5253", "mlu590", "narrowed", "aten::add.Tensor",
         "x = torch.ones(1, dtype=torch.float64).cuda(); assert (x + 1e-12).item() > 1"),
    Pain("complex128", "flagos-ai/FlagGems#5253", "mlu590", "narrowed", "aten::mul.Tensor",
         "x = torch.ones(2, dtype=torch.complex128).cuda() * (1 + 1e-12j); assert x[0].imag.item() == 1e-12"),
    Pain("int64_arithmetic", "flagos-ai/FlagGems#5253", "mlu590", "narrowed", "aten::bitwise_and.Tensor",
         "x = torch.arange(3, device='cuda'); x & x"),
    Pain("int64_masks", "flagos-ai/sglang-plugin-FL PR#88", "s60", "stated_no", "aten::mul.Tensor",
         "x = torch.arange(4, device='cuda'); x * x"),
    Pain("float64_on_topsaten", "flagos-ai/Torch-FL@1adbc97", "s60", "stated_no", "aten::abs",
         "torch.ones(5, dtype=torch.float64).cuda().abs()"),
    Pain("float64_where", "flagos-ai/FlagSparse", "mtt-s5000", "refused", "aten::where.self",
         "x = torch.ones(3, dtype=torch.float64).cuda(); torch.where(x > 0, x, x)"),
    Pain("float64_mv", "flagos-ai/FlagSparse", "mtt-s5000", "refused", "aten::mv",
         "x = torch.ones(3, 3, dtype=torch.float64).cuda(); x.mv(x[0])"),
    Pain("int64_on_sunrise", "flagos-ai/FlagGems PR#3791", "sunrise", "stated_no", "aten::add.Tensor",
         "torch.arange(4, device='cuda') + 1"),
    Pain("bfloat16_on_sunrise", "flagos-ai/FlagGems PR#3791", "sunrise", "stated_no", "aten::mul.Tensor",
         "torch.ones(4, device='cuda', dtype=torch.bfloat16) * 2"),
    Pain("float64_from_the_host", "BIRENSUPA/torch-supa, limitations", "br104", "refused", "aten::copy_",
         "torch.ones(4, dtype=torch.float64).cuda()", "SUPA device does not support double (float64)"),
)  # fmt: skip

HEAD = """\
import json, sys, torch
DOUBLE = torch.float64
library = torch.library.Library("torchvision", "FRAGMENT")
if not hasattr(torch.ops.torchvision, "nms"):  # torchvision's own operator, where it is not installed
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", lambda dets, scores, iou_threshold: scores.sort(descending=True)[1], "CPU")
raised = {}
def attempt(function):
    try:
        function()
    except Exception as error:
        raised[function.__name__] = f"{type(error).__name__}: {error}"
"""
TAIL = "print(json.dumps(raised))\n"


def program(pains: list[Pain]) -> str:
    """All of them, each in a function of its name."""
    parts = [HEAD]
    for pain in pains:
        body = textwrap.indent(textwrap.dedent(pain.program).strip(), "    ")
        parts.append(f"@attempt\ndef {pain.name}():\n{body}\n")
    return "".join([*parts, TAIL])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Chip → all programs of that chip; "h200" → all there are. Each chip is rehearsed once."""

    @cache
    def of(chip: str) -> Rehearsed:
        pains = [pain for pain in PAINS if chip in ("h200", pain.chip)]
        folder: Path = tmp_path_factory.mktemp(chip)
        return rehearse_in(folder, chip, program(pains))

    return of


def rehearse_in(folder: Path, chip: str, text: str) -> Rehearsed:
    patch = pytest.MonkeyPatch()
    try:
        return rehearser(folder, patch)(chip, text)
    finally:
        patch.undo()


def rows_of(done: Rehearsed, pain: Pain) -> list[dict[str, Any]]:
    """The report's lines that name the program's function."""
    return [
        row
        for row in done.report["operators"]
        if any(place["user"] and place["user"]["function"] == pain.name for place in row["places"])
    ]


@pytest.mark.parametrize("pain", PAINS, ids=lambda pain: f"{pain.chip}-{pain.name}")
def test_it_is_foretold(done: Any, pain: Pain) -> None:
    found = done(pain.chip)
    assert found.status == 0, found.err
    raised = json.loads(found.out)
    assert (pain.name in raised) == (pain.shows == "refused" or "assert" in pain.program), raised
    key = "verdict" if pain.shows in ("refused", "fallback") else "dtype_verdict"
    seen = {row["operator"] for row in rows_of(found, pain) if row[key] == pain.shows}
    assert pain.operator in seen, (seen, raised)
    assert pain.says in raised.get(pain.name, "") + found.err


@pytest.mark.parametrize("pain", PAINS, ids=lambda pain: pain.name)
def test_it_passes_where_the_chip_has_it(done: Any, pain: Pain) -> None:
    found = done("h200")
    assert pain.name not in json.loads(found.out), found.out
    rows = rows_of(found, pain)
    assert rows
    assert {row["verdict"] for row in rows} == {"native"}
    assert {row["dtype_verdict"] for row in rows} == {None}
