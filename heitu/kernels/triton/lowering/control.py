"""Loops, conditions and branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from heitu.kernels.triton.ir import Block, Operation, Region, Value
from heitu.kernels.triton.lowering.representation import memory_bytes, register_type
from heitu.kernels.triton.lowering.scope import Scope, Shifted

if TYPE_CHECKING:
    Lower = Callable[[Block], None]


def settle_before(scope: Scope, operation: Operation) -> None:
    """Computes, once, what the regions of an operation take from outside; reads what is to be read."""
    inside = {inner for region in operation.regions for inner in _walk(region)}
    arguments = {
        value
        for inner in inside
        for region in inner.regions
        for block in region.blocks
        for value in block.arguments
    }
    arguments |= {
        value for region in operation.regions for block in region.blocks for value in block.arguments
    }
    outer = [
        value
        for inner in inside
        for value in (*inner.operands, *(each for _, given in inner.successors for each in given))
        if value.type.is_tensor and value.operation not in inside and value not in arguments
    ]
    order = {value: None for value in sorted(outer, key=lambda value: value.name)}
    scope.settle(order)
    scope.settle_loads(set())


def _walk(region: Region) -> list[Operation]:
    found = []
    for block in region.blocks:
        for operation in block.operations:
            found.append(operation)
            for inner in operation.regions:
                found.extend(_walk(inner))
    return found


def _kind(value: Value) -> str:
    return register_type(value.type)


def _tile_variable(scope: Scope, value: Value, given: Value) -> str:
    """A tensor that changes: a variable that points to its tile, which holds `given` at first."""
    name = scope.allocate(_kind(value), value.type.size)
    _copy(scope, name, given)
    variable = scope.fresh("carried")
    scope.write(f"{_kind(value)}* {variable} = {name};")
    scope.tiles[value] = variable
    return variable


def _copy(scope: Scope, target: str, value: Value) -> None:
    source = scope.as_tile(value)
    scope.write(f"memcpy({target}, {source}, sizeof(*{target}) * {value.type.size});")


def loop(scope: Scope, operation: Operation, lower: Lower) -> None:
    """`scf.for`."""
    settle_before(scope, operation)
    scope.settle(value for value in operation.operands[3:] if value.type.is_tensor)
    block = operation.regions[0].block
    first, last, step, *initial = operation.operands
    counter, *carried = block.arguments
    yielded = block.end.operands
    shifts = {
        argument: shift
        for argument, given in zip(carried, yielded, strict=True)
        if (shift := _shift(scope, argument, given, set(_walk(operation.regions[0])))) is not None
    }
    swapped: dict[Value, str] = {}
    for argument, start in zip(carried, initial, strict=True):
        if not argument.type.is_tensor:
            scope.define(argument, scope.scalar(start))
        elif argument in shifts:
            by = scope.fresh("shift")
            scope.write(f"int64_t {by} = 0;")
            scope.shifted[argument] = Shifted(start, by)
        else:
            _tile_variable(scope, argument, start)
            swapped[argument] = scope.allocate(_kind(argument), argument.type.size)
            spare = scope.fresh("spare")
            scope.write(f"{_kind(argument)}* {spare} = {swapped[argument]};")
            swapped[argument] = spare
    inside = set(_walk(operation.regions[0]))
    for argument, value in zip(carried, yielded, strict=True):
        if argument in swapped and value.operation in inside:
            scope.places.setdefault(value, swapped[argument])
    index = scope.fresh("i")
    cast = f"u{_kind(counter)}" if operation.attributes.get("unsigned") else _kind(counter)
    scope.names[counter] = index
    scope.write(
        f"for ({_kind(counter)} {index} = {scope.scalar(first)}; "
        f"({cast}){index} < ({cast}){scope.scalar(last)}; "
        f"{index} += {scope.scalar(step)}) {{"
    )
    with scope.perhaps():
        lower(block)
        _next_turn(scope, carried, yielded, shifts, swapped)
    scope.write("}")
    for result, argument in zip(operation.results, carried, strict=True):
        _same_as(scope, result, argument)


def _same_as(scope: Scope, value: Value, other: Value) -> None:
    if not value.type.is_tensor:
        scope.names[value] = scope.names[other]
    elif other in scope.shifted:
        scope.shifted[value] = scope.shifted[other]
    else:
        scope.tiles[value] = scope.tiles[other]


def _next_turn(
    scope: Scope,
    carried: list[Value],
    yielded: list[Value],
    shifts: dict[Value, str],
    spare: dict[Value, str],
) -> None:
    """Gives the carried values what the turn made, all at once."""
    scalars = [(a, v) for a, v in zip(carried, yielded, strict=True) if not a.type.is_tensor and a is not v]
    tensors = [(a, v) for a, v in zip(carried, yielded, strict=True) if a in spare and a is not v]
    scope.materialize(dict.fromkeys(value for _, value in tensors))
    # What was added to in place stays, and what was made in the free tile is there already.
    tensors = [(a, v) for a, v in tensors if scope.tiles[v] != scope.tiles[a]]
    for argument, value in tensors:
        if scope.tiles[value] != spare[argument]:
            _copy(scope, spare[argument], value)
    for argument, _ in tensors:
        name, other = scope.tiles[argument], spare[argument]
        scope.write(f"{{ {_kind(argument)}* const t = {name}; {name} = {other}; {other} = t; }}")
    for argument, shift in shifts.items():
        scope.write(f"{scope.shifted[argument].by} += {shift};")
    names = [scope.fresh("next") for _ in scalars]
    for name, (argument, value) in zip(names, scalars, strict=True):
        scope.write(f"const {_kind(argument)} {name} = {scope.scalar(value)};")
    for name, (argument, _) in zip(names, scalars, strict=True):
        scope.write(f"{scope.names[argument]} = {name};")


def _shift(scope: Scope, argument: Value, given: Value, inside: set[Operation]) -> str | None:
    """By how much each turn of a loop moves a tensor of numbers or pointers, if that stays the same."""
    operation = given.operation
    if not argument.type.is_tensor or operation is None or operation.name not in ("tt.addptr", "arith.addi"):
        return None
    if argument not in operation.operands or argument.type.element == "i1":
        return None
    other = next((each for each in operation.operands if each is not argument), None)
    size = 1
    if argument.type.is_pointer:
        assert argument.type.pointee is not None
        size = memory_bytes(argument.type.pointee)
    while other is not None and other.operation is not None and other.operation not in inside:
        if other.operation.name == "arith.constant":
            return f"(int64_t){scope.splat(other)} * {size}"
        if other.operation.name == "tt.splat":
            return f"(int64_t){scope.scalar(other.operation.operands[0])} * {size}"
        if other.operation.name not in ("tt.broadcast", "tt.expand_dims", "arith.extsi"):
            return None
        other = other.operation.operands[0]
    return None


def condition(scope: Scope, operation: Operation, lower: Lower) -> None:
    """`scf.if`."""
    settle_before(scope, operation)
    targets = []
    for result in operation.results:
        if result.type.is_tensor:
            targets.append(scope.allocate(_kind(result), result.type.size))
        else:
            targets.append(scope.fresh("v"))
            scope.write(f"{_kind(result)} {targets[-1]};")
    for word, region in zip(
        (f"if ({scope.scalar(operation.operands[0])}) {{", "} else {"), operation.regions, strict=False
    ):
        scope.write(word)
        with scope.perhaps():
            lower(region.block)
            values = region.block.end.operands
            scope.materialize(dict.fromkeys(value for value in values if value.type.is_tensor))
            for target, value in zip(targets, values, strict=True):
                if value.type.is_tensor:
                    _copy(scope, target, value)
                else:
                    scope.write(f"{target} = {scope.scalar(value)};")
    scope.write("}")
    for result, target in zip(operation.results, targets, strict=True):
        (scope.tiles if result.type.is_tensor else scope.names)[result] = target


def repetition(scope: Scope, operation: Operation, lower: Lower) -> None:
    """`scf.while`."""
    settle_before(scope, operation)
    before, after = (region.block for region in operation.regions)
    scope.settle(value for value in operation.operands if value.type.is_tensor)
    for argument, start in zip(before.arguments, operation.operands, strict=True):
        if argument.type.is_tensor:
            _tile_variable(scope, argument, start)
        else:
            scope.define(argument, scope.scalar(start))
    results = [*operation.results]
    for result, inner in zip(results, after.arguments, strict=True):
        if result.type.is_tensor:
            scope.tiles[result] = scope.tiles[inner] = scope.allocate(_kind(result), result.type.size)
        else:
            name = scope.fresh("v")
            scope.write(f"{_kind(result)} {name};")
            scope.names[result] = scope.names[inner] = name
    scope.write("for (;;) {")
    with scope.perhaps():
        _turn(scope, before, after, results, lower)
    scope.write("}")


def _turn(scope: Scope, before: Block, after: Block, results: list[Value], lower: Lower) -> None:
    """One turn of an `scf.while`."""
    lower(before)
    test, *passed = before.end.operands
    scope.materialize(dict.fromkeys(value for value in passed if value.type.is_tensor))
    for result, value in zip(results, passed, strict=True):
        if value.type.is_tensor:
            _copy(scope, scope.tiles[result], value)
        else:
            scope.write(f"{scope.names[result]} = {scope.scalar(value)};")
    scope.write(f"if (!{scope.scalar(test)}) break;")
    lower(after)
    spare = {
        argument: scope.allocate(_kind(argument), argument.type.size)
        for argument in before.arguments
        if argument.type.is_tensor
    }
    tensors = [(a, v) for a, v in zip(before.arguments, after.end.operands, strict=True) if a in spare]
    scope.materialize(dict.fromkeys(value for _, value in tensors))
    # What was added to in place stays, and what was made in the free tile is there already.
    tensors = [(a, v) for a, v in tensors if scope.tiles[v] != scope.tiles[a]]
    for argument, value in tensors:
        if scope.tiles[value] != spare[argument]:
            _copy(scope, spare[argument], value)
    for argument, _ in tensors:
        scope.write(
            f"memcpy({scope.tiles[argument]}, {spare[argument]}, "
            f"sizeof(*{spare[argument]}) * {argument.type.size});"
        )
    scalars = [(a, v) for a, v in zip(before.arguments, after.end.operands, strict=True) if a not in spare]
    names = [scope.fresh("next") for _ in scalars]
    for name, (argument, value) in zip(names, scalars, strict=True):
        scope.write(f"const {_kind(argument)} {name} = {scope.scalar(value)};")
    for name, (argument, _) in zip(names, scalars, strict=True):
        scope.write(f"{scope.names[argument]} = {name};")


def branch(scope: Scope, operation: Operation) -> None:
    """`cf.br` and `cf.cond_br`: what other blocks may need is computed first."""
    assert operation.block is not None
    waiting = [
        result
        for each in operation.block.operations
        for result in each.results
        if result.type.is_tensor and scope.is_waiting(each)
    ]
    scope.settle(value for value in waiting if scope.is_needed(value, set()))
    jumps = [_jump(scope, label, given) for label, given in operation.successors]
    if operation.name == "cf.cond_br":
        scope.write(f"if ({scope.scalar(operation.operands[0])}) {{", *jumps[0], "} else {", *jumps[1], "}")
    else:
        scope.write(*jumps[0])


def _jump(scope: Scope, label: str, given: list[Value]) -> list[str]:
    block, name = scope.labels[label]
    lines = []
    for argument, value in zip(block.arguments, given, strict=True):
        if value.type.is_tensor:
            source = scope.as_tile(value)
            lines.append(f"memcpy({scope.tiles[argument]}, {source}, sizeof(*{source}) * {value.type.size});")
        else:
            lines.append(f"{scope.names[argument]} = {scope.scalar(value)};")
    return [*lines, f"goto {name};"]
