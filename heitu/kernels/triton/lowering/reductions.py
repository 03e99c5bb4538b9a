"""Reductions and scans along an axis."""

from __future__ import annotations

from heitu.kernels.triton.ir import Operation, Region, Type
from heitu.kernels.triton.lowering.nest import INDEPENDENT, Nest
from heitu.kernels.triton.lowering.planning import Plan, best_order
from heitu.kernels.triton.lowering.representation import register_type, rounded
from heitu.kernels.triton.lowering.scope import Scope
from heitu.kernels.triton.lowering.shapes import Index
from heitu.kernels.triton.lowering.totals import Total

# Combinations that a loop may take in any order: OpenMP's name of each, and the C of what changes nothing.
ANY_ORDER = {
    "arith.addf": ("+", "-0.0f"),
    "arith.mulf": ("*", "1.0f"),
    "arith.addi": ("+", "0"),
    "arith.muli": ("*", "1"),
    "arith.andi": ("&", "-1"),
    "arith.ori": ("|", "0"),
    "arith.xori": ("^", "0"),
    "arith.maxnumf": ("maxnum", '__builtin_nanf("")'),
    "arith.minnumf": ("minnum", '__builtin_nanf("")'),
    "arith.maximumf": ("maximum", "-__builtin_inff()"),
    "arith.minimumf": ("minimum", "__builtin_inff()"),
    "arith.maxsi": ("max", "{minimum}"),
    "arith.minsi": ("min", "{maximum}"),
}


def combine(
    scope: Scope, region: Region, values: list[str], nest: Nest | None = None, level: int = 0
) -> list[str]:
    """The C of what a region makes of scalars; its operations become statements of the nest, or scope."""
    lines, made = _combined(scope, region, values)
    for line in lines:
        if nest is None:
            scope.write(line)
        else:
            nest.statement(level, line)
    return made


def _combined(scope: Scope, region: Region, values: list[str]) -> tuple[list[str], list[str]]:
    """Statements, and the C of what a region makes of scalars after them."""
    written, scope.lines = scope.lines, []
    for argument, text in zip(region.block.arguments, values, strict=True):
        scope.names[argument] = text
    scope.lower(region)
    lines, scope.lines = scope.lines, written
    return lines, [scope.scalar(value) for value in region.blocks[-1].end.operands]


def _only_operation(region: Region) -> Operation | None:
    """The operation that a region consists of, if it is one on its two arguments."""
    operations = region.block.operations
    if len(operations) != 2 or len(region.block.arguments) != 2:
        return None
    only, end = operations
    same = set(only.operands) == set(region.block.arguments)
    return only if same and end.operands == only.results else None


def _only_compares(region: Region) -> bool:
    """Whether a combination of several values chooses by which of two floats is higher, or lower.

    So do `tl.argmax` and `tl.argmin`, which are to skip NaN. The comparison is false with a NaN on either
    side, so that which of the two is taken would hang on the order.
    """
    arguments = region.block.arguments
    compared = [each for each in region.block.operations if each.name == "arith.cmpf"]
    pair = {arguments[0], arguments[len(arguments) // 2]}
    predicates = {each.text("predicate") for each in compared} - {"oeq"}
    return (
        len(arguments) > 2
        and predicates in ({"ogt"}, {"olt"})
        and all(set(each.operands) == pair for each in compared)
    )


def reduce(scope: Scope, operation: Operation) -> None:
    """`tt.reduce`: results are tiles, or scalars where one axis was all."""
    axis = operation.integer("axis")
    operands = operation.operands
    shape = operands[0].type.shape
    plan = Plan(scope, [(value, None) for value in operands], {operation})
    only = _only_operation(operation.regions[0])
    kind = operands[0].type.scalar
    order = [each for each in best_order(scope, shape, operands) if shape[each] > 1]
    if only is not None and only.name in ANY_ORDER and kind.element != "i1":
        if order and order[-1] == axis:
            _reduce_rows(scope, operation, plan, only, axis)
        else:
            _reduce_columns(scope, operation, plan, axis, order, _identity(only, kind))
    else:
        _reduce_columns(scope, operation, plan, axis, order, None)


def _identity(only: Operation, kind: Type) -> str:
    text = ANY_ORDER[only.name][1]
    if kind.is_integer:
        lowest = f"INT{max(kind.bits, 8)}_MIN"
        return text.format(minimum=lowest, maximum=f"INT{max(kind.bits, 8)}_MAX")
    return text


def _place(scope: Scope, names: list[str], index: Index, axis: int, operation: Operation) -> list[str]:
    if not operation.result.type.is_tensor:
        return names
    place = scope.layouts.place(index[:axis] + index[axis + 1 :], operation.result.type.shape)
    return [f"{name}[{place.text}]" for name in names]


def _reduce_rows(scope: Scope, operation: Operation, plan: Plan, only: Operation, axis: int) -> None:
    """Along the innermost axis: lanes of a vector take turns, and are combined at the end."""
    value = operation.operands[0]
    shape, kind = value.type.shape, value.type.scalar
    name, _ = ANY_ORDER[only.name]
    region = operation.regions[0]

    def added(total: str, element: str) -> tuple[list[str], str]:
        # Between elements of less than 32 bits a sum keeps 32, and is rounded once, as it is on chips.
        if kind.is_float and only.name in ("arith.addf", "arith.mulf"):
            return [], f"{total} {name} {element}"
        lines, (made,) = _combined(scope, region, [total, element])
        return lines, made

    total = Total(scope.fresh("total"), register_type(kind), name, _identity(only, kind), added)
    order = [each for each in range(len(shape)) if each != axis] + [axis]
    nest = Nest(scope, shape, order, total=total)
    nest.spills = plan.spill()
    targets = [scope.place_for(result) for result in operation.results]
    nest.statement(nest.outside, f"{total.kind} {total.name} = {total.identity};")

    def root(nest: Nest) -> None:
        element, _ = nest.value(value, nest.index)
        lines, made = added(total.name, element)
        for line in (*lines, f"{total.name} = {made};"):
            nest.statement(nest.depth, line)

    (target,) = _place(scope, targets, nest.index, axis, operation)
    nest.after[nest.outside].append(f"{target} = {rounded(kind, total.name)};")
    nest.emit(root)
    scope.tiles.update(nest.spills)


def _reduce_columns(
    scope: Scope, operation: Operation, plan: Plan, axis: int, order: list[int], identity: str | None
) -> None:
    """Along another axis, or with a combination that has an order: element after element."""
    operands = operation.operands
    shape = operands[0].type.shape
    order = [each for each in order if each != axis]
    outer, inner = (order[:-1], order[-1:]) if identity is not None else (order, [])
    nest = Nest(scope, shape, [*outer, axis, *inner], INDEPENDENT if inner else "")
    nest.spills = plan.spill()
    targets = [scope.place_for(result) for result in operation.results]
    places = _place(scope, targets, nest.index, axis, operation)
    counter = nest.index[axis].text
    region = operation.regions[0]
    skips_nan = _only_compares(region)

    def root(nest: Nest) -> None:
        elements = [nest.value(value, nest.index)[0] for value in operands]
        if identity is not None:
            total = f"({counter} == 0 ? {identity} : {places[0]})"
            made = combine(scope, region, [total, elements[0]], nest, nest.depth)
            nest.statement(nest.depth, f"{places[0]} = {made[0]};")
            return
        for place, element in zip(places, elements, strict=True):
            nest.statement(nest.depth, f"if ({counter} == 0) {place} = {element};")
        if shape[axis] > 1:
            number = f" && {elements[0]} == {elements[0]}" if skips_nan else ""
            nest.statement(nest.depth, f"if ({counter} != 0{number}) {{")
            made = combine(scope, region, [*places, *elements], nest, nest.depth)
            for place, text in zip(places, made, strict=True):
                nest.statement(nest.depth, f"{place} = {text};")
            nest.statement(nest.depth, "}")

    nest.emit(root)
    scope.tiles.update(nest.spills)


def scan(scope: Scope, operation: Operation) -> None:
    """`tt.scan`: each element combined with those before it, or behind it."""
    axis = operation.integer("axis")
    backward = bool(operation.attributes.get("reverse"))
    operands = operation.operands
    shape = operands[0].type.shape
    sources = [scope.as_tile(value) for value in operands]
    targets = [scope.new_tile(result) for result in operation.results]
    inner = 1
    for extent in shape[axis + 1 :]:
        inner *= extent
    outer = operands[0].type.size // (inner * shape[axis])
    first, step = (f"{(shape[axis] - 1) * inner}", -inner) if backward else ("0", inner)
    scope.write(
        f"for (int64_t o = 0; o < {outer}; ++o) for (int64_t i = 0; i < {inner}; ++i) {{",
        f"int64_t at = o * {inner * shape[axis]} + i + {first};",
        *(f"{target}[at] = {source}[at];" for target, source in zip(targets, sources, strict=True)),
        f"for (int64_t k = 1; k < {shape[axis]}; ++k) {{",
        f"const int64_t before = at; at += {step};",
    )
    only = _only_operation(operation.regions[0])
    kind = operands[0].type.scalar
    if only is not None and only.name in ("arith.addf", "arith.mulf") and rounded(kind, "x") != "x":
        # As in a reduction: what is carried on keeps 32 bits.
        name, _ = ANY_ORDER[only.name]
        scope.lines[-2:-2] = [f"float total = {sources[0]}[at];"]
        scope.write(
            f"total = total {name} {sources[0]}[at];",
            f"{targets[0]}[at] = {rounded(kind, 'total')};",
            "}",
            "}",
        )
        return
    given = [f"{target}[before]" for target in targets] + [f"{source}[at]" for source in sources]
    made = combine(scope, operation.regions[0], given)
    scope.write(*(f"{target}[at] = {text};" for target, text in zip(targets, made, strict=True)), "}", "}")
