"""The checked form of a kernel: the runtime judges the address of each access before memory is touched.

`instrument` puts an operation of ours before each access, which takes its pointers and gives back those that
may be used, and others behind atomic operations. So nothing else of the lowering knows of checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import IntFlag
from typing import Any

from heitu.kernels.triton.ir import Block, Function, Module, Operation, Value
from heitu.kernels.triton.lowering.nest import Nest
from heitu.kernels.triton.lowering.planning import Plan
from heitu.kernels.triton.lowering.representation import memory_bytes, memory_type, to_memory
from heitu.kernels.triton.lowering.scope import Scope
from heitu.kernels.triton.lowering.shapes import flat_index

ENTER, ACCESS, ACQUIRED, NEXT = "heitu.enter", "heitu.access", "heitu.acquired", "heitu.next"
CHOSEN = "heitu.chosen"


class SiteFlag(IntFlag):
    """As in `runtime/check.h`."""

    READS = 1
    WRITES = 2
    ATOMIC = 4
    ACQUIRES = 8
    PUBLISHES = 16
    POLLS = 32
    CHOSEN = 64


# By operation: what it does, and which operand is its mask.
ACCESSES = {
    "tt.load": (SiteFlag.READS, 1),
    "tt.store": (SiteFlag.WRITES, 2),
    "tt.atomic_rmw": (SiteFlag.READS | SiteFlag.WRITES | SiteFlag.ATOMIC, 2),
    "tt.atomic_cas": (SiteFlag.READS | SiteFlag.WRITES | SiteFlag.ATOMIC, None),
    "tt.atomic_load": (SiteFlag.READS | SiteFlag.ATOMIC, 1),
    "tt.atomic_store": (SiteFlag.WRITES | SiteFlag.ATOMIC, 2),
    "tt.atomic_poll": (SiteFlag.READS | SiteFlag.ATOMIC | SiteFlag.POLLS, None),
}
CASTS = (
    "arith.extf", "arith.truncf", "arith.extsi", "arith.extui", "arith.trunci", "arith.sitofp",
    "arith.uitofp", "arith.bitcast", "tt.bitcast", "tt.fp_to_fp",
)  # fmt: skip


@dataclass
class Site:
    """One operation that accesses memory.

    Args:
        flags: SiteFlags.
        bytes: of an element in memory.
        argument: the number of the kernel's argument from which addresses are computed; None: not known.
        shape: of the tile; empty for a scalar.
        file: where it stands in the program, with line and column from 1; empty: not known.
    """

    flags: int
    bytes: int
    argument: int | None
    shape: tuple[int, ...]
    operation: str
    file: str = ""
    line: int = 0
    column: int = 0


def instrument(module: Module) -> list[dict[str, Any]]:
    """Gives a module its checked form; returns its sites, as JSON has them."""
    made = _Instrumentation(_Origins(module))
    for function in module.functions.values():
        for block in _blocks(function):
            block.operations = [each for operation in block.operations for each in made.surrounded(operation)]
    first = module.kernel.body.block
    first.operations.insert(0, Operation(ENTER, block=first))
    _settle_publishing(made.sites)
    return [asdict(site) for site in made.sites]


def _blocks(function: Function) -> list[Block]:
    nested = [block for each in function.walk() for region in each.regions for block in region.blocks]
    return [*function.body.blocks, *nested]


class _Instrumentation:
    """The sites that were found, and what is to be put before operations that come later."""

    def __init__(self, origins: _Origins) -> None:
        self.origins = origins
        self.sites: list[Site] = []
        self._pending: dict[Operation, list[Operation]] = {}

    def surrounded(self, operation: Operation) -> Iterator[Operation]:
        """The operation with those of ours before and behind it."""
        yield from self._pending.pop(operation, ())
        if operation.name not in ACCESSES:
            yield operation
            return
        flags, mask = ACCESSES[operation.name]
        flags |= _ordering(operation)
        if operation.text("operation") == "exch" and not _is_used(operation):
            flags &= ~SiteFlag.READS
        choices = _choices(operation.result) if operation.name == "tt.load" else None
        if choices is not None:
            flags |= SiteFlag.CHOSEN
        pointer = operation.operands[0]
        number = self._add(operation, flags)
        masks = operation.operands[mask : mask + 1] if mask is not None else []
        written = operation.operands[1:2] if operation.name in ("tt.store", "tt.atomic_poll") else []
        checked = _before(ACCESS, operation, [pointer, *masks, *written], number)
        checked.attributes["masked"], checked.attributes["written"] = bool(masks), bool(written)
        allowed = Value(f"{pointer.name}.allowed", pointer.type, checked, [operation])
        checked.results.append(allowed)
        operation.operands[0] = allowed
        if pointer not in operation.operands[1:]:
            pointer.users.remove(operation)
        yield checked
        yield operation
        for selection, taken in choices or ():
            chosen = _before(CHOSEN, selection, [allowed, selection.operands[0], *masks], number)
            chosen.attributes["taken"] = taken
            self._pending.setdefault(selection, []).append(chosen)
        if flags & (SiteFlag.ACQUIRES | SiteFlag.POLLS):
            yield _before(ACQUIRED, operation, [allowed], number)
        if operation.name != "tt.load" and flags & SiteFlag.ATOMIC:
            yield _before(NEXT, operation, [], number)

    def _add(self, operation: Operation, flags: SiteFlag) -> int:
        """Makes a site of an operation; returns its number."""
        pointer, place = operation.operands[0], operation.location
        pointee = pointer.type.pointee
        assert pointee is not None
        origin = self.origins.of(pointer)
        site = Site(flags, memory_bytes(pointee), origin, pointer.type.shape, operation.name)
        if place is not None:
            site.file, site.line, site.column = place.file, place.line, place.column
        self.sites.append(site)
        return len(self.sites) - 1


def _choices(value: Value) -> list[tuple[Operation, bool]] | None:
    """The selections through which alone a value is used, and whether they take it where they hold.

    What they throw away may be uninitialised. None: the value is used otherwise, or not at all.
    """
    found: list[tuple[Operation, bool]] = []
    for user in value.users:
        if user.name == "arith.select" and user.operands.count(value) == 1 and user.operands[0] is not value:
            found.append((user, user.operands[1] is value))
        elif user.name in CASTS and (behind := _choices(user.result)) is not None:
            found += behind
        else:
            return None
    return found or None


def _before(name: str, operation: Operation, operands: list[Value], site: int) -> Operation:
    made = Operation(
        name, operands, attributes={"site": site}, location=operation.location, block=operation.block
    )
    for value in set(operands):
        value.users.append(made)
    return made


def _is_used(operation: Operation) -> bool:
    return any(result.users for result in operation.results)


def _ordering(operation: Operation) -> SiteFlag:
    """What an access orders. Without a look at its result a program cannot know that others were earlier."""
    if operation.attributes.get("isVolatile"):  # programs wait for others with such loads
        return SiteFlag.ATOMIC | SiteFlag.ACQUIRES
    flags = SiteFlag(0)
    semantics = operation.text("semantics")
    waits = operation.name == "tt.atomic_poll"
    if semantics in ("acquire", "acq_rel") and (waits or _is_used(operation)):
        flags |= SiteFlag.ACQUIRES
    if semantics in ("release", "acq_rel"):
        flags |= SiteFlag.PUBLISHES
    return flags


def _settle_publishing(sites: list[Site]) -> None:
    """Takes PUBLISHES from sites whose memory nobody acquires from, which would only cost memory."""
    acquiring = {site.argument for site in sites if site.flags & SiteFlag.ACQUIRES}
    for site in sites:
        anywhere = None in acquiring or (site.argument is None and acquiring)
        if not anywhere and site.argument not in acquiring:
            site.flags &= ~SiteFlag.PUBLISHES


class _Origins:
    """From which argument of the kernel pointers are computed."""

    THROUGH = (
        "tt.addptr", "tt.splat", "tt.broadcast", "tt.expand_dims", "tt.bitcast", "tt.reshape", "tt.trans",
        "tt.unsplat", "tt.split",
    )  # fmt: skip
    ANY_OF = ("tt.join", "tt.cat")

    def __init__(self, module: Module) -> None:
        self._known: dict[Value, int | None] = {}
        self._sources: dict[Value, list[Value]] = {}
        for number, value in enumerate(module.kernel.arguments):
            self._known[value] = number
        for function in module.functions.values():
            for operation in function.walk():
                self._carry(operation, module)

    def _carry(self, operation: Operation, module: Module) -> None:
        """Notes which values become the arguments of regions and functions, and results of regions."""
        name, regions = operation.name, operation.regions

        def add(targets: list[Value], sources: list[Value]) -> None:
            for target, source in zip(targets, sources, strict=False):
                self._sources.setdefault(target, []).append(source)

        if name == "scf.for":
            for sources in (operation.operands[3:], regions[0].block.end.operands):
                add(regions[0].block.arguments[1:], sources)
                add(operation.results, sources)
        elif name == "scf.while":
            before, after = (region.block for region in regions)
            add(before.arguments, operation.operands)
            add(before.arguments, after.end.operands)
            add(after.arguments, before.end.operands[1:])
            add(operation.results, before.end.operands[1:])
        elif name == "scf.if":
            for region in regions:
                add(operation.results, region.block.end.operands)
        elif name == "tt.call":
            callee = module.functions[operation.text("callee")]
            add(callee.arguments, operation.operands)
            for inner in callee.walk():
                if inner.name == "tt.return":
                    add(operation.results, inner.operands)

    def of(self, pointer: Value) -> int | None:
        """The number of the argument; None where it is not known, or several are possible."""
        found: set[int | None] = set()
        seen: set[Value] = set()
        pending = [pointer]
        while pending:
            value = pending.pop()
            if value in seen:
                continue
            seen.add(value)
            operation = value.operation
            if value in self._known:
                found.add(self._known[value])
            elif value in self._sources:
                pending.extend(self._sources[value])
            elif operation is not None and operation.name in (*self.THROUGH, *self.ANY_OF):
                pending.extend(operation.operands[: 1 if operation.name in self.THROUGH else None])
            elif operation is not None and operation.name == "arith.select":
                pending.extend(operation.operands[1:])
            else:
                found.add(None)
        return found.pop() if len(found) == 1 else None


# From here on: the C of these operations.


def _enter(scope: Scope, operation: Operation) -> None:
    scope.write(
        "int entered __attribute__((cleanup(heitu_check_leave))) = heitu_check_enter(program, programs);"
    )


def _access(scope: Scope, operation: Operation) -> None:
    """`heitu.access`: pointers, their mask, and what is written; gives pointers."""
    pointer = operation.operands[0]
    masked, written = bool(operation.attributes["masked"]), bool(operation.attributes["written"])
    site = operation.integer("site")

    def body(texts: list[str], element: str, target: str) -> str:
        address, *rest = texts
        value = "0"
        prepare = ""
        if written:
            kind = operation.operands[-1].type.scalar
            prepare = f"{memory_type(kind)} written = {to_memory(kind, rest[-1])};"
            value = "&written"
        condition = f"if ({rest[0]}) " if masked else ""
        call = f"heitu_check_access({site}, {element}, {address}, {value})"
        return f"{target} = {address}; {condition}{{ {prepare} {target} = {call}; }}"

    if not pointer.type.is_tensor:
        scope.settle_loads(set())
        scope.define(operation.result, "0")
        texts = [scope.scalar(each) for each in operation.operands]
        scope.write(body(texts, "0", scope.names[operation.result]))
        return
    shape = pointer.type.shape
    name = scope.new_tile(operation.result)

    def root(nest: Nest) -> None:
        texts = [nest.value(each, nest.index)[0] for each in operation.operands]
        element = flat_index(nest.index, shape).text
        nest.statement(nest.depth, body(texts, element, f"{name}[{element}]"))

    _each(scope, operation, root)


def _chosen(scope: Scope, operation: Operation) -> None:
    """`heitu.chosen`: pointers whose elements were read, the condition of a selection, and their mask."""
    pointer = operation.operands[0]
    site = operation.integer("site")

    def body(texts: list[str], element: str) -> str:
        address, condition, *masks = texts
        taken = condition if operation.attributes["taken"] else f"!{condition}"
        tests = " && ".join([taken, *masks])
        return f"if ({tests}) heitu_check_chosen({site}, {element}, {address});"

    if not pointer.type.is_tensor:
        scope.write(body([scope.scalar(each) for each in operation.operands], "0"))
        return

    def root(nest: Nest) -> None:
        texts = [nest.value(each, nest.index)[0] for each in operation.operands]
        nest.statement(nest.depth, body(texts, flat_index(nest.index, pointer.type.shape).text))

    _each(scope, operation, root)


def _acquired(scope: Scope, operation: Operation) -> None:
    (pointer,) = operation.operands
    site = operation.integer("site")
    if not pointer.type.is_tensor:
        scope.write(f"heitu_check_acquired({site}, {scope.scalar(pointer)});")
        return

    def root(nest: Nest) -> None:
        text, _ = nest.value(pointer, nest.index)
        nest.statement(nest.depth, f"heitu_check_acquired({site}, {text});")

    _each(scope, operation, root)


def _next(scope: Scope, operation: Operation) -> None:
    scope.write(f"heitu_check_next({operation.integer('site')});")


def _each(scope: Scope, operation: Operation, root: Callable[[Nest], None]) -> None:
    """Does something for each element, in the order of memory; numbers wrap as the program has them wrap."""
    plan = Plan(scope, [(each, None) for each in operation.operands], {operation})
    nest = Nest(scope, operation.operands[0].type.shape, pragma="")
    nest.spills = plan.spill()
    nest.emit(root)
    scope.tiles.update(nest.spills)


ROOTS: dict[str, Callable[[Scope, Operation], None]] = {
    ENTER: _enter,
    ACCESS: _access,
    CHOSEN: _chosen,
    ACQUIRED: _acquired,
    NEXT: _next,
}
