"""Operations that make one scalar of scalars: the C of each. Tensors do the same for each element."""

from __future__ import annotations

from collections.abc import Callable

from heitu.kernels.triton.ir import Operation, Type
from heitu.kernels.triton.lowering.representation import (
    NARROW_FLOATS,
    UnsupportedError,
    from_bits,
    register_type,
    rounded,
    to_bits,
    unsigned_type,
)

INFIX = {"addi": "+", "subi": "-", "muli": "*", "andi": "&", "ori": "|", "xori": "^"}
FLOAT_INFIX = {"addf": "+", "subf": "-", "mulf": "*", "divf": "/"}
SIGNED = {"eq": "==", "ne": "!=", "slt": "<", "sle": "<=", "sgt": ">", "sge": ">="}
UNSIGNED = {"ult": "<", "ule": "<=", "ugt": ">", "uge": ">="}
ORDERED = {
    "oeq": "({0} == {1})",
    "ogt": "({0} > {1})",
    "oge": "({0} >= {1})",
    "olt": "({0} < {1})",
    "ole": "({0} <= {1})",
    "one": "({0} < {1} || {0} > {1})",
    "ord": "({0} == {0} && {1} == {1})",
    "ueq": "!({0} < {1} || {0} > {1})",
    "ugt": "!({0} <= {1})",
    "uge": "!({0} < {1})",
    "ult": "!({0} >= {1})",
    "ule": "!({0} > {1})",
    "une": "({0} != {1})",
    "uno": "({0} != {0} || {1} != {1})",
    "false": "0",
    "true": "1",
}
MATH = (
    "exp", "exp2", "log", "log2", "sin", "cos", "tan", "tanh", "erf", "rsqrt", "expm1", "log1p",
    "log10", "pow", "powf", "sinh", "cosh", "asin", "acos", "atan", "atan2", "cbrt",
)  # fmt: skip
# Those that the C library or the compiler has under a name of its own: for float, with an f behind it.
BUILTIN = {
    "sqrt": "sqrt",
    "floor": "floor",
    "ceil": "ceil",
    "absf": "fabs",
    "trunc": "trunc",
    "round": "round",
    "roundeven": "roundeven",
    "copysign": "copysign",
    "fma": "fma",
}
# Triton's IR has no type for fp8e4b15, whose values it keeps as bytes: its conversions are functions.
OF_FP8E4B15 = {
    "fp8e4b15_to_fp32": "ht_e4m3b11fnuz_to_f32",
    "fp32_to_fp8e4b15": "(int8_t)ht_f32_to_e4m3b11fnuz",
}
# Arguments of one operation, as C, and what it is.
Rule = Callable[[Operation, list[str]], str]


def is_elementwise(operation: Operation) -> bool:
    """Whether its result depends, element by element, on the elements of its operands."""
    return operation.name in RULES


def expression(operation: Operation, operands: list[str]) -> str:
    """The C of one element. Raises UnsupportedError for what there is no rule for."""
    rule = RULES.get(operation.name)
    if rule is None:
        raise UnsupportedError(operation.name)
    return rule(operation, operands)


def _result(operation: Operation) -> Type:
    return operation.result.type.scalar


def _operand(operation: Operation, index: int = 0) -> Type:
    return operation.operands[index].type.scalar


def _infix(sign: str) -> Rule:
    def rule(operation: Operation, x: list[str]) -> str:
        text = f"({x[0]} {sign} {x[1]})"
        kind = _result(operation)
        if kind.element == "i1" and sign in "+-*":
            return f"(({text}) & 1)"
        return f"({register_type(kind)}){text}"

    return rule


def _float_infix(sign: str) -> Rule:
    return lambda operation, x: rounded(_result(operation), f"({x[0]} {sign} {x[1]})")


def _unsigned(template: str) -> Rule:
    def rule(operation: Operation, x: list[str]) -> str:
        kind = _result(operation)
        cast = unsigned_type(kind)
        return f"({register_type(kind)})" + template.format(
            *(f"({cast}){each}" for each in x), bits=kind.bits, type=cast
        )

    return rule


def _template(template: str) -> Rule:
    return lambda operation, x: template.format(*x, bits=_result(operation).bits)


def _compare_integers(operation: Operation, x: list[str]) -> str:
    predicate = operation.text("predicate")
    if predicate in SIGNED:
        if _operand(operation).element == "i1" and predicate[0] == "s":  # the signed one of true is -1
            return f"({x[1]} {SIGNED[predicate]} {x[0]})"
        return f"({x[0]} {SIGNED[predicate]} {x[1]})"
    cast = unsigned_type(_operand(operation))
    return f"(({cast}){x[0]} {UNSIGNED[predicate]} ({cast}){x[1]})"


def _math(name: str) -> Rule:
    def rule(operation: Operation, x: list[str]) -> str:
        kind = _result(operation)
        suffix = "f64" if kind.element == "f64" else "f32"
        return rounded(kind, f"ht_{name}_{suffix}({', '.join(x)})")

    return rule


def _builtin(name: str) -> Rule:
    def rule(operation: Operation, x: list[str]) -> str:
        kind = _result(operation)
        suffix = "" if kind.element == "f64" else "f"
        return rounded(kind, f"__builtin_{name}{suffix}({', '.join(x)})")

    return rule


def _extend(operation: Operation, x: list[str]) -> str:
    if operation.name == "arith.extsi" and _operand(operation).element == "i1":
        return f"({register_type(_result(operation))})(-(int){x[0]})"
    if operation.name == "arith.extui":
        return f"({register_type(_result(operation))})({unsigned_type(_operand(operation))}){x[0]}"
    return f"({register_type(_result(operation))}){x[0]}"


def _truncate(operation: Operation, x: list[str]) -> str:
    if _result(operation).element == "i1":
        return f"({x[0]} & 1)"
    return f"({register_type(_result(operation))}){x[0]}"


def _to_float(operation: Operation, x: list[str]) -> str:
    kind, source = _result(operation), _operand(operation)
    value = x[0]
    if operation.name == "arith.uitofp":
        value = f"({unsigned_type(source)}){value}"
    elif source.element == "i1":
        value = f"(-(int){value})"
    # By way of double no float is rounded twice but those of long integers.
    wide = "double" if kind.element == "f64" else "float"
    return rounded(kind, f"({wide}){value}")


def _to_integer(operation: Operation, x: list[str]) -> str:
    kind, source = _result(operation), _operand(operation)
    sign = "u" if operation.name == "arith.fptoui" else "i"
    if kind.element == "i1":
        return f"({x[0]} != 0)"
    wide = "f64" if source.element == "f64" else "f32"
    # What does not fit saturates at 32 and 64 bits, as the chips do it; narrower ones are cut from these.
    bits = 64 if kind.bits == 64 else 32
    if sign == "u" and kind.bits < 32:
        sign = "i"
    return f"({register_type(kind)})ht_{wide}_to_{sign}{bits}({x[0]})"


def _convert(operation: Operation, x: list[str]) -> str:
    kind, source = _result(operation), _operand(operation)
    value = x[0]
    toward_zero = operation.text("rounding") == "rtz"
    name = NARROW_FLOATS.get(kind.element)
    if name is None:
        return f"({register_type(kind)}){value}"
    way = "_rtz" if toward_zero and name != "e4m3b11fnuz" else ""
    if source.element == "f64":
        return f"ht_{name}_to_f32(ht_f64_to_{name}{way}({value}))"
    return f"ht_{name}_to_f32(ht_f32_to_{name}{way}({value}))"


def _bitcast(operation: Operation, x: list[str]) -> str:
    return from_bits(_result(operation), to_bits(_operand(operation), x[0]))


def _select(operation: Operation, x: list[str]) -> str:
    return f"({x[0]} ? {x[1]} : {x[2]})"


def _add_pointer(operation: Operation, x: list[str]) -> str:
    from heitu.kernels.triton.lowering.representation import memory_bytes

    pointee = _result(operation).pointee
    assert pointee is not None
    return f"({x[0]} + (int64_t){x[1]} * {memory_bytes(pointee)})"


def _clamp(operation: Operation, x: list[str]) -> str:
    propagate = "all" in operation.text("propagateNan")
    kind = "f64" if _result(operation).element == "f64" else "f32"
    return f"ht_clamp{'_nan' if propagate else ''}_{kind}({', '.join(x)})"


def _extern(operation: Operation, x: list[str]) -> str:
    from heitu.kernels.triton.libdevice import LIBDEVICE

    symbol = operation.text("symbol")
    name = LIBDEVICE.get(symbol) or OF_FP8E4B15.get(symbol)
    if name is None:
        raise UnsupportedError(f"the library function {symbol}")
    return rounded(_result(operation), f"{name}({', '.join(x)})")


def _minimum_or_maximum(name: str) -> Rule:
    def rule(operation: Operation, x: list[str]) -> str:
        return f"ht_{name}_{'f64' if _result(operation).element == 'f64' else 'f32'}({x[0]}, {x[1]})"

    return rule


RULES: dict[str, Rule] = {
    **{f"arith.{name}": _infix(sign) for name, sign in INFIX.items()},
    **{f"arith.{name}": _float_infix(sign) for name, sign in FLOAT_INFIX.items()},
    **{f"math.{name}": _math("pow" if name == "powf" else name) for name in MATH},
    **{f"math.{name}": _builtin(builtin) for name, builtin in BUILTIN.items()},
    **{f"arith.{name}": _minimum_or_maximum(name) for name in ("maxnumf", "minnumf", "maximumf", "minimumf")},
    "arith.negf": lambda operation, x: f"(-{x[0]})",
    "arith.remf": _builtin("fmod"),
    "arith.divsi": _template("ht_divsi_{bits}({0}, {1})"),
    "arith.remsi": _template("ht_remsi_{bits}({0}, {1})"),
    "arith.divui": _unsigned("ht_divui_{bits}({0}, {1})"),
    "arith.remui": _unsigned("ht_remui_{bits}({0}, {1})"),
    "arith.floordivsi": _template("ht_floordivsi_{bits}({0}, {1})"),
    "arith.ceildivsi": _template("ht_ceildivsi_{bits}({0}, {1})"),
    "arith.shli": _unsigned("ht_shl_{bits}({0}, {1})"),
    "arith.shrui": _unsigned("ht_shru_{bits}({0}, {1})"),
    "arith.shrsi": _template("ht_shrs_{bits}({0}, {1})"),
    "arith.maxsi": _template("({0} > {1} ? {0} : {1})"),
    "arith.minsi": _template("({0} < {1} ? {0} : {1})"),
    "arith.maxui": _unsigned("ht_maxu_{bits}({0}, {1})"),
    "arith.minui": _unsigned("ht_minu_{bits}({0}, {1})"),
    "tt.mulhiui": _unsigned("ht_mulhiu_{bits}({0}, {1})"),
    "math.absi": _template("({0} < 0 ? -{0} : {0})"),
    "math.ctpop": _unsigned("ht_popcount_{bits}({0})"),
    "math.ctlz": _unsigned("ht_leading_zeros_{bits}({0})"),
    "math.cttz": _unsigned("ht_trailing_zeros_{bits}({0})"),
    "arith.cmpi": _compare_integers,
    "arith.cmpf": lambda operation, x: ORDERED[operation.text("predicate")].format(*x),
    "arith.select": _select,
    "arith.extsi": _extend,
    "arith.extui": _extend,
    "arith.index_cast": _extend,
    "arith.trunci": _truncate,
    "arith.sitofp": _to_float,
    "arith.uitofp": _to_float,
    "arith.fptosi": _to_integer,
    "arith.fptoui": _to_integer,
    "arith.extf": _convert,
    "arith.truncf": _convert,
    "tt.fp_to_fp": _convert,
    "arith.bitcast": _bitcast,
    "tt.bitcast": _bitcast,
    "tt.int_to_ptr": _template("(int64_t){0}"),
    "tt.ptr_to_int": _template("(int64_t){0}"),
    "tt.addptr": _add_pointer,
    "tt.clampf": _clamp,
    "tt.precise_sqrt": _builtin("sqrt"),
    "tt.precise_divf": _float_infix("/"),
    "tt.extern_elementwise": _extern,
}
