"""The forms in which operations of TTIR are printed: their operands, and the types of their results."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from heitu.kernels.triton.ir import Attribute, Operation, Type, Value

if TYPE_CHECKING:
    from heitu.kernels.triton.reader import _Reader

# Words before the operands, by operation: the name of the attribute that they are.
LEADING = {
    "arith.cmpi": ("predicate",),
    "arith.cmpf": ("predicate",),
    "tt.atomic_rmw": ("operation", "semantics", "scope"),
    "tt.atomic_cas": ("semantics", "scope"),
    "tt.atomic_load": ("semantics", "scope"),
    "tt.atomic_store": ("semantics", "scope"),
    "tt.atomic_poll": ("semantics", "scope"),
    "tt.get_program_id": ("axis",),
    "tt.get_num_programs": ("axis",),
}
# Those whose one printed type is not that of their result.
COMPARISONS = ("arith.cmpi", "arith.cmpf")
WITHOUT_RESULT = (
    "tt.store", "tt.print", "tt.assert", "tt.return", "tt.reduce.return", "tt.scan.return",
    "tt.map_elementwise.return", "scf.yield", "cf.br", "cf.cond_br", "cf.assert", "tt.atomic_store",
    "scf.condition", "gpu.barrier", "ttg.barrier", "tt.descriptor_store", "tt.descriptor_scatter",
    "tt.descriptor_reduce", "ub.unreachable", "llvm.unreachable",
)  # fmt: skip


def read_form(reader: _Reader, operation: Operation, generic: bool) -> list[Type]:
    """Reads what follows the name; fills the operation in; returns the types of its results."""
    if generic:
        return _generic(reader, operation)
    special = SPECIAL.get(operation.name)
    return special(reader, operation) if special else _ordinary(reader, operation)


def _generic(reader: _Reader, operation: Operation) -> list[Type]:
    """`(operands) <{attributes}> ({regions}) {attributes} : (types) -> types`."""
    reader.expect("(")
    while not reader.accept(")"):
        if operation.operands:
            reader.expect(",")
        operation.operands.append(reader.use(reader.kind("value")))
    if reader.accept("<"):
        operation.attributes.update(reader.attributes())
        reader.expect(">")
    if reader.accept("("):
        while not reader.accept(")"):
            if operation.regions:
                reader.expect(",")
            _add_region(reader, operation)
    if reader.sees("{"):
        operation.attributes.update(reader.attributes())
    reader.expect(":")
    reader.expect("(")
    reader.types(")")
    reader.expect("->")
    return reader.result_types()


def _add_region(reader: _Reader, operation: Operation, arguments: list[Value] | None = None) -> None:
    scope = {value.name: [value] for value in arguments or []}
    region = reader.region(scope)
    region.block.arguments = [*(arguments or []), *region.block.arguments]
    for block in region.blocks:
        block.parent = operation
    operations = region.blocks[-1].operations
    if operation.name.startswith("scf.") and (
        not operations or operations[-1].name not in ("scf.yield", "scf.condition")
    ):
        operations.append(Operation("scf.yield", block=region.blocks[-1]))  # one of nothing is not printed
    operation.regions.append(region)


def _ordinary(reader: _Reader, operation: Operation) -> list[Type]:
    """Words, operands, attributes and types in the order that most operations share."""
    leading = list(LEADING.get(operation.name, ()))
    while reader.token.kind not in ("newline", "end"):
        token = reader.token
        if token.text in (":", "loc", "}", "->"):
            break
        if token.kind == "value":
            operation.operands.append(reader.use(reader.advance()))
        elif token.text == "{":
            operation.attributes.update(reader.attributes())
        elif token.text == "<" and reader.next.text == "{":
            reader.advance()
            operation.attributes.update(reader.attributes())
            reader.expect(">")
        elif token.kind == "word" and reader.next.text == "=":
            reader.at += 2
            operation.attributes[token.text] = reader.attribute()
        elif token.kind == "word" and leading:
            operation.attributes[leading.pop(0)] = reader.advance().text
        elif token.kind == "word":
            operation.attributes[reader.advance().text] = True
        elif token.kind == "text":
            operation.attributes["text"] = reader.attribute()
        elif token.kind == "number":
            operation.attributes["number"] = reader.attribute()
        elif token.text in ",[]()":
            reader.advance()
        else:
            raise reader.error(f"{operation.name} has a form that is not known")
    if reader.accept("->"):
        return reader.result_types()
    if not reader.accept(":"):
        return []
    return _types_after_colon(reader, operation)


def _types_after_colon(reader: _Reader, operation: Operation) -> list[Type]:
    if reader.accept("("):
        reader.types(")")
        reader.expect("->")
        return reader.result_types()
    types = [reader.type()]
    while reader.accept(",") or reader.accept("*") or reader.accept("x"):
        types.append(reader.type())
    if reader.accept("->") or reader.accept("to"):
        results = reader.result_types()
        while reader.accept(","):
            results.append(reader.type())
        # Of both halves of a tensor the one type is printed once.
        return results * (2 if operation.name == "tt.split" else 1)
    return _implied(operation, types)


def _implied(operation: Operation, types: list[Type]) -> list[Type]:
    """The types of results that are not printed, because they follow from others."""
    name, first = operation.name, types[0]
    if name in WITHOUT_RESULT:
        return []
    if name in COMPARISONS:
        return [Type("i1", first.shape)]
    if name == "arith.select":
        return [types[-1]]
    if name == "tt.unsplat":
        return [first.scalar]
    if name in ("tt.load", "tt.atomic_load"):
        assert first.pointee is not None
        return [first.pointee.of_shape(first.shape)]
    if name in ("arith.mulsi_extended", "arith.mului_extended"):
        return [first, first]
    if name == "arith.addui_extended":
        return [first, types[-1] if len(types) > 1 else Type("i1", first.shape)]
    return [first]


def _constant(reader: _Reader, operation: Operation) -> list[Type]:
    if reader.sees("{"):
        operation.attributes.update(reader.attributes())
    operation.attributes["value"] = reader.attribute()
    if not reader.accept(":"):
        return [Type("i1")]
    return [reader.type()]


def _block_with_given(reader: _Reader) -> tuple[str, list[Value]]:
    label = reader.kind("label").text
    given: list[Value] = []
    if reader.accept("("):
        while not reader.accept(":"):
            if given:
                reader.expect(",")
            given.append(reader.use(reader.kind("value")))
        reader.types(")")
    return label, given


def _branch(reader: _Reader, operation: Operation) -> list[Type]:
    if reader.token.kind == "value":
        operation.operands.append(reader.use(reader.advance()))
        reader.expect(",")
    operation.successors.append(_block_with_given(reader))
    while reader.accept(","):
        operation.successors.append(_block_with_given(reader))
    if reader.sees("{"):
        operation.attributes.update(reader.attributes())
    return []


def _initial(reader: _Reader, operation: Operation) -> list[str]:
    """`(%argument = %initial, …)`: the names; the values become operands."""
    names: list[str] = []
    reader.expect("(")
    while not reader.accept(")"):
        if names:
            reader.expect(",")
        names.append(reader.kind("value").text[1:])
        reader.expect("=")
        operation.operands.append(reader.use(reader.kind("value")))
    return names


def _for(reader: _Reader, operation: Operation) -> list[Type]:
    operation.attributes["unsigned"] = reader.accept("unsigned")
    index = reader.kind("value").text[1:]
    for mark in ("=", "to", "step"):
        reader.expect(mark)
        operation.operands.append(reader.use(reader.kind("value")))
    names: list[str] = []
    types: list[Type] = []
    if reader.accept("iter_args"):
        names = _initial(reader, operation)
        reader.expect("->")
        types = reader.result_types()
    kind = Type("index")
    if reader.accept(":"):
        kind = reader.type()
    arguments = [Value(index, kind), *(Value(name, t) for name, t in zip(names, types, strict=True))]
    _add_region(reader, operation, arguments)
    if reader.sees("{"):
        operation.attributes.update(reader.attributes())
    return types


def _if(reader: _Reader, operation: Operation) -> list[Type]:
    operation.operands.append(reader.use(reader.kind("value")))
    types = reader.result_types() if reader.accept("->") else []
    _add_region(reader, operation)
    if reader.accept("else"):
        _add_region(reader, operation)
    if reader.sees("{"):
        operation.attributes.update(reader.attributes())
    return types


def _while(reader: _Reader, operation: Operation) -> list[Type]:
    names = _initial(reader, operation) if reader.sees("(") else []
    reader.expect(":")
    reader.expect("(")
    types = reader.types(")")
    reader.expect("->")
    results = reader.result_types()
    _add_region(reader, operation, [Value(name, t) for name, t in zip(names, types, strict=True)])
    reader.expect("do")
    _add_region(reader, operation)
    if reader.accept("attributes"):
        operation.attributes.update(reader.attributes())
    return results


def _call(reader: _Reader, operation: Operation) -> list[Type]:
    operation.attributes["callee"] = reader.kind("symbol").text[1:].strip('"')
    return _ordinary(reader, operation)


def _inline_assembly(reader: _Reader, operation: Operation) -> list[Type]:
    operation.attributes["text"] = reader.attribute()
    return _ordinary(reader, operation)


def _scaled_dot(reader: _Reader, operation: Operation) -> list[Type]:
    """`%a scale %sa, %b scale %sb, %c lhs = e4m3 rhs = e5m2 {…} : a, sa * b, sb -> c`."""
    roles = ["a", "b", "c"]
    present: list[Attribute] = []
    role = -1
    while not reader.sees(":"):
        token = reader.token
        if token.kind == "value":
            role += 1
            operation.operands.append(reader.use(reader.advance()))
            present.append(roles[role])
        elif reader.accept("scale"):
            operation.operands.append(reader.use(reader.kind("value")))
            present.append(f"{roles[role]}_scale")
        elif token.text == "{":
            operation.attributes.update(reader.attributes())
        elif token.kind == "word" and reader.next.text == "=":
            reader.at += 2
            operation.attributes[token.text] = reader.attribute()
        else:
            reader.advance()
    operation.attributes["roles"] = present
    reader.expect(":")
    return _types_after_colon(reader, operation)


def _plain(reader: _Reader, operation: Operation) -> list[Type]:
    """Operands and their types, no results."""
    _ordinary(reader, operation)
    return []


def _print(reader: _Reader, operation: Operation) -> list[Type]:
    """`"prefix" {…} : %a, %b : types`."""
    operation.attributes["text"] = reader.attribute()
    operation.attributes.update(reader.attributes())
    if reader.accept(":"):
        operation.operands.append(reader.use(reader.kind("value")))
        while reader.accept(","):
            operation.operands.append(reader.use(reader.kind("value")))
        reader.expect(":")
        _types_after_colon(reader, operation)
    return []


SPECIAL: dict[str, Callable[[_Reader, Operation], list[Type]]] = {
    "arith.constant": _constant,
    "cf.br": _branch,
    "cf.cond_br": _branch,
    "scf.for": _for,
    "scf.if": _if,
    "scf.while": _while,
    "tt.call": _call,
    "tt.elementwise_inline_asm": _inline_assembly,
    "tt.dot_scaled": _scaled_dot,
    "scf.condition": _plain,
    "scf.yield": _plain,
    "tt.return": _plain,
    "tt.print": _print,
    "tt.assert": _plain,
    "tt.store": _plain,
}
