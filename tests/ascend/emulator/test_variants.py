"""The forms of operators that PyTorch's samples of the plain ones leave out: in place, other types, lists."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing._internal import common_methods_invocations as invocations

from tests.ascend.emulator.comparing import assert_same, is_random, noted, to_npu
from tests.ascend.emulator.test_operators import OPERATORS, full_name, samples

pytestmark = pytest.mark.filterwarnings("ignore")
TYPES = (torch.int64, torch.bool, torch.float16, torch.bfloat16)
# What the plugin answers in another type than PyTorch.
OTHER_TYPES = ("native_layer_norm", "logit")
IN_PLACE = [op for op in OPERATORS if op.inplace_variant is not None and not is_random(full_name(op))]
IN_TYPES = [op for op in OPERATORS if not is_random(full_name(op)) and op.name not in OTHER_TYPES]
DATABASES = [name for name in dir(invocations) if name.startswith("foreach") and name.endswith("_db")]
FOREACH = [op for name in DATABASES for op in getattr(invocations, name)]
FEW = slice(0, 30, 3)


def plain(value: Any) -> Any:
    """Without gradients."""
    return value.detach() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("op", IN_PLACE, ids=full_name)
def test_in_place(op: Any) -> None:
    torch.manual_seed(0)
    for sample in samples(op):
        here = sample.input.detach().clone()
        if full_name(op) == "addbmm" and here.dim() < 2:
            continue  # the plugin refuses what PyTorch widens
        there = here.to("npu")
        arguments = [plain(each) for each in sample.args]
        try:
            op.inplace_variant(here, *arguments, **sample.kwargs)
        except RuntimeError:  # the result would have another shape, or another type
            continue
        with noted():
            op.inplace_variant(there, *(plain(each) for each in to_npu(arguments)), **to_npu(sample.kwargs))
            assert_same(there, here)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("op", IN_TYPES, ids=full_name)
def test_in_other_types(op: Any, dtype: torch.dtype) -> None:
    if dtype not in op.dtypes:
        pytest.skip("not an operator of this type")
    torch.manual_seed(0)
    for index, sample in enumerate(op.sample_inputs("cpu", dtype, requires_grad=False)):
        if index == 2:
            return
        try:
            wanted = op(sample.input, *sample.args, **sample.kwargs)
        except RuntimeError:  # what the CPU cannot do in this type
            continue
        with noted():
            there = to_npu((sample.input, sample.args, sample.kwargs))
            assert_same(
                op(there[0], *there[1], **there[2]), wanted, 2e-2 if dtype.is_floating_point else 1e-4
            )


@pytest.mark.parametrize("op", FOREACH, ids=lambda op: op.name)
def test_lists(op: Any) -> None:
    torch.manual_seed(0)
    for sample in list(op.sample_inputs("cpu", torch.float32))[FEW]:
        options = {name: value for name, value in sample.kwargs.items() if name != "disable_fastpath"}
        there = to_npu((sample.input, sample.args, options))
        try:
            wanted = op.method_variant(sample.input, *sample.args, **options)
        except (RuntimeError, TypeError):
            continue
        with noted():
            assert_same(op.method_variant(there[0], *there[1], **there[2]), wanted)
            if op.inplace_variant is not None:
                op.inplace_variant(sample.input, *sample.args, **options)
                op.inplace_variant(there[0], *there[1], **there[2])
                assert_same(there[0], sample.input)
