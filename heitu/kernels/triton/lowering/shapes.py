"""Which elements of operands an element comes from, and what is cheap enough to compute again."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from heitu.kernels.triton.ir import Operation, Value
from heitu.kernels.triton.lowering.elementwise import is_elementwise


@dataclass(frozen=True)
class Coordinate:
    """One coordinate of an element.

    Args:
        text: its C.
        level: the loop, counted from 1 at the outermost, in which it is known; 0: a constant.
    """

    text: str
    level: int


Index = tuple[Coordinate, ...]
ZERO = Coordinate("0", 0)

# Operations that only say where elements come from.
VIEWS = ("tt.splat", "tt.broadcast", "tt.expand_dims", "tt.trans")
# Operations on whole numbers that cost less than keeping their result.
CHEAP = frozenset(
    [
        "tt.make_range", "arith.constant", "ub.poison", "tt.addptr", "arith.addi", "arith.subi",
        "arith.muli", "arith.andi", "arith.ori", "arith.xori", "arith.cmpi", "arith.extsi",
        "arith.extui", "arith.trunci", "arith.shli", "arith.shrsi", "arith.shrui", "arith.index_cast",
        "arith.minsi", "arith.maxsi", "tt.reshape", *VIEWS,
    ]
)  # fmt: skip
MOST_CHEAP_OPERATIONS = 64
# What else is computed where it is used.
OTHERS = (
    "tt.make_range",
    "arith.constant",
    "ub.poison",
    "tt.reshape",
    "tt.join",
    "tt.cat",
    "tt.split",
    "tt.load",
)


def is_lazy(operation: Operation) -> bool:
    """Whether a tensor is computed where it is used, and not where it stands."""
    name = operation.name
    return is_elementwise(operation) or name in VIEWS or name in OTHERS


def is_cheap(
    value: Value, known: dict[Value, frozenset[Value] | None], counts: Container[Value] = ()
) -> bool:
    """Whether few operations make the value, all of them cheap.

    Args:
        known: the tensors that each value is made of, as found so far; none: it is at hand; None: not cheap.
        counts: what is cheap besides, whatever operation makes it.
    """
    return _parts(value, known, counts) is not None


def _parts(
    value: Value, known: dict[Value, frozenset[Value] | None], counts: Container[Value]
) -> frozenset[Value] | None:
    if value not in known:
        known[value] = _find_parts(value, known, counts)
    return known[value]


def _find_parts(
    value: Value, known: dict[Value, frozenset[Value] | None], counts: Container[Value]
) -> frozenset[Value] | None:
    operation = value.operation
    if operation is None or (operation.name not in CHEAP and value not in counts):
        return None
    if not value.type.is_tensor:
        return frozenset()
    found = {value}
    for operand in operation.operands:
        if operand.type.is_tensor:
            parts = _parts(operand, known, counts)
            if parts is None:
                return None
            found |= parts
    return frozenset(found) if len(found) <= MOST_CHEAP_OPERATIONS else None


def split_index(flat: str, level: int, shape: tuple[int, ...]) -> Index:
    """The coordinates of the element at a place in the order of memory."""
    index = []
    stride = 1
    for axis in reversed(range(len(shape))):
        extent = shape[axis]
        if extent == 1:
            index.append(ZERO)
        else:
            quotient = f"({flat} / {stride})" if stride > 1 else flat
            index.append(Coordinate(f"({quotient} % {extent})" if axis else quotient, level))
        stride *= extent
    return tuple(reversed(index))


def flat_index(index: Index, shape: tuple[int, ...]) -> Coordinate:
    """The place of an element in the order of memory."""
    terms: list[str] = []
    stride = 1
    for axis in reversed(range(len(shape))):
        if index[axis].text != "0":
            terms.append(index[axis].text if stride == 1 else f"{index[axis].text} * {stride}")
        stride *= shape[axis]
    level = max((coordinate.level for coordinate in index), default=0)
    return Coordinate(" + ".join(reversed(terms)) or "0", level)


def operands_at(operation: Operation, index: Index, result: int = 0) -> list[tuple[Value, Index]]:
    """The operands that an element of a result is made of, each with the index of its element.

    Of `tt.join` and `tt.cat` both operands, at the same place.
    """
    name, operands = operation.name, operation.operands
    if name == "tt.splat":
        return [(operands[0], ())]
    if name == "tt.broadcast":
        shape = operands[0].type.shape
        return [(operands[0], tuple(ZERO if n == 1 else at for n, at in zip(shape, index, strict=True)))]
    if name == "tt.expand_dims":
        axis = operation.integer("axis")
        return [(operands[0], index[:axis] + index[axis + 1 :])]
    if name == "tt.trans":
        back: list[Coordinate] = [ZERO] * len(index)
        for axis, source in enumerate(operation.integers("order")):
            back[source] = index[axis]
        return [(operands[0], tuple(back))]
    if name == "tt.reshape":
        return [(operands[0], _reshaped(index, operation.result.type.shape, operands[0].type.shape))]
    if name == "tt.split":
        return [(operands[0], (*index, Coordinate(str(result), 0)))]
    if name == "tt.join":
        return [(each, index[:-1]) for each in operands]
    if name == "tt.cat":
        extent = operands[0].type.shape[0]
        inside = Coordinate(f"({index[0].text} % {extent})", index[0].level)
        return [(each, (inside, *index[1:])) for each in operands]
    if name in ("tt.make_range", "arith.constant", "ub.poison"):
        return []
    return [(each, index if each.type.is_tensor else ()) for each in operands]


def _reshaped(index: Index, shape: tuple[int, ...], source: tuple[int, ...]) -> Index:
    """Where an element lies in the tensor before its shape was changed."""
    kept = [at for at, extent in zip(index, shape, strict=True) if extent != 1]
    if [n for n in shape if n != 1] == [n for n in source if n != 1]:
        rest = iter(kept)
        return tuple(ZERO if extent == 1 else next(rest) for extent in source)
    flat = flat_index(index, shape)
    return split_index(f"({flat.text})", flat.level, source)
