"""PyTorch's own samples of its operators, on the emulated device and on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db

from heitu.emulators import cann
from tests.ascend.emulator.comparing import SAMPLES, compare, is_random

# What the plugin itself does in another way than PyTorch, and so would on the chip.
PLUGIN = {
    "matmul": "a product with no elements cannot be reshaped",
    "__rmatmul__": "a product with no elements cannot be reshaped",
    "stft": "a window that wants a gradient is refused",
    "as_strided.partial_views": "views of half a storage are not copied to the device as such",
    "native_batch_norm": "statistics that were not asked for have a shape",
    "_native_batch_norm_legit": "statistics that were not asked for have a shape",
    "nn.functional.adaptive_max_pool3d": "indices are int32",
    "nn.functional.max_pool1d": "indices are a mask in the chip's layout",
    "nn.functional.max_pool2d": "indices are a mask in the chip's layout",
    "nn.functional.max_pool3d": "indices are int32",
    "torch._scaled_mm": "for the next generation of chips",
    "torch._scaled_mm_v2": "for the next generation of chips",
    "nn.functional.gelu": "the approximation is not looked at",
    "float_power": "there is no float64",
    "tensor_split": "sections have to lie on the CPU",
    "native_dropout_backward": "masks are bits",
    "nn.functional.scaled_dot_product_attention": "a sample drops out",
    "nn.functional.multi_head_attention_forward": "a sample drops out",
    "nn.functional.batch_norm.without_cudnn": "there are no samples for the CPU",
}
FORMATS = ("to", "bfloat16", "bool", "byte", "char", "double", "float", "half", "int", "long", "short",
           "cdouble", "cfloat", "chalf")  # fmt: skip
PLUGIN |= {name: "only contiguous memory formats" for name in FORMATS}
LEFT_OUT = (
    "linalg.",
    "fft.",
    "special.",
    "masked.",
    "signal",
    "jiterator",
    "sparse.",
    "to_sparse",
    "torch.ops.aten._flash",
    "torch.ops.aten._eff",
)


def full_name(op: Any) -> str:
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name


OPERATORS = [op for op in op_db if not op.name.startswith(LEFT_OUT) and full_name(op) not in PLUGIN]


def samples(op: Any) -> Iterator[Any]:
    dtype = torch.float32 if torch.float32 in op.dtypes else min(op.dtypes, key=str)
    made = op.sample_inputs("cpu", dtype, requires_grad=op.supports_autograd and dtype.is_floating_point)
    for index, sample in enumerate(made):
        if index == SAMPLES:
            return
        yield sample


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("op", OPERATORS, ids=full_name)
def test_an_operator_gives_what_the_cpu_gives(op: Any) -> None:
    torch.manual_seed(0)
    for sample in samples(op):
        try:
            op(sample.input, *sample.args, **sample.kwargs)
        except Exception:  # a sample that the CPU cannot do either
            continue
        compare(op, sample, by_value=not is_random(full_name(op)), gradients=op.supports_autograd)


def test_one_percent_is_noticed(falsify: Callable[[str, float], None]) -> None:
    op = next(each for each in op_db if each.name == "mul")
    sample = next(samples(op))
    compare(op, sample, by_value=True, gradients=False)
    falsify("aclnnMul", 1.01)
    with pytest.raises(AssertionError, match="not close"):
        compare(op, sample, by_value=True, gradients=False)


def test_enough_operators_are_emulated() -> None:
    assert len(cann.emulated()) >= 450
    assert not {each.name for each in cann.emulated()} & set(cann.missing())
