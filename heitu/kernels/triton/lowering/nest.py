"""A nest of loops over the elements of a tensor, in which values are computed element by element.

A statement stands in the outermost loop in which all that it needs is known. Where masks cut a row off, the
innermost loop is written twice: over the elements that every mask lets through, without masks, and over the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from heitu.kernels.triton.ir import Operation, Value
from heitu.kernels.triton.lowering.access import Access, Bounds
from heitu.kernels.triton.lowering.elementwise import expression
from heitu.kernels.triton.lowering.ranges import QUOTIENTS, REMAINDERS
from heitu.kernels.triton.lowering.representation import (
    UnsupportedError,
    from_memory,
    literal,
    register_type,
    to_memory,
)
from heitu.kernels.triton.lowering.shapes import ZERO, Coordinate, Index, operands_at

if TYPE_CHECKING:
    from heitu.kernels.triton.lowering.scope import Scope
    from heitu.kernels.triton.lowering.totals import Total

# The C of an element, and the level at which it is known.
Element = tuple[str, int]
# Where a loop begins and ends, in C, and what it does.
Body = tuple[str, str, list[str]]
Root = Callable[["Nest"], None]
# Before a loop: no turn reads what another one writes.
INDEPENDENT = "GCC ivdep"
# Loops of so many turns gcc unrolls before it vectorises loops, and then forgets that turns are independent.
SHORT_ROW = 16


class Nest:
    """Loops over `shape`.

    Args:
        order: the axes from the outermost loop to the innermost.
        pragma: what stands before the innermost loop.
        total: what the innermost loop adds up, if it is a reduction along it.
    """

    def __init__(
        self,
        scope: Scope,
        shape: tuple[int, ...],
        order: Sequence[int] | None = None,
        pragma: str = INDEPENDENT,
        total: Total | None = None,
    ) -> None:
        self.scope = scope
        self.shape = shape
        self.pragma = pragma
        self.total = total
        axes = [axis for axis in (order if order is not None else range(len(shape))) if shape[axis] > 1]
        self.extents = [shape[axis] for axis in axes]
        coordinates = {axis: Coordinate(f"i{level}", level) for level, axis in enumerate(axes, start=1)}
        self.origin: str | None = None  # where the innermost loop begins on its axis, if not at 0
        if axes:
            self._split(axes[-1], coordinates)
        self.depth = len(self.extents)
        self.row_level = self.depth - 1 if self.origin is not None else 0
        self.innermost = coordinates[axes[-1]] if axes else ZERO
        self.index: Index = tuple(coordinates.get(axis, ZERO) for axis in range(len(shape)))
        self.before: list[list[str]] = [[] for _ in range(self.depth + 1)]
        self.after: list[list[str]] = [[] for _ in range(self.depth + 1)]
        self.spills: dict[Value, str] = {}
        self.bounds: set[Bounds] = set()
        self.masked = True  # whether masks that are bounds are looked at
        self.reads = False  # whether the innermost loop reads the program's memory
        self.stored: set[Bounds] = set()  # where the one store that there is to do ends
        self.access = Access(self)
        self._known: dict[tuple[Value, Index], Element] = {}

    def _split(self, axis: int, coordinates: dict[int, Coordinate]) -> None:
        """Makes two loops of the innermost one where parts of its counter are asked for."""
        extent = self.extents[-1]
        strip = self.scope.ranges.strips.get(extent, extent)
        if strip < extent:
            level = len(self.extents)
            self.extents[-1:] = [extent // strip, strip]
            self.origin = f"i{level} * {strip}"
            coordinates[axis] = Coordinate(f"({self.origin} + i{level + 1})", level + 1)

    @property
    def outside(self) -> int:
        """The level outside of all loops over the innermost axis."""
        return self.depth - (1 if self.origin is None else 2)

    # Statements

    def statement(self, level: int, text: str) -> None:
        """Adds a statement before the loops inside `level`."""
        self.before[level].append(text)

    def name(self, kind: str, text: str, level: int) -> Element:
        """Gives an expression a name, at the level at which it is known."""
        name = self.scope.fresh("t")
        self.statement(level, f"const {kind} {name} = {text};")
        return name, level

    def emit(self, *roots: Root) -> None:
        """Writes the loops; each root adds what it needs to them."""
        for root in roots:
            root(self)
        extent, masked = str(self._extent), self.before[self.depth]
        if not self.bounds:
            self._write([("0", extent, masked)])
            return
        # Where masks only let whole rows through, or none of one, rows keep a length that compilers know.
        by_rows = not any(bound.highs for bound in self.bounds)
        end = extent if by_rows else self._limit()
        self._known = {key: each for key, each in self._known.items() if each[1] < self.depth}
        self.before[self.depth] = []
        self.masked = False
        self.access.forget()
        for root in roots:
            root(self)
        bodies = [("0", end, self.before[self.depth])]
        # Where the store ends at all ends, there is nothing to do behind them.
        rest = not (self.stored >= self.bounds and all(bound.exact for bound in self.bounds))
        if by_rows:
            others = [("0", extent, masked)] if rest else []
            self._write(bodies, self._conditions(), others)
        else:
            self._write([*bodies, (end, extent, masked)] if rest else bodies)

    @property
    def _extent(self) -> int:
        return self.extents[-1] if self.depth else 1

    def _limit(self) -> str:
        """The end of the elements that every mask lets through."""
        name = self.scope.fresh("end")
        level = self.depth - 1
        highs = sorted({text for bound in self.bounds for text in bound.highs})
        self.statement(level, f"int64_t {name} = {self._extent};")
        for high in highs:
            self.statement(level, f"if ({high} < {name}) {name} = {high};")
        for condition in (*self._conditions(), f"{name} > 0"):
            self.statement(level, f"if (!({condition})) {name} = 0;")
        return name

    def _conditions(self) -> list[str]:
        return sorted({text for bound in self.bounds for text in bound.conditions})

    def _write(self, bodies: list[Body], conditions: Sequence[str] = (), others: Sequence[Body] = ()) -> None:
        """Writes all loops, the innermost one in parts; where a condition does not hold, with others."""
        write = self.scope.write
        if self.depth == 0:
            write("{", *self.before[0], *self.after[0], "}")
            return
        write("{", *self.before[0])
        for level in range(1, self.depth):
            write(
                f"for (int64_t i{level} = 0; i{level} < {self.extents[level - 1]}; ++i{level}) {{",
                *self.before[level],
            )
        if conditions:
            write(f"if ({' && '.join(conditions)}) {{")
        self._write_innermost(bodies)
        if conditions:
            write("}")
        if others:
            write("else {")
            self._write_innermost(list(others))
            write("}")
        for level in range(self.depth - 1, -1, -1):
            write(*self.after[level], "}")

    def _write_innermost(self, bodies: list[Body]) -> None:
        write = self.scope.write
        inner = f"i{self.depth}"
        start, end, statements = bodies[0]
        # Memory is read fastest from one end to the other.
        if self.total is not None and not self.reads and self.total.is_worth_parts(self._extent, statements):
            start = self.total.write_in_parts(self.scope, inner, end, statements)
            bodies[0] = (start, end, statements)
        for start, end, statements in bodies:
            if start == end:
                continue
            pragma = self.total.pragma() if self.total is not None else self.pragma
            if pragma:
                write(f"#pragma {pragma}")
            if pragma == INDEPENDENT and end.isdigit() and self._extent <= SHORT_ROW:
                write("#pragma GCC unroll 1")
            write(f"for (int64_t {inner} = {start}; {inner} < {end}; ++{inner}) {{", *statements, "}")

    # Values

    def scalar(self, value: Value) -> str:
        """The C of a value that is not a tensor."""
        return self.scope.scalar(value)

    def value(self, value: Value, index: Index) -> Element:
        """The C of an element."""
        if not value.type.is_tensor:
            return self.scope.scalar(value), 0
        key = (value, index)
        if key not in self._known:
            element = self._compute(value, index)
            self._known[key] = element
            if value in self.spills and index == self.index:
                place = self.scope.layouts.place(index, value.type.shape)
                # An element that is the same in all turns of a loop is kept in each of them.
                level = max(element[1], place.level)
                self.statement(level, f"{self.spills[value]}[{place.text}] = {element[0]};")
        return self._known[key]

    def _compute(self, value: Value, index: Index) -> Element:
        kind = register_type(value.type)
        tile = self.scope.tile(value)
        constant = value.operation is not None and value.operation.name == "arith.constant"
        if tile is not None and not constant:
            place = self.scope.layouts.place(index, value.type.shape)
            return self.name(kind, f"{tile}[{place.text}]", place.level)
        shifted = self.scope.shifted.get(value)
        if shifted is not None:
            text, level = self.value(shifted.start, index)
            return self.name(kind, f"({kind})({text} + {shifted.by})", level)
        operation = value.operation
        assert operation is not None, value
        return self._lazy(operation, value, kind, index)

    def _lazy(self, operation: Operation, value: Value, kind: str, index: Index) -> Element:
        name = operation.name
        if name == "tt.load":
            return self._load(operation, index)
        if name == "arith.constant":
            return self.scope.splat(value), 0
        if name == "ub.poison":
            return "0", 0
        if name == "tt.make_range":
            start = operation.integer("start")
            at = index[0]
            return (f"({kind})({at.text} + {start})" if start else f"(({kind}){at.text})"), at.level
        if name == "arith.cmpi" and self.scope.intervals.always(value):
            return "1", 0
        if name == "arith.cmpi" and self.depth:
            line = self.access.uniform(value, index)
            if line is not None:
                texts = [line.start, self.value(*operands_at(operation, index)[1])[0]]
                return self.name(kind, expression(operation, texts), line.level)
        parts = operands_at(operation, index, operation.results.index(value))
        if name == "arith.select" and self._lets_through(operation.operands[0], parts[0][1]):
            return self.value(*parts[1])
        if name in ("tt.splat", "tt.broadcast", "tt.expand_dims", "tt.trans", "tt.reshape", "tt.split"):
            return self.value(*parts[0])
        if name in (*REMAINDERS, *QUOTIENTS) and self.access.depends(value, index):
            line = self.access.linear(value, index)
            if line is not None:
                head = self.name(kind, f"({kind}){line.start}", line.level)
                return (f"({kind})({head[0]} + i{self.depth})", self.depth) if line.step else head
        elements = [self.value(*part) for part in parts]
        level = max((each[1] for each in elements), default=0)
        texts = [each[0] for each in elements]
        if name in ("tt.join", "tt.cat"):
            at = index[-1] if name == "tt.join" else index[0]
            first = 1 if name == "tt.join" else operation.operands[0].type.shape[0]
            return self.name(kind, f"{at.text} < {first} ? {texts[0]} : {texts[1]}", max(level, at.level))
        return self.name(kind, expression(operation, texts), level)

    # Memory

    def _load(self, operation: Operation, index: Index) -> Element:
        pointer, *rest = operation.operands
        kind = operation.result.type.scalar
        place, level = self.access.element(pointer, index)
        text = from_memory(kind, place)
        if rest:
            mask = self.mask(rest[0], index)
            if mask is not None:
                other, other_level = self.value(rest[1], index) if len(rest) > 1 else ("0", 0)
                level = max(level, mask[1], other_level)
                text = f"{mask[0]} ? {text} : {other}"
        self.reads = self.reads or level == self.depth
        return self.name(register_type(kind), text, level)

    def mask(self, mask: Value, index: Index) -> Element | None:
        """The C of a mask; None where the loop lets only elements through that it lets through."""
        if not self.depth or self._is_kept(mask, index):
            return self.value(mask, index)
        bounds, rest = self._bounds(mask, index)
        self.bounds |= bounds
        if self.masked and (bounds or rest):
            return self.value(mask, index)
        if not rest:
            return None
        elements = [self.value(*test) for test in rest]
        return " & ".join(text for text, _ in elements), max(level for _, level in elements)

    def _bounds(self, mask: Value, index: Index) -> tuple[set[Bounds], list[tuple[Value, Index]]]:
        """What of a mask is bounds of the innermost loop, and what is not."""
        found, rest = set(), []
        for test in self.access.tests(mask, index):
            bounds = self.access.bounds(*test)
            if bounds is None:
                rest.append(test)
            else:
                found.add(bounds)
        return found, rest

    def _lets_through(self, mask: Value, index: Index) -> bool:
        """Whether a mask that ends all rows at the same place holds in this loop, which ends there."""
        if not self.depth:
            return False
        # Where rows end at different places, to choose between elements is cheaper than two loops a row.
        bounds, rest = self._bounds(mask, index)
        if rest or any(each.level for each in bounds):
            return False
        # What is the same for all elements ends no row, but where memory is masked so as well.
        if not self.access.depends(mask, index):
            return not bounds or (not self.masked and bounds <= self.bounds)
        return self.mask(mask, index) is None

    def _is_kept(self, mask: Value, index: Index) -> bool:
        """Whether the mask, or what it is made of, is wanted later, so that it has to be computed."""
        if mask in self.spills:
            return True
        if (
            not self.spills
            or mask.operation is None
            or self.scope.tile(mask) is not None
            or not mask.type.is_tensor
        ):
            return False
        return any(self._is_kept(*part) for part in operands_at(mask.operation, index))

    def store(self, operation: Operation) -> None:
        """A root: writes an element into the program's memory."""
        pointer, stored, *rest = operation.operands
        kind = stored.type.scalar
        value, level = self.value(stored, self.index)
        place, place_level = self.access.element(pointer, self.index)
        mask = self.mask(rest[0], self.index) if rest else None
        if rest and self.depth and not self.spills:
            self.stored, _ = self._bounds(rest[0], self.index)
        level = max(level, place_level, mask[1] if mask else 0, self.depth)
        condition = f"if ({mask[0]}) " if mask else ""
        self.statement(level, f"{condition}{place} = {to_memory(kind, value)};")


def splat_literal(operation: Operation) -> str:
    """The C of a constant, whose elements are all the same. Raises UnsupportedError where they are not."""
    value = operation.attributes["value"]
    if isinstance(value, list):
        if len({str(each) for each in value}) != 1:
            raise UnsupportedError("a constant tensor of several values")
        value = value[0]
    return literal(operation.result.type.scalar, value)
