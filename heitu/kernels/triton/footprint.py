"""How much memory beside its core a program instance needs at least, estimated from the IR.

Two sorts of chips differ in what lies there. With warps, tiles are spread over the registers of threads, and
what `tl.dot` multiplies lies in shared memory, in as many copies as the loop has stages in flight. Without
warps every tile lies there, from where it is computed to where it is last needed.

Neither estimate counts what a compiler may add (temporaries of elementary functions, second buffers for
copies, scratch to change a layout): what does not fit here does not fit on the chip, and no more is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from heitu.kernels.triton.ir import Block, Function, Groups, Location, Operation, Type, Value

DOTS = ("tt.dot", "tt.dot_scaled")
# Another look at the same elements, or elements that are made of one as they are read.
VIEWS = ("tt.expand_dims", "tt.reshape", "tt.broadcast", "tt.bitcast", "arith.bitcast")
IMMEDIATE = ("arith.constant", "tt.splat", "tt.make_range")
# What changes memory or leaves the kernel, its first operand that is data (not an address), and how many are.
EFFECTS = {
    "tt.store": (1, 1),
    "tt.atomic_rmw": (1, 1),
    "tt.atomic_cas": (1, 2),
    "tt.atomic_store": (1, 1),
    "tt.print": (0, 512),
}
READS = ("tt.load", "tt.atomic_rmw", "tt.atomic_cas", "tt.atomic_load")
CARRYING = ("scf.for", "scf.while", "scf.if")


@dataclass(frozen=True)
class Footprint:
    """Bytes that are needed at the same time, and where that is most."""

    bytes: int
    location: Location | None


def shared_memory(function: Function, num_warps: int, num_stages: int, kept_back: int | None) -> Footprint:
    """What products of tiles read, on a chip whose tiles lie in registers.

    Args:
        num_warps: of the launch.
        num_stages: of the launch; a loop may have its own.
        kept_back: by how many the copies of an operand are fewer than the stages: 0 where products of 64 rows
            or more run beside the warps that ask for them (sm_90), else 1. None: loops have one copy.
    """
    found = Footprint(0, function.location)
    for block, loop in _blocks(function):
        needed: dict[int, int] = {}
        dots = [operation for operation in block.operations if operation.name in DOTS]
        for dot in dots:
            copies = 1
            if loop is not None and kept_back is not None and not _waits(dot):
                stages = loop.integer("tt.num_stages", num_stages)
                asynchronous = (
                    dot.result.type.shape[-2] >= 64 and num_warps % 4 == 0 and dot.result.type.bits <= 32
                )
                copies = max(1, stages - (kept_back if asynchronous else 1))
            for operand in dot.operands[:2]:
                load = _read_by(operand)
                if load is not None and load.block is block:
                    own = 1 if _waits(load) else copies
                    size = own * _bytes(load.result.type)
                    needed[id(load)] = max(needed.get(id(load), 0), size)
        total = sum(needed.values())
        if total > found.bytes:
            found = Footprint(total, dots[0].location)
    return found


def _waits(operation: Operation) -> bool:
    """Whether it needs what another load or product of the same turn gives: then its loads begin later.

    Of a product, other products are meant; of a load, loads.
    """
    others = DOTS if operation.name in DOTS else ("tt.load",)
    waiting = [value.operation for value in operation.operands]
    seen: set[int] = set()
    while waiting:
        source = waiting.pop()
        if source is None or id(source) in seen or source.block is not operation.block:
            continue
        if source.name in others:
            return True
        seen.add(id(source))
        waiting += [value.operation for value in source.operands]
    return False


def _blocks(function: Function) -> Iterator[tuple[Block, Operation | None]]:
    """Every block of the kernel's own control flow, with the loop whose body it is."""
    for block in function.body.blocks:
        yield block, None
    for operation in function.walk():
        if operation.name in CARRYING:
            for region in operation.regions:
                for block in region.blocks:
                    yield block, operation if operation.name == "scf.for" else None


def _read_by(value: Value) -> Operation | None:
    """The load that a value is another look at."""
    operation = value.operation
    while operation is not None and operation.name in (*VIEWS, "tt.trans"):
        operation = operation.operands[0].operation
    return operation if operation is not None and operation.name == "tt.load" else None


def tiles(function: Function) -> Footprint:
    """All tiles that are there at the same time, on a chip that keeps them in the memory beside its core.

    Not counted: addresses and masks of loads and stores, what is the same in all places, and what `tl.dot`
    reads from memory and gives (which lies beside the unit for products). A result may take the place of an
    operand of its size that is needed no more.
    """
    return _Tiles(function).most()


class _Tiles:
    """From where to where each tile is in use, in the order in which the operations are written."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.order = list(function.walk())
        self.number = {id(operation): index for index, operation in enumerate(self.order)}
        self.places = Groups()
        self.variables = Groups()
        for operation in self.order:
            if operation.name in VIEWS and operation.results:
                self.places.join([operation.operands[0], operation.result])
            for values in _handed_on(operation):
                # Often a number, or the same in all places, of which no tile is made.
                made = [v for v in values if v.operation is None or v.operation.name not in IMMEDIATE]
                self.variables.join(made)

    @cached_property
    def in_products(self) -> set[int]:
        """The variables that products read from memory, give and add to, by the identity of their group."""
        found = set()
        for operation in self.order:
            if operation.name in DOTS:
                reads = (_read_by(value) for value in operation.operands[:2])
                values = [*operation.results, *(load.result for load in reads if load is not None)]
                found |= {id(self.variables.of(value)) for value in values}
        return found

    @cached_property
    def data(self) -> set[int]:
        """The values that others than addresses and masks depend on, by their identity."""
        handed_on: dict[int, list[Value]] = {}
        waiting: list[Value] = []
        for operation in self.order:
            for value, *sources in _handed_on(operation):
                handed_on.setdefault(id(value), []).extend(sources)
            if operation.name in EFFECTS:
                start, count = EFFECTS[operation.name]
                waiting += operation.operands[start : start + count]
            elif operation.name in DOTS:
                waiting += operation.operands
        found: set[int] = set()
        while waiting:
            value = waiting.pop()
            if id(value) in found or value.type.is_pointer:
                continue
            found.add(id(value))
            waiting += handed_on.get(id(value), ())
            made_by = value.operation
            if made_by is not None and made_by.name not in (*CARRYING, *READS):
                waiting += made_by.operands
        return found

    def _made(self) -> Iterator[tuple[int, Value, bool]]:
        """Every tile of data after the number of the operation that makes it, and whether memory is taken."""
        for operation in self.order:
            if operation.name in IMMEDIATE:
                continue
            number = self._end(operation) if operation.name in CARRYING else self.number[id(operation)]
            made = [(number, value) for value in operation.results]
            if operation.name in CARRYING:
                blocks = [
                    block for region in operation.regions for block in region.blocks if block.operations
                ]
                for block in blocks:
                    number = self.number.get(id(block.operations[0]), number)
                    made += [(number, value) for value in block.arguments]
            for number, value in made:
                in_product = id(self.variables.of(value)) in self.in_products
                if id(value) in self.data and not in_product and value.type.is_tensor:
                    yield number, value, operation.name not in VIEWS

    def _end(self, operation: Operation) -> int:
        """The number of the last operation in it."""
        return max((self.number[id(inner)] for inner in operation.walk()), default=self.number[id(operation)])

    def most(self) -> Footprint:
        """Where most is in use."""
        size: dict[int, int] = {}
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for number, value, takes_memory in self._made():
            place = id(self.places.of(value))
            if takes_memory:
                size[place] = _bytes(value.type)
            first[place] = min(first.get(place, number), number)
            last[place] = max(last.get(place, number), self._last_use(value, number))
        return self._peak(size, first, last)

    def _last_use(self, value: Value, made: int) -> int:
        """The number of the last operation that reads it; of one in a later loop, that of the loop's last."""
        last = made
        for user in value.users:
            number = self.number.get(id(user), 0)
            outer = user.block.parent if user.block else None
            while outer is not None and self.number[id(outer)] > made:
                if outer.name != "scf.if":
                    number = self._end(outer)
                outer = outer.block.parent if outer.block else None
            last = max(last, number)
        return last

    def _peak(self, size: dict[int, int], first: dict[int, int], last: dict[int, int]) -> Footprint:
        begin: dict[int, list[int]] = {}
        end: dict[int, list[int]] = {}
        for place, bytes_of_it in size.items():
            begin.setdefault(first[place], []).append(bytes_of_it)
            end.setdefault(last[place], []).append(bytes_of_it)
        most, at, now = 0, self.function.location, 0
        for index, operation in enumerate(self.order):
            new, gone = begin.get(index, []), end.get(index, [])
            extra = list(new)
            for bytes_of_it in gone:
                if bytes_of_it in extra:
                    extra.remove(bytes_of_it)
            if now + sum(extra) > most:
                most, at = now + sum(extra), operation.location
            now += sum(new) - sum(gone)
        return Footprint(most, at)


def _handed_on(operation: Operation) -> Iterator[list[Value]]:
    """Values that are one variable: first what a loop or a branch has or gives, then what that is made of."""
    if operation.name not in CARRYING:
        return
    ends = [region.blocks[-1].end for region in operation.regions if region.blocks[-1].operations]
    if operation.name == "scf.for":
        for index, result in enumerate(operation.results):
            argument = operation.regions[0].block.arguments[index + 1]
            given = [end.operands[index] for end in ends if index < len(end.operands)]
            yield [argument, operation.operands[index + 3], *given]
            yield [result, argument]
    elif operation.name == "scf.if":
        for index, result in enumerate(operation.results):
            yield [result, *(end.operands[index] for end in ends if index < len(end.operands))]
    else:
        before, after = operation.regions
        for index, argument in enumerate(before.block.arguments):
            given = [ends[-1].operands[index]] if index < len(ends[-1].operands) else []
            yield [argument, operation.operands[index], *given]
        condition = ends[0].operands[1:]
        for values in (after.block.arguments, operation.results):
            for value, handed in zip(values, condition, strict=False):
                yield [value, handed]


def _bytes(kind: Type) -> int:
    return kind.size * kind.bits // 8
