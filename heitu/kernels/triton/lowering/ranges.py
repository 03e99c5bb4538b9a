"""Whole numbers that count along an axis, also where a program takes them apart with `%` and `//`.

A flat number's parts (`x % 64`, `x // 64`) are, over a stretch of the axis that lies within one period, a
count and one number. A nest whose innermost loop is such a stretch needs no division for an element.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, inf

from heitu.kernels.triton.ir import Function, Operation, Value
from heitu.kernels.triton.lowering.shapes import VIEWS

REMAINDERS = ("arith.remsi", "arith.remui")
QUOTIENTS = ("arith.divsi", "arith.divui")
_SAME_AXES = ("tt.splat", "tt.broadcast", "arith.extsi", "arith.index_cast")
_THROUGH = (*VIEWS, "arith.extsi", "arith.index_cast")
# Shorter stretches are not worth a loop of their own.
SHORTEST = 8
SHORTEST_CHOICE = 32  # where a choice between memories is made once for a stretch


@dataclass(frozen=True)
class Run:
    """`start + step * i` over each stretch of an axis.

    Args:
        axis: the extent of the axis; 1 for a single number.
        stretch: how many elements, of which the axis is a multiple.
        step: 0 or 1.
        multiple: what `start` is a multiple of in the first stretch; 0: it is 0.
        positive: whether it is known not to be below 0.
    """

    axis: int
    stretch: int
    step: int
    multiple: int
    positive: bool


class Ranges:
    """The analysis of one function.

    Args:
        stretches: for the values that are remainders and quotients of counts, over how many elements.
        strips: for an axis' extent, what all these stretches are multiples of.
        exclusive: the comparisons that never hold where some other of them does, as those that say from which
            of several tensors an element of `torch.cat` comes.
        uniform: for the comparisons that hold for all of a stretch or for none, over how many elements.
    """

    def __init__(self, function: Function) -> None:
        self.stretches: dict[Value, int] = {}
        self.strips: dict[int, int] = {}
        self.exclusive: set[Value] = set()
        self.uniform: dict[Value, int] = {}
        self._runs: dict[Value, Run | None] = {}
        self._counters: dict[Value, Operation] = {}
        for operation in function.walk():
            if operation.name == "scf.for":
                self._counters[operation.regions[0].block.arguments[0]] = operation
        for operation in function.walk():
            if operation.name in (*REMAINDERS, *QUOTIENTS) and operation.result.type.is_tensor:
                self._note(operation.result)
        self._find_exclusive(function)

    def _find_exclusive(self, function: Function) -> None:
        intervals: dict[Value, list[tuple[float, float, Operation]]] = {}
        comparisons = []
        for operation in function.walk():
            if operation.name == "arith.cmpi" and operation.result.type.is_tensor:
                found = interval(operation)
                if found is not None:
                    comparisons.append(operation)
                    number, low, high = found
                    intervals.setdefault(number, []).append((low, high, operation))
        for same in intervals.values():
            for low, high, operation in same:
                if any(other_high < low or high < other_low for other_low, other_high, _ in same):
                    self.exclusive.add(operation.result)
        for operation in comparisons:
            self._note_uniform(operation)

    def _note_uniform(self, operation: Operation) -> None:
        """A count is below a limit all along a stretch if both are multiples of its length."""
        run, limit = self._run(operation.operands[0]), known(operation.operands[1])
        if run is None or limit is None or run.axis == 1 or run.step != 1:
            return
        stretch = gcd(run.stretch, gcd(run.multiple, limit))
        usual = self.strips.get(run.axis, run.axis)
        strip = gcd(usual, stretch)
        worth = operation.result in self.exclusive and strip >= SHORTEST_CHOICE
        if (strip == usual or worth) and operation.text("predicate") in ("slt", "sge"):
            self.strips[run.axis] = strip
            self.uniform[operation.result] = stretch

    def _note(self, value: Value) -> None:
        run = self._run(value)
        if run is None or run.axis == 1 or run.stretch < SHORTEST:
            return
        strip = gcd(self.strips.get(run.axis, run.axis), run.stretch)
        if strip >= SHORTEST:
            self.strips[run.axis] = strip
            self.stretches[value] = run.stretch

    def _run(self, value: Value) -> Run | None:
        if value not in self._runs:
            self._runs[value] = None
            self._runs[value] = self._find(value)
        return self._runs[value]

    def _find(self, value: Value) -> Run | None:
        operation = value.operation
        if not value.type.scalar.is_integer or value.type.element == "i1":
            return None
        if operation is None:
            return self._argument(value)
        name = operation.name
        if name == "arith.constant":
            number = constant(operation)
            return None if number is None else Run(1, 1, 0, abs(number), number >= 0)
        if name in ("tt.get_program_id", "tt.get_num_programs"):
            return Run(1, 1, 0, 1, True)
        if name == "tt.make_range":
            start = operation.integer("start")
            extent = operation.integer("end") - start
            return Run(extent, extent, 1, start, start >= 0)
        if name in _THROUGH:
            return self._run(operation.operands[0])
        runs = [self._run(each) for each in operation.operands]
        if len(runs) != 2 or runs[0] is None or runs[1] is None:
            return None
        return self._binary(operation, runs[0], runs[1])

    def _argument(self, value: Value) -> Run | None:
        if value.type.is_tensor:
            return None
        loop = self._counters.get(value)
        if loop is None:
            return Run(1, 1, 0, 1, False)
        start, _, step = (self._run(each) for each in loop.operands[:3])
        if start is None or step is None:
            return None
        return Run(1, 1, 0, gcd(start.multiple, step.multiple), start.positive and step.positive)

    def _binary(self, operation: Operation, first: Run, second: Run) -> Run | None:
        name = operation.name
        if 1 not in (first.axis, second.axis) and first.axis != second.axis:
            return None
        if 1 not in (first.axis, second.axis) and first.step and second.step:
            return None  # they may count along two axes of one extent
        axis = max(first.axis, second.axis)
        stretch = min((run.stretch for run in (first, second) if run.axis > 1), default=1)
        positive = first.positive and second.positive
        if name == "arith.addi":
            multiple = gcd(first.multiple, second.multiple)
            return Run(axis, stretch, first.step + second.step, multiple, positive)
        if name == "arith.muli" and not first.step and not second.step:
            return Run(axis, stretch, 0, first.multiple * second.multiple, positive)
        by = divisor(operation)
        if by is None or not first.positive:
            return None
        if first.step:
            # A stretch begins at a multiple of its length, and a period is one too.
            stretch = gcd(first.stretch, gcd(first.multiple, by))
        if name in REMAINDERS:
            return Run(axis, stretch, first.step, gcd(first.multiple, by), True)
        return Run(axis, stretch, 0, 1, True)


def constant(operation: Operation) -> int | None:
    """The whole number that a constant is, or that all its elements are."""
    value = operation.attributes.get("value")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def divisor(operation: Operation) -> int | None:
    """The constant above 0 by which a remainder or a quotient divides."""
    if operation.name not in (*REMAINDERS, *QUOTIENTS):
        return None
    number = known(operation.operands[1])
    return number if number is not None and number > 0 else None


def interval(comparison: Operation) -> tuple[Value, float, float] | None:
    """What number a comparison with a constant is about, and from where to where it holds."""
    left, right = comparison.operands
    predicate = comparison.text("predicate")
    limit, number = known(right), left
    if limit is None:
        limit, number = known(left), right
        predicate = {"slt": "sgt", "sle": "sge", "sgt": "slt", "sge": "sle"}.get(predicate, "")
    if limit is None:
        return None
    while number.operation is not None and number.operation.name in _SAME_AXES:
        number = number.operation.operands[0]
    bounds = {
        "slt": (-inf, limit - 1),
        "sle": (-inf, limit),
        "sgt": (limit + 1, inf),
        "sge": (limit, inf),
    }.get(predicate)
    return None if bounds is None else (number, *bounds)


def known(value: Value) -> int | None:
    """The whole number that a value, or each element of it, is; None where that is not a constant."""
    of = value.operation
    while of is not None and of.name in _THROUGH:
        of = of.operands[0].operation
    return constant(of) if of is not None and of.name == "arith.constant" else None
