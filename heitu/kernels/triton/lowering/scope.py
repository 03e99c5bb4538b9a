"""What is known while a function is lowered: names of values, tiles, and what is still to be computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from heitu.kernels.triton.ir import Block, Function, Operation, Region, Value
from heitu.kernels.triton.lowering.intervals import Intervals
from heitu.kernels.triton.lowering.layouts import Layouts
from heitu.kernels.triton.lowering.nest import Nest, splat_literal
from heitu.kernels.triton.lowering.planning import Plan, best_order
from heitu.kernels.triton.lowering.ranges import Ranges
from heitu.kernels.triton.lowering.representation import register_type
from heitu.kernels.triton.lowering.shapes import VIEWS, is_cheap, is_lazy

ALIGNMENT = 64


@dataclass(frozen=True)
class Shifted:
    """A tensor that a loop carries, and to which it adds one number each time.

    Args:
        start: the tensor before the loop.
        by: the C variable of what was added so far.
    """

    start: Value
    by: str


class Scope:
    """One function.

    Args:
        lower: lowers the operations of a region into `lines`.
        threads: how many a block would have on a GPU.
    """

    def __init__(self, function: Function, lower: Callable[[Region], None], threads: int) -> None:
        self.function = function
        self.lower = lower
        self.threads = threads
        self.lines: list[str] = []
        self.declarations: list[str] = []
        self.scratch_bytes = 0
        self.names: dict[Value, str] = {}
        self.tiles: dict[Value, str] = {}
        self.places: dict[Value, str] = {}  # tiles that are kept free for what loops carry on
        self.shifted: dict[Value, Shifted] = {}
        self.ranges = Ranges(function)
        self.intervals = Intervals(function)
        self.layouts = Layouts(self, function)
        self.labels: dict[str, tuple[Block, str]] = {}  # blocks that are jumped to, with their names in C
        self.done: set[Operation] = set()
        self.loads: list[Value] = []  # those that are not computed yet, in their order
        self._count = 0
        self._cheap: dict[Value, frozenset[Value] | None] = {}

    # Text

    def fresh(self, prefix: str) -> str:
        """A name that nothing else has."""
        self._count += 1
        return f"{prefix}{self._count}"

    def write(self, *lines: str) -> None:
        self.lines.extend(lines)

    # Scalars

    def scalar(self, value: Value) -> str:
        """The C of a value that is no tensor."""
        if (
            value not in self.names
            and value.operation is not None
            and value.operation.name == "arith.constant"
        ):
            self.names[value] = splat_literal(value.operation)
        return self.names[value]

    def splat(self, value: Value) -> str:
        """The C of the one number that all elements of a constant are."""
        assert value.operation is not None
        return splat_literal(value.operation)

    def define(self, value: Value, text: str) -> None:
        """Gives a scalar a C variable with this value."""
        name = self.fresh("v")
        self.write(f"{register_type(value.type)} {name} = {text};")
        self.names[value] = name

    # Tiles

    def allocate(self, kind: str, size: int) -> str:
        """A tile of `size` elements in the memory of the program instance."""
        name = self.fresh("tile")
        width = 8 if kind in ("double", "int64_t") else 4
        place = self.scratch_bytes
        self.scratch_bytes += -(-size * width // ALIGNMENT) * ALIGNMENT
        self.declarations.append(
            f"{kind}* {name} = __builtin_assume_aligned(({kind}*)(scratch + {place}), {ALIGNMENT});"
        )
        return name

    def tile_for(self, value: Value) -> str:
        """Where a tensor's elements may be put: the tile that is kept free for it, or a new one."""
        return self.places.get(value) or self.allocate(register_type(value.type), value.type.size)

    def new_tile(self, value: Value) -> str:
        """A tile for a tensor that is written now."""
        self.tiles[value] = self.tile_for(value)
        return self.tiles[value]

    def place_for(self, value: Value) -> str:
        """Where a result is written now: a tile, or a variable."""
        if value.type.is_tensor:
            return self.new_tile(value)
        self.names[value] = self.fresh("v")
        self.write(f"{register_type(value.type)} {self.names[value]};")
        return self.names[value]

    def tile(self, value: Value) -> str | None:
        """The tile that a tensor lies in; None if it is not computed, or cheaper to compute again."""
        return self.tiles.get(value)

    def as_tile(self, value: Value) -> str:
        """The tile of a tensor, which is computed if it was not."""
        if value not in self.tiles:
            self.materialize([value])
        return self.tiles[value]

    @contextmanager
    def perhaps(self, block: Block | None = None) -> Iterator[None]:
        """For what may not run: behind it, tiles that were filled in it are not to be relied on.

        Args:
            block: tensors that are made in it keep theirs, since only what it leads to can use them.
        """
        before = set(self.tiles)
        yield
        for value in [each for each in self.tiles if each not in before]:
            if block is None or value.operation is None or value.operation.block is not block:
                del self.tiles[value]

    def materialize(self, values: Iterable[Value]) -> None:
        """Computes tensors into tiles."""
        groups: dict[tuple[int, ...], list[Value]] = {}
        for value in values:
            if value not in self.tiles:
                groups.setdefault(value.type.shape, []).append(value)
        for shape, group in groups.items():
            self._materialize(shape, group)

    def _materialize(self, shape: tuple[int, ...], group: list[Value]) -> None:
        plan = Plan(self, [(value, None) for value in group], set(), into=set(group))
        nest = Nest(self, shape, best_order(self, shape, group))
        nest.spills = plan.spill()
        targets = {value: self.tile_for(value) for value in group}

        def fill(nest: Nest) -> None:
            for value, name in targets.items():
                text, _ = nest.value(value, nest.index)
                nest.statement(nest.depth, f"{name}[{self.layouts.place(nest.index, shape).text}] = {text};")

        nest.emit(fill)
        self.tiles.update(nest.spills)
        self.tiles.update(targets)

    # What is cheap, and what is still needed

    def is_cheap(self, value: Value) -> bool:
        """Whether computing an element again costs less than keeping it."""
        if value in self.tiles:
            return False
        for carried in self.shifted:
            self._cheap.setdefault(carried, frozenset())
        return is_cheap(value, self._cheap, self.ranges.stretches)

    def beneath(self, value: Value) -> Iterable[Value]:
        """The tensors that have to be in tiles for the value to be cheap."""
        if not value.type.is_tensor or value in self.tiles or value in self.shifted or self.is_cheap(value):
            return
        assert value.operation is not None, value
        if value.operation.name in VIEWS:
            for operand in value.operation.operands:
                yield from self.beneath(operand)
        else:
            yield value

    def settle(self, values: Iterable[Value]) -> None:
        """Sees to it that the values can be computed anywhere from now on, without memory being read."""
        self.materialize(dict.fromkeys(each for value in values for each in self.beneath(value)))

    def settle_loads(self, within: set[Operation]) -> None:
        """Reads what others than `within` still need of what was asked for, before memory is written."""
        pending = [value for value in self.loads if value not in self.tiles]
        self.loads = []
        needed = [value for value in pending if self.is_needed(value, within)]
        self.materialize(needed)
        kept = [v for v in pending if v not in self.tiles]
        self.loads = kept

    def is_needed(self, value: Value, but_for: set[Operation]) -> bool:
        """Whether anything that is not computed yet, other than these operations, uses the value."""
        return any(user not in but_for and self._uses(user, but_for) for user in value.users)

    def _uses(self, user: Operation, but_for: set[Operation]) -> bool:
        if user in self.done or self.is_kept(user):
            return False
        if not is_put_off(user):
            return True
        return any(self.is_needed(each, but_for) for each in user.results)

    def is_kept(self, operation: Operation) -> bool:
        """Whether its results lie in tiles."""
        return any(result in self.tiles for result in operation.results)

    def is_waiting(self, operation: Operation) -> bool:
        """Whether the operation is computed where its results are used, and is not computed yet."""
        return is_put_off(operation) and not self.is_kept(operation)


def is_put_off(operation: Operation) -> bool:
    """Whether the operation makes a tensor, and is done where that is used."""
    return is_lazy(operation) and bool(operation.results) and operation.results[0].type.is_tensor
