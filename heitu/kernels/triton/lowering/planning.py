"""Before a nest is written: what it computes, what of that has to be kept, and in which order it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from heitu.kernels.triton.ir import Operation, Value
from heitu.kernels.triton.lowering.ranges import REMAINDERS
from heitu.kernels.triton.lowering.shapes import VIEWS, Coordinate, Index, is_lazy, operands_at

if TYPE_CHECKING:
    from heitu.kernels.triton.lowering.scope import Scope

# What an element may cost for it to be computed again in each turn of an outer loop.
MOST_REPEATED = 3
COSTLY = ("math.", "arith.div", "arith.rem", "tt.precise", "tt.extern")


class Plan:
    """What a nest over the shape of `wanted` computes.

    What is used by others as well, and is not cheap, is kept as it is computed. What would be computed again
    in each turn of an outer loop, or is kept but computed in another order, gets a tile first.

    Args:
        wanted: values, each with its index; None: one element after the other.
        roots: the operations that the nest does.
        into: values that get tiles in any case.
    """

    def __init__(
        self,
        scope: Scope,
        wanted: Sequence[tuple[Value, Index | None]],
        roots: set[Operation],
        into: set[Value] | None = None,
    ) -> None:
        self.scope = scope
        self.within = set(roots)
        self.into = into or set()
        self.in_order: list[Value] = []  # operands before their users
        self.shape = max((value.type.shape for value, _ in wanted), key=len)
        self._seen: set[tuple[Value, Index]] = set()
        for value, index in wanted:
            if value.type.is_tensor:
                whole = tuple(Coordinate(f"i{axis}", axis + 1) for axis in range(len(value.type.shape)))
                self._visit(value, whole if index is None else index, whole)

    def _visit(self, value: Value, index: Index, whole: Index) -> None:
        scope = self.scope
        if (value, index) in self._seen or not value.type.is_tensor:
            return
        self._seen.add((value, index))
        if scope.tile(value) is not None or scope.is_cheap(value):
            return
        if value in scope.shifted:
            self._visit(scope.shifted[value].start, index, whole)
            return
        operation = value.operation
        assert operation is not None, value
        if operation.name == "tt.reshape":
            source = operation.operands[0]
            scope.settle([source])
            tile = scope.tile(source)
            if tile is not None:
                scope.tiles[value] = tile
                return
        elif operation.name not in VIEWS and value not in self.into and not self._same(index, whole, value):
            covered = {coordinate.level for coordinate in index}
            repeated = any(at.level not in covered for at, n in zip(whole, self.shape, strict=True) if n > 1)
            if (repeated and self._cost(value) > MOST_REPEATED) or scope.is_needed(value, self.within):
                scope.materialize([value])
                return
        for operand, at in operands_at(operation, index, operation.results.index(value)):
            self._visit(operand, at, whole)
        self.within.add(operation)
        if operation.name not in VIEWS and value not in self.in_order and self._same(index, whole, value):
            self.in_order.append(value)

    def _same(self, index: Index, whole: Index, value: Value) -> bool:
        """Whether it is the element of the same place."""
        return value.type.shape == self.shape and all(
            at.text == here.text or n == 1 for at, here, n in zip(index, whole, self.shape, strict=True)
        )

    def _cost(self, value: Value, known: dict[Value, int] | None = None) -> int:
        """About how many operations an element takes."""
        known = {} if known is None else known
        if value in known or self.scope.tile(value) is not None or self.scope.is_cheap(value):
            return 0
        known[value] = 1
        operation = value.operation
        if operation is None:
            return 0
        own = 0 if operation.name in VIEWS else 8 if operation.name.startswith(COSTLY) else 1
        return own + sum(self._cost(each, known) for each in operation.operands if each.type.is_tensor)

    def spill(self) -> dict[Value, str]:
        """The tiles of what has to be kept."""
        spilled: dict[Value, str] = {}
        needed: dict[Value, bool] = {}

        def is_needed(value: Value) -> bool:
            if value not in needed:
                needed[value] = False
                needed[value] = any(uses(user) for user in value.users)
            return needed[value]

        def uses(user: Operation) -> bool:
            scope = self.scope
            if user in scope.done or scope.is_kept(user):
                return False
            if not scope.is_waiting(user):
                return user not in self.within
            return any(
                result not in spilled and result not in self.into and is_needed(result)
                for result in user.results
            )

        for value in reversed(self.in_order):
            if value not in self.into and is_needed(value):
                spilled[value] = self.scope.tile_for(value)
        return spilled


def best_order(scope: Scope, shape: tuple[int, ...], values: Sequence[Value]) -> list[int]:
    """The axes of a nest, outermost first: the innermost is one along which memory is read in its order."""
    votes = [0] * len(shape)
    steps = [_Steps(scope, axis + 1) for axis in range(len(shape))]
    seen: set[tuple[Value, Index]] = set()

    def visit(value: Value, index: Index) -> None:
        if (value, index) in seen or not value.type.is_tensor or scope.tile(value) is not None:
            return
        seen.add((value, index))
        operation = value.operation
        if operation is None or value in scope.shifted:
            return
        if operation.name == "tt.load":
            vote(operation.operands[0], index)
            return
        for part in operands_at(operation, index, operation.results.index(value)):
            visit(*part)

    def vote(pointer: Value, index: Index) -> None:
        for axis in range(len(shape)):
            if shape[axis] > 1 and steps[axis].of(pointer, index) == 1:
                votes[axis] += 1

    whole = tuple(
        Coordinate(f"i{axis}", axis + 1) if n > 1 else Coordinate("0", 0) for axis, n in enumerate(shape)
    )
    for value in values:
        visit(value, whole)
    if not shape:
        return []
    # Where memory does not decide, tiles are walked through as they lie.
    usual = scope.layouts.innermost(shape)
    last = max(range(len(shape)), key=lambda axis: (votes[axis], axis == usual, axis))
    return [axis for axis in range(len(shape)) if axis != last] + [last]


def store_order(scope: Scope, store: Operation) -> list[int]:
    """The axes of a nest of a store: the innermost is one along which memory is written in its order."""
    shape = store.operands[1].type.shape
    last = contiguous_axis(scope, store.operands[0])
    if last is None and shape:
        last = scope.layouts.innermost(shape)
    return [axis for axis in range(len(shape)) if axis != last] + ([last] if last is not None else [])


def contiguous_axis(scope: Scope, pointer: Value) -> int | None:
    """The axis of a tensor of pointers along which neighbours are neighbours in memory; None: not known."""
    shape = pointer.type.shape
    whole = tuple(
        Coordinate(f"i{axis}", axis + 1) if n > 1 else Coordinate("0", 0) for axis, n in enumerate(shape)
    )
    for axis in reversed(range(len(shape))):
        if shape[axis] > 1 and _Steps(scope, axis + 1).of(pointer, whole) == 1:
            return axis
    return None


class _Steps:
    """By how many elements pointers, and numbers, move along one coordinate; None: not a known number."""

    def __init__(self, scope: Scope, level: int) -> None:
        self.scope = scope
        self.level = level
        self._known: dict[tuple[Value, Index], int | None] = {}

    def of(self, value: Value, index: Index) -> int | None:
        if not value.type.is_tensor or all(coordinate.level != self.level for coordinate in index):
            return 0
        key = (value, index)
        if key not in self._known:
            self._known[key] = self._find(value, index)
        return self._known[key]

    def _find(self, value: Value, index: Index) -> int | None:
        scope = self.scope
        if scope.tile(value) is not None:
            return None
        if value in scope.shifted:
            return self.of(scope.shifted[value].start, index)
        operation = value.operation
        if operation is None or not is_lazy(operation):
            return None
        name = operation.name
        if name == "arith.constant":
            return 0
        if name == "tt.make_range":
            return 1 if index[0].text == f"i{self.level - 1}" else None
        parts = [self.of(*part) for part in operands_at(operation, index)]
        if any(part is None for part in parts):
            return None
        steps = [int(part or 0) for part in parts]
        if name in ("tt.addptr", "arith.addi"):
            return steps[0] + steps[1]
        if name == "arith.subi":
            return steps[0] - steps[1]
        if name == "arith.muli":
            return 0 if not any(steps) else None
        if name in (*VIEWS, "tt.reshape", "arith.extsi", "arith.index_cast"):
            return steps[0]
        if value in scope.ranges.stretches and steps[0] in (0, 1):
            return steps[0] if name in REMAINDERS else 0
        return 0 if not any(steps) else None
