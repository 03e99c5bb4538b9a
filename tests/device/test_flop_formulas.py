"""The counts of `heitu.rehearsal.work` against the formulas of torch.utils.flop_counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from heitu.rehearsal.record import TensorArgument
from heitu.rehearsal.work import work

aten = torch.ops.aten


class Compared(TorchDispatchMode):
    """Counts each operator both ways, torch's from the arguments and ours from what a record has."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[str, float, float | None]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            ours = work(
                func.name(),
                tuple(TensorArgument(str(t.dtype).removeprefix("torch."), tuple(t.shape)) for t in given),
                sum(t.nbytes for t in given),
                sum(t.nbytes for t in results),
            )
            self.pairs.append((func.name(), formula(*args, **kwargs, out_val=result), ours.flops))
        return result


def made(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="meta", requires_grad=True)


def convolve(weight: tuple[int, ...], data: tuple[int, ...], **options: Any) -> torch.Tensor:
    return F.conv2d(made(*data), made(*weight), made(weight[0]), **options)


def attend(heads: int, rows: int, columns: int, width: int) -> torch.Tensor:
    query, key = made(2, heads, rows, width), made(2, heads, columns, width)
    result = aten._scaled_dot_product_flash_attention(query, key, made(2, heads, columns, width))
    return result[0]


PROGRAMS: dict[str, Callable[[], torch.Tensor]] = {
    "linear": lambda: F.linear(made(4, 7, 16), made(24, 16), made(24)),
    "mm": lambda: made(5, 6) @ made(6, 7),
    "bmm": lambda: made(3, 5, 6) @ made(3, 6, 7),
    "baddbmm": lambda: torch.baddbmm(made(3, 5, 7), made(3, 5, 6), made(3, 6, 7)),
    "conv": lambda: convolve((8, 3, 3, 3), (2, 3, 32, 32)),
    "conv stride padding": lambda: convolve((8, 4, 5, 3), (2, 4, 31, 17), stride=2, padding=1),
    "conv grouped": lambda: convolve((8, 2, 3, 3), (2, 4, 16, 16), groups=2),
    "conv depthwise": lambda: convolve((4, 1, 3, 3), (2, 4, 16, 16), groups=4, padding=1),
    "conv first layer": lambda: F.conv2d(made(2, 3, 16, 16).detach(), made(8, 3, 3, 3)),
    "conv1d": lambda: F.conv1d(made(2, 4, 50), made(6, 4, 7), padding=3),
    "conv transposed": lambda: F.conv_transpose2d(made(2, 8, 9, 9), made(8, 3, 4, 4), stride=2),
    "conv transposed same": lambda: F.conv_transpose2d(made(2, 8, 9, 9), made(8, 8, 2, 2), stride=2),
    "attention": lambda: attend(4, 64, 64, 16),
    "cross attention": lambda: attend(2, 16, 48, 8),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_forward_and_backward(name: str) -> None:
    with Compared() as mode:
        result = PROGRAMS[name]()
        if result.requires_grad:
            result.sum().backward()
    assert mode.pairs
    # torch multiplies the channels of all groups in gradients of weights, where each group has its own.
    grouped = name in ("conv grouped", "conv depthwise")
    for operator, theirs, ours in mode.pairs:
        if grouped and operator == "aten::convolution_backward":
            assert ours is not None
            assert ours < theirs
        else:
            assert ours == theirs, operator


def test_scaled_mm() -> None:
    a = torch.empty(16, 32, device="meta", dtype=torch.float8_e4m3fn)
    b = torch.empty(48, 32, device="meta", dtype=torch.float8_e4m3fn).t()
    scale = torch.empty((), device="meta")
    with Compared() as mode:
        torch._scaled_mm(a, b, scale, scale, out_dtype=torch.bfloat16)
    assert [(theirs, ours) for _, theirs, ours in mode.pairs] == [(2 * 16 * 32 * 48,) * 2]


def test_attention_backward() -> None:
    query, key = made(2, 4, 16, 8), made(2, 4, 24, 8)
    forward = aten._scaled_dot_product_flash_attention(query, key, key)
    with Compared() as mode:
        aten._scaled_dot_product_flash_attention_backward(
            forward[0], query, key, key, *forward[:6], 0.0, False, forward[6], forward[7]
        )
    ((_, theirs, ours),) = mode.pairs
    assert ours == theirs == 5 * 2 * 2 * 4 * 16 * 24 * 8
