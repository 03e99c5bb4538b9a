"""In which order the elements of tiles lie in memory.

Tiles lie as rows, the last axis innermost, unless a function reads and writes memory along another axis in
tensors of that shape: then it walks along that axis, and tiles are to lie as they are walked through.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from heitu.kernels.triton.ir import Function, Value
from heitu.kernels.triton.lowering.planning import contiguous_axis
from heitu.kernels.triton.lowering.shapes import Coordinate, Index, flat_index, is_lazy

if TYPE_CHECKING:
    from heitu.kernels.triton.lowering.scope import Scope

# What takes tensors element by element, or tiles as a whole. All else knows rows only.
ANY_ORDER = (
    "tt.store",
    "tt.reduce",
    "tt.assert",
    "scf.for",
    "scf.if",
    "scf.while",
    "scf.yield",
    "scf.condition",
    "cf.br",
    "cf.cond_br",
)
# These are put off, but take a tile of another shape as it lies.
ROWS_ONLY = ("tt.reshape",)


class Layouts:
    """The innermost axis of the tiles of each shape, in one function."""

    def __init__(self, scope: Scope, function: Function) -> None:
        self._innermost: dict[tuple[int, ...], int] = {}
        votes: dict[tuple[int, ...], Counter[int]] = {}
        rows = {_shape(argument) for argument in function.arguments}
        for operation in function.walk():
            if operation.name in ("tt.load", "tt.store") and operation.operands[0].type.is_tensor:
                pointer = operation.operands[0]
                axis = contiguous_axis(scope, pointer)
                if axis is not None:
                    votes.setdefault(_shape(pointer), Counter())[axis] += 1
            if operation.name in ROWS_ONLY or not (is_lazy(operation) or operation.name in ANY_ORDER):
                rows.update(_shape(value) for value in (*operation.operands, *operation.results))
        for shape, count in votes.items():
            axis, most = max(count.items(), key=lambda each: (each[1], each[0]))
            if shape not in rows and axis != len(shape) - 1 and most > count[len(shape) - 1]:
                self._innermost[shape] = axis

    def innermost(self, shape: tuple[int, ...]) -> int:
        """The axis along which neighbours in memory are neighbours in the tile."""
        return self._innermost.get(shape, len(shape) - 1)

    def place(self, index: Index, shape: tuple[int, ...]) -> Coordinate:
        """Where an element lies in a tile."""
        axis = self._innermost.get(shape)
        if axis is None:
            return flat_index(index, shape)
        order = [each for each in range(len(shape)) if each != axis] + [axis]
        return flat_index(tuple(index[each] for each in order), tuple(shape[each] for each in order))


def _shape(value: Value) -> tuple[int, ...]:
    return value.type.shape if value.type.is_tensor else ()
