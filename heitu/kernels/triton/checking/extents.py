"""What the arguments of a launch let its kernel access.

Through a pointer that was computed from an argument a kernel may access the storage of that tensor, in which
it has to keep to what some argument covers: from the first element of a tensor to the last. Through any other
pointer it may access what torch's allocator has given out, where that is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from heitu.kernels.triton.checking import poison
from heitu.kernels.triton.signature import unpacked


@dataclass(frozen=True)
class Extent:
    """A pointer among the arguments; addresses in bytes, from the first up to, without, the last.

    Args:
        name: of the argument.
        tensor: None for an address that was given as a number, or for none at all.
        known: whether there is anything to judge accesses by.
    """

    name: str
    tensor: Any = None
    known: bool = False
    first: int = 0
    last: int = 0
    view_first: int = 0
    view_last: int = 0
    poisoned: bool = False


def extents(kinds: Sequence[Any], names: Sequence[str], values: Sequence[Any]) -> list[Extent | None]:
    """One entry for each number that a kernel is given; None for those that are no pointers."""
    found: list[Extent | None] = []
    for kind, name, value in zip(kinds, names, values, strict=False):
        found.extend(_of(kind, name, value))
    return found


def _of(kind: Any, name: str, value: Any) -> Iterator[Extent | None]:
    if isinstance(kind, (tuple, list)):
        for number, (each, item) in enumerate(zip(kind, value, strict=False)):
            yield from _of(each, f"{name}[{number}]", item)
    elif kind == "constexpr":
        return
    elif kind.startswith("tensordesc"):
        base, *numbers = unpacked(kind, value)
        yield _pointer(name, base)
        yield from [None] * len(numbers)
    elif kind.startswith("*") or kind == "nvTmaDesc":
        yield _pointer(name, value)
    else:
        yield None


def _pointer(name: str, value: Any) -> Extent:
    if value is None:
        return Extent(name, known=True)
    value = getattr(value, "base", value)  # of triton.reinterpret
    try:
        storage = value.untyped_storage()
        first, count, at = storage.data_ptr(), storage.nbytes(), value.data_ptr()
        shape, strides, size = value.shape, value.stride(), value.element_size()
    except (AttributeError, RuntimeError, NotImplementedError):
        return Extent(name)
    span = 0
    if all(shape):
        span = (sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 1) * size
    return Extent(name, value, True, first, first + count, at, at + span, poison.holds(storage))


def allocated() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What torch's allocator has given out on the cuda device, and the memory that it gives out from."""
    import torch

    blocks, segments = [], []
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for segment in torch.cuda.memory_snapshot():
            address = segment["address"]
            segments.append((address, address + segment["total_size"]))
            for block in segment["blocks"]:
                if block["state"] == "active_allocated":
                    size = block.get("requested_size") or block["size"]
                    blocks.append((address, address + size))
                address += block["size"]
    return blocks, segments
