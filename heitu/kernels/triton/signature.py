"""The types of a kernel's arguments, as Triton writes them, and what a launch makes of arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from heitu.kernels.triton.versions import DESCRIPTOR_FLAGS

FLOATS = {"fp16": "h", "bf16": "B", "fp32": "f", "f32": "f", "fp64": "d"}
BEFORE_ARGUMENTS = 9


def letters(kinds: Sequence[Any]) -> str:
    """One letter an argument, for the compiled launcher; tuples stand in parentheses."""
    return "".join(_letter(kind) for kind in kinds)


def _letter(kind: Any) -> str:
    if isinstance(kind, (tuple, list)):
        return f"({letters(kind)})"
    if kind == "constexpr":
        return "c"
    if kind.startswith("*") or kind == "nvTmaDesc":
        return "p"
    if kind.startswith("tensordesc"):
        return f"({_descriptor(kind)})"
    return FLOATS.get(kind, "i")


def _descriptor(kind: str) -> str:
    """A pointer, shape and strides, flags, and shape and strides once more."""
    rank = _rank(kind)
    return "p" + "i" * (2 * rank + DESCRIPTOR_FLAGS + 2 * rank)


def _rank(kind: str) -> int:
    found = re.match(r"tensordesc(?:_im2col)?<[^\[>]*\[([^\]]*)\]", kind)
    given = re.search(r",input_rank=(\d+)", kind)
    if given:
        return int(given[1])
    if found is None:
        raise ValueError(f"a tensor descriptor of the type {kind}")
    return found[1].count(",") + 1


def unpacking(launcher: Callable[..., None], kinds: Sequence[Any]) -> Callable[..., None]:
    """The launcher, given descriptors as the numbers that they consist of."""
    if not any(_holds_descriptor(kind) for kind in kinds):
        return launcher

    def launch(*arguments: Any) -> None:
        given = arguments[BEFORE_ARGUMENTS:]
        flat = [unpacked(kind, value) for kind, value in zip(kinds, given, strict=False)]
        launcher(*arguments[:BEFORE_ARGUMENTS], *flat)

    return launch


def _holds_descriptor(kind: Any) -> bool:
    if isinstance(kind, (tuple, list)):
        return any(_holds_descriptor(each) for each in kind)
    return isinstance(kind, str) and kind.startswith("tensordesc")


def unpacked(kind: Any, value: Any) -> Any:
    """An argument, descriptors in it as the numbers that they consist of, the pointer first."""
    if isinstance(kind, (tuple, list)):
        return tuple(unpacked(each, item) for each, item in zip(kind, value, strict=False))
    if not _holds_descriptor(kind):
        return value
    shape, strides = list(value.shape), list(value.strides)
    flags = [getattr(value, "padding", "zero") == "nan", bool(getattr(value, "round_f32_to_tf32", False))]
    return (value.base, *shape, *strides, *map(int, flags[:DESCRIPTOR_FLAGS]), *shape, *strides)
