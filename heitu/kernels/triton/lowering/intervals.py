"""Between which limits whole numbers lie, and which comparisons hold always or never.

Programs mask the last turn of a loop, whether it is a whole one or not: where the limits are constants, such
a mask is known to hold, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from heitu.kernels.triton.ir import Function, Operation, Value
from heitu.kernels.triton.lowering.shapes import VIEWS

# From the lowest number to the highest one.
Interval = tuple[int, int]
_THROUGH = (*VIEWS, "arith.extsi", "arith.index_cast", "tt.reshape")
_COMPARISONS: dict[str, Callable[[Interval, Interval], bool]] = {
    "slt": lambda left, right: left[1] < right[0],
    "sle": lambda left, right: left[1] <= right[0],
    "sgt": lambda left, right: left[0] > right[1],
    "sge": lambda left, right: left[0] >= right[1],
}


class Intervals:
    """The analysis of one function."""

    def __init__(self, function: Function) -> None:
        self._known: dict[Value, Interval | None] = {}
        self._always: dict[Value, bool] = {}
        self._counters: dict[Value, Operation] = {
            operation.regions[0].block.arguments[0]: operation
            for operation in function.walk()
            if operation.name == "scf.for"
        }

    def always(self, mask: Value) -> bool:
        """Whether a mask is known to hold for all elements."""
        if mask not in self._always:
            self._always[mask] = self._find_always(mask)
        return self._always[mask]

    def _find_always(self, mask: Value) -> bool:
        operation = mask.operation
        if operation is None or mask.type.element != "i1":
            return False
        if operation.name in VIEWS:
            return self.always(operation.operands[0])
        if operation.name == "arith.constant":
            return operation.attributes.get("value") is True
        if operation.name == "arith.andi":
            return all(self.always(each) for each in operation.operands)
        if operation.name != "arith.cmpi":
            return False
        holds = _COMPARISONS.get(operation.text("predicate"))
        left, right = (self.of(each) for each in operation.operands)
        return holds is not None and left is not None and right is not None and holds(left, right)

    def of(self, value: Value) -> Interval | None:
        """Between which numbers all elements lie; None where that is not known."""
        if value not in self._known:
            self._known[value] = None
            found = self._find(value)
            # Beyond its type a number wraps.
            bits = value.type.scalar.bits
            if found is not None and -(1 << bits - 1) <= found[0] and found[1] < 1 << bits - 1:
                self._known[value] = found
        return self._known[value]

    def _find(self, value: Value) -> Interval | None:
        operation = value.operation
        if not value.type.scalar.is_integer or value.type.element == "i1":
            return None
        if operation is None:
            return self._counter(value)
        name = operation.name
        if name == "arith.constant":
            number = operation.attributes.get("value")
            return (number, number) if isinstance(number, int) and not isinstance(number, bool) else None
        if name == "tt.make_range":
            return operation.integer("start"), operation.integer("end") - 1
        if name in ("tt.get_program_id", "tt.get_num_programs"):
            return 0, (1 << 31) - 1
        if name in _THROUGH:
            return self.of(operation.operands[0])
        if len(operation.operands) != 2:
            return None
        left, right = (self.of(each) for each in operation.operands)
        return None if left is None or right is None else _binary(name, left, right)

    def _counter(self, value: Value) -> Interval | None:
        loop = self._counters.get(value)
        if loop is None or loop.attributes.get("unsigned"):
            return None
        first, last, step = (self.of(each) for each in loop.operands[:3])
        if first is None or last is None or step is None or step[0] < 1:
            return None
        high = last[1] - 1
        if first[0] == first[1] and step[0] == step[1] and high >= first[0]:
            high = first[0] + (high - first[0]) // step[0] * step[0]
        return first[0], max(high, first[0])


def _binary(name: str, left: Interval, right: Interval) -> Interval | None:
    if name == "arith.addi":
        return left[0] + right[0], left[1] + right[1]
    if name == "arith.subi":
        return left[0] - right[1], left[1] - right[0]
    if name == "arith.muli":
        products = [a * b for a in left for b in right]
        return min(products), max(products)
    if right[0] < 1 or left[0] < 0:
        return None
    if name in ("arith.remsi", "arith.remui"):
        return 0, min(left[1], right[1] - 1)
    if name in ("arith.divsi", "arith.divui"):
        return left[0] // right[1], left[1] // right[0]
    return None
