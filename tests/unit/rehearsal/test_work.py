"""Counting the work of one call; torch's own formulas are held against these in tests/device."""

from __future__ import annotations

import pytest

from heitu.rehearsal.record import TensorArgument
from heitu.rehearsal.work import Kind, work


def counted(
    name: str, *shapes: tuple[int, ...] | None, out: float = 0, dtype: str = "float32"
) -> float | None:
    args = tuple(TensorArgument(dtype, shape) for shape in shapes)
    return work(name, args, 0, out * 4).flops


def moved(name: str, *shapes: tuple[int, ...], out: int = 0) -> float:
    args = tuple(TensorArgument("float32", shape) for shape in shapes)
    elements = 0
    for shape in shapes:
        product = 1
        for extent in shape:
            product *= extent
        elements += product
    return work(name, args, elements * 4, out * 4).bytes


@pytest.mark.parametrize(
    ("name", "shapes", "flops"),
    [
        ("aten::mm", [(2, 3), (3, 5)], 60),
        ("aten::mm.out", [(2, 3), (3, 5), (2, 5)], 60),
        ("aten::addmm", [(5,), (2, 3), (3, 5)], 60),
        ("aten::baddbmm_", [(4, 2, 5), (4, 2, 3), (4, 3, 5)], 240),
        ("aten::addbmm", [(2, 5), (4, 2, 3), (4, 3, 5)], 240),
        ("aten::mv", [(2, 3), (3,)], 12),
        ("aten::addmv", [(2,), (2, 3), (3,)], 12),
        ("aten::dot", [(7,), (7,)], 14),
        ("aten::matmul", [(7, 2, 3), (3, 5)], 420),
        ("aten::matmul", [(2, 3), (7, 3, 5)], 420),
        ("aten::linear", [(7, 2, 3), (5, 3), (5,)], 420),
        ("aten::_grouped_mm", [(6, 3), (2, 3, 5), (2,)], 180),
        ("aten::_grouped_mm", [(2, 6, 3), (2, 3, 5)], 360),
        ("aten::lstm.input", [(4, 2, 3), (1, 2, 5), (1, 2, 5), (20, 3), (20, 5), (20,), (20,)], 2 * 8 * 160),
        # Two sequences of 3 tokens end to end, 4 heads of 8.
        ("aten::_flash_attention_forward", [(6, 4, 8)] * 3 + [(3,), (3,)], 2 * 2 * 4 * 2 * 3 * 3 * 8),
    ],
)
def test_products(name: str, shapes: list[tuple[int, ...]], flops: float) -> None:
    assert counted(name, *shapes) == flops


def test_a_convolution_is_told_from_a_transposed_one() -> None:
    # 3 → 8 channels, kernel 3: 2 · 1·8·30·30 · 27.
    assert counted("aten::convolution_overrideable", (1, 3, 32, 32), (8, 3, 3, 3), out=8 * 900) == 388_800
    # The weight begins with the data's channels.
    assert counted("aten::convolution", (1, 3, 16, 16), (3, 8, 2, 2), out=8 * 32 * 32) == 2 * 768 * 32
    assert counted("aten::convolution", (1, 3, 16, 16), (3, 2, 3, 3), out=2 * 256) == 2 * 768 * 18
    # As many channels after as before: only a transposed one makes the image grow.
    assert counted("aten::convolution", (1, 4, 8, 8), (4, 4, 2, 2), out=4 * 256) == 2 * 256 * 16
    assert counted("aten::convolution", (1, 4, 8, 8), (4, 4, 2, 2), out=4 * 16) == 2 * 64 * 16
    # Depthwise.
    assert counted("aten::convolution", (1, 4, 8, 8), (4, 1, 3, 3), out=4 * 36) == 2 * 144 * 9


def test_which_gradients_of_a_convolution() -> None:
    shapes = (1, 8, 30, 30), (1, 3, 32, 32), (8, 3, 3, 3)
    name = "aten::convolution_backward"
    assert counted(name, *shapes, out=3 * 1024 + 216) == 2 * 388_800
    assert counted(name, *shapes, out=216) == 388_800
    assert counted(name, *shapes, out=216 + 8) == 388_800


def test_what_is_not_known_is_none() -> None:
    assert counted("aten::mm", None, None) is None
    assert counted("aten::mm", (2, 3)) is None
    assert counted("aten::add.Tensor", None, None) == 0


def test_complex_products_take_four_times() -> None:
    assert counted("aten::mm", (2, 3), (3, 5), dtype="complex64") == 240


def test_kinds() -> None:
    kinds = {
        "aten::addmm": Kind.PRODUCTS,
        "aten::_scaled_dot_product_flash_attention_backward": Kind.ATTENTION,
        "aten::cudnn_convolution_transpose": Kind.CONVOLUTION,
        "aten::slow_conv_dilated2d": Kind.CONVOLUTION,
        "aten::_convert_indices_from_coo_to_csr": Kind.MEMORY,
        "aten::native_layer_norm": Kind.MEMORY,
        "aten::masked_softmax": Kind.MEMORY,
        "torchvision::nms": Kind.OTHER,
        "c10d::allreduce_": Kind.COMMUNICATION,
    }
    args = (TensorArgument("float32", (2, 3, 4, 5)),) * 4
    assert {name: work(name, args, 0, 0).kind for name in kinds} == kinds


def test_bytes_that_move() -> None:
    assert moved("aten::add.Tensor", (10,), (10,), out=10) == 120
    assert moved("aten::view", (10,), out=10) == 0
    assert moved("aten::zero_", (10,), out=10) == 40
    assert moved("aten::copy_", (10,), (10,), out=10) == 80
    # Two of three lists are only read.
    assert moved("aten::_foreach_addcmul_.Scalar", (10,), (10,), (10,)) == 160
    # An embedding reads the rows it gives, not the whole table.
    assert moved("aten::embedding", (1000, 8), (2,), out=16) == 2 * 64 + 8
