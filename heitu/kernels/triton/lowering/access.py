"""How addresses and masks depend on the innermost loop of a nest.

An address that grows evenly is a row of memory, and a mask that compares such a number with a limit is the
end of one: compilers vectorise both. Sums of offsets are taken in 64 bits there, where a program's 32 bits
would wrap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heitu.kernels.triton.ir import Operation, Value
from heitu.kernels.triton.lowering.ranges import QUOTIENTS, REMAINDERS, divisor, known
from heitu.kernels.triton.lowering.representation import memory_bytes, memory_type
from heitu.kernels.triton.lowering.shapes import Index, operands_at

if TYPE_CHECKING:
    from heitu.kernels.triton.lowering.nest import Nest

THROUGH = ("tt.broadcast", "tt.expand_dims", "tt.trans", "tt.reshape", "arith.extsi", "arith.index_cast")


@dataclass(frozen=True)
class Linear:
    """`step * i + start`, i being the innermost coordinate.

    Args:
        step: a number, or the C of one that is known outside the innermost loop.
        start: the C of it, of 64 bits.
        level: at which `start` and `step` are known.
    """

    step: int | str
    start: str
    level: int


@dataclass(frozen=True)
class Bounds:
    """What a mask comes to: it lets a row through up to the lowest of `highs`, if the conditions hold.

    Args:
        exact: whether it lets no others through.
        level: at which the highs and the conditions are known.
    """

    conditions: tuple[str, ...]
    highs: tuple[str, ...]
    exact: bool = True
    level: int = 0


class Access:
    """The analysis of one nest."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self._depends: dict[tuple[Value, Index], bool] = {}
        self._rows: dict[tuple[Value, Index], tuple[str, int]] = {}

    def forget(self) -> None:
        """Drops what was said in the innermost loop."""
        inner = self.nest.depth
        self._rows = {key: row for key, row in self._rows.items() if row[1] < inner}

    def depends(self, value: Value, index: Index) -> bool:
        """Whether an element is another one in each turn of the innermost loop."""
        if not value.type.is_tensor or not self.nest.depth:
            return False
        key = (value, index)
        if key not in self._depends:
            self._depends[key] = self._find_depends(value, index)
        return self._depends[key]

    def _find_depends(self, value: Value, index: Index) -> bool:
        inside = any(coordinate.level == self.nest.depth for coordinate in index)
        if not inside:
            return False
        scope = self.nest.scope
        if scope.tile(value) is not None:
            return True
        if value in scope.shifted:
            return self.depends(scope.shifted[value].start, index)
        operation = value.operation
        if operation is None or operation.name in ("arith.constant", "ub.poison"):
            return operation is None
        if operation.name in ("tt.make_range", "tt.join", "tt.cat"):
            return True
        if self.uniform(value, index) is not None:
            return False
        return any(
            self.depends(*part) for part in operands_at(operation, index, operation.results.index(value))
        )

    def linear(self, value: Value, index: Index) -> Linear | None:
        """The value as a linear form of the innermost coordinate; None where it is not known to be one."""
        nest = self.nest
        if not self.depends(value, index):
            text, level = nest.value(value, index)
            return Linear(0, f"(int64_t){text}", level)
        if nest.scope.tile(value) is not None:
            return None
        shifted = nest.scope.shifted.get(value)
        if shifted is not None:
            start = self.linear(shifted.start, index)
            return start and Linear(start.step, f"({start.start} + {shifted.by})", start.level)
        operation = value.operation
        if operation is None:
            return None
        name = operation.name
        if name == "tt.make_range":
            if index[0] != nest.innermost:
                return None
            first = str(operation.integer("start"))
            return Linear(1, first if nest.origin is None else f"({first} + {nest.origin})", nest.row_level)
        if name in THROUGH:
            return self.linear(*operands_at(operation, index)[0])
        return self._arithmetic(operation, index)

    def _arithmetic(self, operation: Operation, index: Index) -> Linear | None:
        name = operation.name
        if name in (*REMAINDERS, *QUOTIENTS):
            return self._part(operation, index)
        if name not in ("arith.addi", "arith.subi", "arith.muli", "tt.addptr"):
            return None
        if operation.result.type.element == "i1":
            return None
        sides = [self.linear(each, index if each.type.is_tensor else ()) for each in operation.operands]
        first, second = sides
        if first is None or second is None:
            return None
        level = max(first.level, second.level)
        if name == "arith.muli":
            if first.step != 0 and second.step != 0:
                return None
            moving, still, number = first, second, known(operation.operands[1])
            if first.step == 0:
                moving, still, number = second, first, known(operation.operands[0])
            step: int | str = f"({moving.step} * {still.start})"
            if moving.step == 0:
                step = 0
            elif number is not None and isinstance(moving.step, int):
                step = moving.step * number
            return Linear(step, f"({moving.start} * {still.start})", level)
        if name == "tt.addptr":
            pointee = operation.result.type.pointee
            assert pointee is not None
            size = memory_bytes(pointee)
            scaled = second.step * size if isinstance(second.step, int) else f"({second.step} * {size})"
            return Linear(_sum(first.step, scaled), f"({first.start} + {second.start} * {size})", level)
        sign = "+" if name == "arith.addi" else "-"
        return Linear(_sum(first.step, second.step, sign), f"({first.start} {sign} {second.start})", level)

    def _part(self, operation: Operation, index: Index) -> Linear | None:
        """A remainder or quotient of what counts within one period, or does not move."""
        nest = self.nest
        by = divisor(operation)
        stretch = nest.scope.ranges.stretches.get(operation.result)
        if by is None or stretch is None or not operation.result.type.is_tensor:
            return None
        line = self.linear(operation.operands[0], index)
        if line is None or line.step not in (0, 1) or (line.step == 1 and stretch % nest.extents[-1]):
            return None
        if operation.name in REMAINDERS:
            return Linear(line.step, f"({line.start} % {by})", line.level)
        return Linear(0, f"({line.start} / {by})", line.level)

    def element(self, pointer: Value, index: Index) -> tuple[str, int]:
        """The C of what a pointer points to, as something that can be read and written."""
        nest = self.nest
        pointee = pointer.type.pointee
        assert pointee is not None
        kind = memory_type(pointee)
        if not pointer.type.is_tensor:
            return f"*({kind}*){nest.scalar(pointer)}", 0
        line = self.linear(pointer, index) if self.depends(pointer, index) else None
        if line is None or line.level >= nest.depth:
            text, level = nest.value(pointer, index)
            return f"*({kind}*){text}", level
        key = (pointer, index)
        if key not in self._rows:
            row = nest.scope.fresh("row")
            nest.statement(line.level, f"char* const {row} = (char*)({line.start});")
            self._rows[key] = row, line.level
        row, _ = self._rows[key]
        inner = f"i{nest.depth}"
        size = memory_bytes(pointee)
        if isinstance(line.step, int) and line.step % size == 0:
            step = line.step // size
            return f"(({kind}*){row})[{inner if step == 1 else f'{inner} * {step}'}]", nest.depth
        return f"*({kind}*)({row} + {inner} * {line.step})", nest.depth

    def uniform(self, value: Value, index: Index) -> Linear | None:
        """What is compared, in a comparison with a limit that the innermost loop does not cross."""
        stretch = self.nest.scope.ranges.uniform.get(value)
        if stretch is None or stretch % self.nest.extents[-1]:
            return None
        assert value.operation is not None
        line = self.linear(value.operation.operands[0], index)
        return line if line is not None and line.step in (0, 1) else None

    def tests(self, mask: Value, index: Index) -> Iterator[tuple[Value, Index]]:
        """The masks that a mask consists of, all of which have to hold; without those that always do."""
        if self.nest.scope.intervals.always(mask):
            return
        operation = mask.operation
        through = operation is not None and operation.name in ("tt.broadcast", "tt.expand_dims", "tt.trans")
        if operation is None or not mask.type.is_tensor or self.nest.scope.tile(mask) is not None:
            yield mask, index
        elif operation.name == "arith.andi" or through:
            for part in operands_at(operation, index):
                yield from self.tests(*part)
        else:
            yield mask, index

    def bounds(self, mask: Value, index: Index) -> Bounds | None:
        """The mask as bounds of the innermost loop; None where it is not known to be that."""
        nest = self.nest
        if mask in nest.scope.ranges.exclusive:
            return None  # a loop that ends where two such masks do has no turns
        if not self.depends(mask, index):
            text, level = nest.value(mask, index)
            return Bounds((text,), (), level=level) if text != "1" else Bounds((), ())
        operation = mask.operation
        if operation is None or nest.scope.tile(mask) is not None:
            return None
        if operation.name == "arith.cmpi":
            return self._comparison(operation, index)
        return None

    def _comparison(self, operation: Operation, index: Index) -> Bounds | None:
        predicate = operation.text("predicate")
        left, right = (self.linear(each, index) for each in operation.operands)
        if left is None or right is None or predicate in ("eq", "ne"):
            return None
        if predicate[1:] in ("gt", "ge"):  # a > b is b < a
            left, right = right, left
            predicate = predicate[0] + ("lt" if predicate[1:] == "gt" else "le")
        conditions: tuple[str, ...] = ()
        level = max(left.level, right.level)
        if predicate[0] == "u":
            conditions = (f"{left.start} >= 0", f"{right.start} >= 0")
        if left.step == 0 and right.step == 0:
            comparison = "<" if predicate[1:] == "lt" else "<="
            return Bounds(
                (*conditions, f"{left.start} {comparison} {right.start}"), (), not conditions, level
            )
        if left.step == 1 and right.step == 0:  # i + a < b
            high = f"({right.start} - {left.start}{' + 1' if predicate[1:] == 'le' else ''})"
            return Bounds(conditions, (high,), not conditions, level)
        if left.step == 0 and right.step == 1:  # a < i + b, from the first on
            comparison = "<" if predicate[1:] == "lt" else "<="
            return Bounds((*conditions, f"{left.start} {comparison} {right.start}"), (), False, level)
        return None


def _sum(first: int | str, second: int | str, sign: str = "+") -> int | str:
    if isinstance(first, int) and isinstance(second, int):
        return first + second if sign == "+" else first - second
    if second == 0:
        return first
    return second if first == 0 and sign == "+" else f"({first} {sign} {second})"
