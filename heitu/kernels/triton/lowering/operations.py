"""Operations that are done where they stand: they write memory, or make whole tensors out of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable

from heitu.kernels.triton.ir import Attribute, Operation, Region, Value
from heitu.kernels.triton.lowering.nest import Nest
from heitu.kernels.triton.lowering.planning import Plan, store_order
from heitu.kernels.triton.lowering.reductions import reduce, scan
from heitu.kernels.triton.lowering.representation import (
    UnsupportedError,
    from_memory,
    memory_type,
    register_type,
    rounded,
    to_memory,
    unsigned_type,
)
from heitu.kernels.triton.lowering.scaled import dot_scaled
from heitu.kernels.triton.lowering.scope import Scope
from heitu.kernels.triton.lowering.shapes import flat_index


def store(scope: Scope, operation: Operation) -> None:
    """`tt.store`."""
    pointer, value, *rest = operation.operands
    if not value.type.is_tensor:
        condition = f"if ({scope.scalar(rest[0])}) " if rest else ""
        kind = value.type
        place = f"*({memory_type(kind)}*){scope.scalar(pointer)}"
        scope.settle_loads(set())
        scope.write(f"{condition}{place} = {to_memory(kind, scope.scalar(value))};")
        return
    _read_what_is_overwritten(scope, operation)
    plan = Plan(scope, [(each, None) for each in operation.operands], {operation})
    scope.settle_loads(plan.within)
    nest = Nest(scope, value.type.shape, store_order(scope, operation))
    nest.spills = plan.spill()
    nest.emit(lambda nest: nest.store(operation))
    scope.tiles.update(nest.spills)


def _read_what_is_overwritten(scope: Scope, operation: Operation) -> None:
    """Reads, before an element is written, what the stored value takes from elsewhere in the same memory."""
    pointer = operation.operands[0]
    base = _base(pointer)
    for value in [each for each in scope.loads if each not in scope.tiles]:
        assert value.operation is not None
        source = value.operation.operands[0]
        elsewhere = source is not pointer and (base is None or _base(source) in (base, None))
        if elsewhere and _reaches(scope, value, operation):
            scope.materialize([value])


def _reaches(scope: Scope, value: Value, operation: Operation) -> bool:
    return any(
        user is operation
        or (scope.is_waiting(user) and any(_reaches(scope, each, operation) for each in user.results))
        for user in value.users
    )


def _base(pointer: Value) -> Value | None:
    """The scalar pointer that a tensor of pointers was made of."""
    while pointer.operation is not None and pointer.operation.name in (
        "tt.addptr", "tt.splat", "tt.broadcast", "tt.expand_dims", "tt.bitcast", "tt.reshape", "tt.trans",
    ):  # fmt: skip
        pointer = pointer.operation.operands[0]
    return pointer if not pointer.type.is_tensor else None


def dot(scope: Scope, operation: Operation) -> None:
    """`tt.dot`."""
    a, b, start = operation.operands
    kind = a.type.scalar
    if kind.is_integer and kind.bits != 8:
        raise UnsupportedError(f"tt.dot of {kind}")
    name = "i8" if kind.is_integer else "f64" if kind.element == "f64" else "f32"
    first, second = scope.as_tile(a), scope.as_tile(b)
    result = operation.result
    target = _accumulator(scope, operation, start)
    *batches, m, n = result.type.shape
    k = a.type.shape[-1]
    if batches:
        scope.write(f"for (int64_t batch = 0; batch < {batches[0]}; ++batch)")
        first, second = f"{first} + batch * {m * k}", f"{second} + batch * {k * n}"
        scope.write(f"heitu_dot_{name}({first}, {second}, {target} + batch * {m * n}, {m}, {n}, {k});")
    else:
        scope.write(f"heitu_dot_{name}({first}, {second}, {target}, {m}, {n}, {k});")
    if rounded(result.type.scalar, "x") != "x":
        text = rounded(result.type.scalar, f"{target}[i]")
        scope.write(f"for (int64_t i = 0; i < {result.type.size}; ++i) {target}[i] = {text};")
    scope.tiles[result] = target


def _accumulator(scope: Scope, operation: Operation, start: Value) -> str:
    """The tile to which products are added: that of what they are added to, where nobody else wants it."""
    made = start.operation
    if made is not None and made.name == "arith.constant" and _is_zero(made.attributes["value"]):
        target = scope.tile_for(operation.result)
        scope.write(f"memset({target}, 0, sizeof(*{target}) * {start.type.size});")
        return target
    if start.users == [operation] and (made is None or scope.is_waiting(made) or start in scope.tiles):
        if start not in scope.tiles and operation.result in scope.places:
            scope.places[start] = scope.places[operation.result]
        return scope.as_tile(start)
    source = scope.as_tile(start)
    target = scope.tile_for(operation.result)
    scope.write(f"memcpy({target}, {source}, sizeof(*{target}) * {start.type.size});")
    return target


def _is_zero(value: Attribute) -> bool:
    """Whether all bits of a constant are 0."""
    return isinstance(value, (int, float)) and value == 0 and math.copysign(1, value) > 0


ORDERINGS = {
    "relaxed": "__ATOMIC_RELAXED",
    "acquire": "__ATOMIC_ACQUIRE",
    "release": "__ATOMIC_RELEASE",
    "acq_rel": "__ATOMIC_ACQ_REL",
}
WHOLE_NUMBERS = {"add": "+", "and": "&", "or": "|", "xor": "^"}


def _updated(operation: Operation, old: str, value: str) -> str:
    """What an atomic operation leaves in memory."""
    kind = operation.operands[1].type.scalar
    name = operation.text("operation")
    if name == "exch":
        return value
    if name == "fadd":
        return rounded(kind, f"{old} + {value}")
    if name in WHOLE_NUMBERS:
        return f"({register_type(kind)})({old} {WHOLE_NUMBERS[name]} {value})"
    sign = "<" if name.endswith("min") else ">"
    cast = f"({unsigned_type(kind)})" if name.startswith("u") else ""
    return f"{cast}{value} {sign} {cast}{old} ? {value} : {old}"


def atomic(scope: Scope, operation: Operation) -> None:
    """`tt.atomic_rmw`, `tt.atomic_cas`, `tt.atomic_load` and `tt.atomic_store`."""
    operands = operation.operands
    result = operation.results[0] if operation.results else None
    tensor = operands[0].type.is_tensor
    pointee = operands[0].type.pointee
    assert pointee is not None
    order = ORDERINGS.get(operation.text("semantics"), "__ATOMIC_ACQ_REL")
    kind, memory = register_type(pointee), memory_type(pointee)
    bits = f"uint{max(pointee.bits, 8)}_t"
    scope.settle_loads(set())

    def body(texts: list[str], target: str) -> list[str]:
        address = f"({bits}*){texts[0]}"
        keep = f"{target} = " if target else ""
        read = "memcpy(&stored, &seen, sizeof seen);"
        exchange = f"__atomic_compare_exchange_n({address}, &seen, wanted"
        if operation.name == "tt.atomic_load":
            masked = f"if ({texts[1]}) " if len(texts) > 1 else ""
            other = f" else {keep}{texts[2]};" if len(texts) > 2 else f" else {keep}0;" if masked else ""
            load = "__ATOMIC_ACQUIRE" if order not in ("__ATOMIC_RELAXED",) else order
            return [f"{masked}{{ {bits} seen = __atomic_load_n({address}, {load}); {memory} stored; {read}"
                    f" {keep}{from_memory(pointee, 'stored')}; }}{other}"]  # fmt: skip
        if operation.name == "tt.atomic_store":
            release = order if order in ("__ATOMIC_RELAXED", "__ATOMIC_RELEASE") else "__ATOMIC_RELEASE"
            masked = f"if ({texts[2]}) " if len(texts) > 2 else ""
            return [f"{masked}{{ {memory} stored = {to_memory(pointee, texts[1])}; {bits} seen;"
                    f" memcpy(&seen, &stored, sizeof seen);"
                    f" __atomic_store_n({address}, seen, {release}); }}"]  # fmt: skip
        lines = [
            f"{bits} seen = __atomic_load_n({address}, __ATOMIC_RELAXED), wanted;",
            f"{memory} stored; {kind} old;",
        ]
        if operation.name == "tt.atomic_cas":
            lines = [
                f"{{ {memory} stored; {bits} seen, wanted;",
                f"stored = {to_memory(pointee, texts[1])}; memcpy(&seen, &stored, sizeof seen);",
                f"stored = {to_memory(pointee, texts[2])}; memcpy(&wanted, &stored, sizeof wanted);",
                f"{exchange}, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);",
                read,
            ]
            return [*lines, f"{keep}{from_memory(pointee, 'stored')}; }}" if keep else "}"]
        masked = f"if ({texts[2]}) " if len(texts) > 2 else ""
        return [
            f"{masked}{{",
            *lines,
            "do {",
            f"{read} old = {from_memory(pointee, 'stored')};",
            f"const {kind} made = {_updated(operation, 'old', texts[1])};",
            f"stored = {to_memory(pointee, 'made')}; memcpy(&wanted, &stored, sizeof wanted);",
            f"}} while (!{exchange}, 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));",
            f"{keep}old;" if keep else "",
            "}",
        ]

    if not tensor:
        target = ""
        if result is not None:
            scope.define(result, "0")
            target = scope.names[result]
        scope.write(*body([scope.scalar(each) for each in operands], target))
        return
    plan = Plan(scope, [(each, None) for each in operands], {operation})
    shape = operands[0].type.shape
    nest = Nest(scope, shape, pragma="")
    nest.spills = plan.spill()
    name = scope.new_tile(result) if result is not None and result.users else ""

    def root(nest: Nest) -> None:
        texts = [nest.value(each, nest.index)[0] for each in operands]
        target = f"{name}[{flat_index(nest.index, shape).text}]" if name else ""
        for line in body(texts, target):
            nest.statement(nest.depth, line)

    nest.emit(root)
    scope.tiles.update(nest.spills)


def histogram(scope: Scope, operation: Operation) -> None:
    """`tt.histogram`: what lies outside the bins is not counted."""
    source, *mask = operation.operands
    name = scope.new_tile(operation.result)
    bins = operation.result.type.size
    tile = scope.as_tile(source)
    masked = f"if ({scope.as_tile(mask[0])}[i]) " if mask else ""
    scope.write(
        f"memset({name}, 0, sizeof(*{name}) * {bins});",
        f"for (int64_t i = 0; i < {source.type.size}; ++i) "
        f"{masked}if ((uint64_t){tile}[i] < {bins}) ++{name}[{tile}[i]];",
    )


def gather(scope: Scope, operation: Operation) -> None:
    """`tt.gather`: along an axis, by indices; one that is out of range reads some element, as on chips."""
    source, indices = operation.operands
    axis = operation.integer("axis")
    shape, taken = source.type.shape, indices.type.shape
    tile, at = scope.as_tile(source), scope.as_tile(indices)
    name = scope.new_tile(operation.result)
    loops, place = [], []
    for dimension, extent in enumerate(taken):
        loops.append(f"for (int64_t d{dimension} = 0; d{dimension} < {extent}; ++d{dimension})")
        stride = 1
        for rest in shape[dimension + 1 :]:
            stride *= rest
        place.append(
            f"(int64_t)({at}[o] % {shape[axis]}) * {stride}"
            if dimension == axis
            else f"d{dimension} * {stride}"
        )
    flat = "0"
    for dimension, extent in enumerate(taken):
        flat = f"({flat}) * {extent} + d{dimension}"
    scope.write(*loops, f"{{ const int64_t o = {flat}; {name}[o] = {tile}[{' + '.join(place)}]; }}")


def print_(scope: Scope, operation: Operation) -> None:
    """`tt.print`: a line for each element, with the program's and the element's number.

    What is the same for all threads of a block every one of them prints.
    """
    prefix = (
        operation.text("text")
        .replace("\\", "\\\\")
        .replace('"', '\\"')
        .replace("%", "%%")
        .replace("\n", "\\n")
    )
    is_hex = bool(operation.attributes.get("hex"))
    signs = operation.attributes.get("isSigned") or []
    assert isinstance(signs, list)
    where = "program[0], program[1], program[2]"
    every_thread = f"for (int thread = 0; thread < {scope.threads}; ++thread)"
    if not operation.operands:
        scope.write(f'{every_thread} heitu_print("pid (%d, %d, %d){prefix}\\n", {where});')
        return
    for number, value in enumerate(operation.operands):
        signed = bool(signs[number]) if number < len(signs) else True
        form, cast = _printed(value, is_hex, signed)
        operand = f"(operand {number}) " if len(operation.operands) > 1 else ""
        if not value.type.is_tensor:
            scope.write(
                f'{every_thread} heitu_print("pid (%d, %d, %d) idx (){prefix}{operand}{form}\\n", {where}, '
                f"{cast}{scope.scalar(value)});"
            )
            continue
        tile, shape = scope.as_tile(value), value.type.shape
        indices, stride = [], value.type.size
        for extent in shape:
            stride //= extent
            indices.append(f"(int)(e / {stride} % {extent})")
        places = ", ".join(f"%{len(str(extent - 1))}d" for extent in shape)
        scope.write(
            f"for (int64_t e = 0; e < {value.type.size}; ++e) "
            f'heitu_print("pid (%d, %d, %d) idx ({places}){prefix}{operand}{form}\\n", {where}, '
            f"{', '.join(indices)}, {cast}{tile}[e]);"
        )


def _printed(value: Value, is_hex: bool, signed: bool) -> tuple[str, str]:
    kind = value.type.scalar
    if kind.is_pointer:
        return "0x%016llx", "(unsigned long long)"
    if kind.is_float:
        return "%a" if is_hex else "%f", "(double)"
    if is_hex:
        return f"0x%0{max(kind.bits // 4, 1)}llx", f"(unsigned long long)({unsigned_type(kind)})"
    if signed and kind.element != "i1":
        return "%lld", "(long long)"
    return "%llu", f"(unsigned long long)({unsigned_type(kind)})"


def assert_(scope: Scope, operation: Operation) -> None:
    """`tt.assert`: an element that is false makes the launch fail, and ends the program instance."""
    (condition,) = operation.operands[:1]
    message = operation.text("text")
    if operation.location is not None:
        message = f"{operation.location.file}:{operation.location.line}: {message}"
    quoted = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    failed = f'heitu_assert_failed("{quoted}", program);'
    scope.settle_loads(set())
    if not condition.type.is_tensor:
        scope.write(f"if (!{scope.scalar(condition)}) {{ {failed} return; }}")
        return
    Plan(scope, [(condition, None)], {operation})
    held = scope.fresh("held")
    scope.write(f"bool {held} = 1;")
    nest = Nest(scope, condition.type.shape)
    nest.emit(lambda nest: nest.statement(nest.depth, f"{held} &= {nest.value(condition, nest.index)[0]};"))
    scope.write(f"if (!{held}) {{ {failed} return; }}")


def poll(scope: Scope, operation: Operation) -> None:
    """`tt.atomic_poll`: looks at memory until it holds what is expected, or for as long as was asked for."""
    pointer, expected, *timeout = operation.operands
    pointee = pointer.type.pointee
    assert pointee is not None
    if pointer.type.is_tensor:
        raise UnsupportedError("tt.atomic_poll of tensors")
    scope.settle_loads(set())
    scope.define(operation.result, "0")
    found = scope.names[operation.result]
    limit = scope.scalar(timeout[0]) if timeout else "-1"
    bits = f"uint{pointee.bits}_t"
    scope.write(
        f"{found} = heitu_poll_{pointee.bits}(({bits}*){scope.scalar(pointer)}, "
        f"({bits}){scope.scalar(expected)}, {limit});"
    )


def map_elementwise(scope: Scope, operation: Operation) -> None:
    """`tt.map_elementwise`: a function of scalars, on `pack` neighbours at a time."""
    region, pack = operation.regions[0], operation.integer("pack", 1)
    operands, results = operation.operands, operation.results
    tiles = [scope.as_tile(each) for each in operands]
    targets = [scope.new_tile(each) for each in results]
    name = scope.fresh("e")
    scope.write(f"for (int64_t {name} = 0; {name} < {operands[0].type.size}; {name} += {pack}) {{")
    for number, argument in enumerate(region.block.arguments):
        scope.define(argument, f"{tiles[number // pack]}[{name} + {number % pack}]")
    scope.lower(region)
    # The block that ends it is the one with its results, wherever it stands.
    for number, value in enumerate(_end(region).operands):
        scope.write(f"{targets[number // pack]}[{name} + {number % pack}] = {scope.scalar(value)};")
    scope.write("}")


def _end(region: Region) -> Operation:
    return next(block.end for block in region.blocks if block.end.name == "tt.map_elementwise.return")


def nothing(scope: Scope, operation: Operation) -> None:
    """Barriers: one thread does the whole program instance."""


ROOTS: dict[str, Callable[[Scope, Operation], None]] = {
    "tt.store": store,
    "tt.reduce": reduce,
    "tt.scan": scan,
    "tt.dot": dot,
    "tt.atomic_rmw": atomic,
    "tt.atomic_cas": atomic,
    "tt.atomic_load": atomic,
    "tt.atomic_store": atomic,
    "tt.histogram": histogram,
    "tt.gather": gather,
    "tt.print": print_,
    "tt.assert": assert_,
    "tt.atomic_poll": poll,
    "tt.map_elementwise": map_elementwise,
    "tt.dot_scaled": dot_scaled,
    "gpu.barrier": nothing,
    "ttg.barrier": nothing,
    "ttg.local_barrier": nothing,
}
