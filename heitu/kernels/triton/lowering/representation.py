"""How scalars of TTIR are kept in C: in registers and tiles, and in the memory of the program.

Floats of 16 and 8 bits are kept as `float`, rounded to their own precision after each operation; in the
program's memory they have their own bits.
"""

from __future__ import annotations

import math
import struct

from heitu.kernels.triton.ir import Attribute, Type

# MLIR's names of floats, and those of the functions in heitu_formats.h.
NARROW_FLOATS = {
    "f16": "f16",
    "bf16": "bf16",
    "f8E4M3FN": "e4m3fn",
    "f8E5M2": "e5m2",
    "f8E4M3B11FNUZ": "e4m3b11fnuz",
    "f8E4M3FNUZ": "e4m3fnuz",
    "f8E5M2FNUZ": "e5m2fnuz",
}
# Halves are whole numbers in memory: compilers vectorise no loop with a _Float16 of theirs.
MEMORY = {
    "f16": "uint16_t",
    "bf16": "uint16_t",
    "f32": "float",
    "f64": "double",
    "ptr": "int64_t",
    "index": "int64_t",
}


class UnsupportedError(Exception):
    """An operation that this backend does not have.

    Args:
        what: its name, and why.
    """


def register_type(kind: Type) -> str:
    """The C type of a scalar in a variable, and in a tile."""
    if kind.element == "f64":
        return "double"
    if kind.is_float:
        return "float"
    if kind.element == "i1":
        return "bool"
    if kind.is_pointer or kind.element == "index":
        return "int64_t"
    return f"int{_width(kind)}_t"


def unsigned_type(kind: Type) -> str:
    """The unsigned C type of an integer's width."""
    return "bool" if kind.element == "i1" else f"uint{_width(kind)}_t"


def memory_type(kind: Type) -> str:
    """The C type of a scalar in the program's memory."""
    if kind.element in MEMORY:
        return MEMORY[kind.element]
    if kind.is_float:
        return "uint8_t"
    return "int8_t" if kind.element == "i1" else f"int{_width(kind)}_t"


def memory_bytes(kind: Type) -> int:
    """The size of a scalar in the program's memory."""
    return max(kind.bits, 8) // 8


def from_memory(kind: Type, value: str) -> str:
    """What was read, as it is kept."""
    if kind.element == "i1":
        return f"({value} & 1)"
    name = NARROW_FLOATS.get(kind.element)
    if name is None:
        return f"({register_type(kind)}){value}"
    return f"ht_{name}_to_f32({value})"


def to_memory(kind: Type, value: str) -> str:
    """What is written, of a value that has the precision of its type."""
    name = NARROW_FLOATS.get(kind.element)
    if name is None:
        return f"({memory_type(kind)}){value}"
    return f"ht_f32_to_{name}({value})"


def rounded(kind: Type, value: str) -> str:
    """A float to the precision of its type."""
    name = NARROW_FLOATS.get(kind.element)
    if name is None:
        return value
    if name in ("f16", "bf16"):
        return f"ht_round_to_{name}({value})"
    return f"ht_{name}_to_f32(ht_f32_to_{name}({value}))"


def to_bits(kind: Type, value: str) -> str:
    """The bits of a value, as an integer of its width."""
    if kind.is_integer or kind.is_pointer or kind.element == "index":
        return value
    if kind.element in ("f32", "f64"):
        return f"ht_{kind.element}_bits({value})"
    return f"ht_f32_to_{NARROW_FLOATS[kind.element]}({value})"


def from_bits(kind: Type, value: str) -> str:
    """The value with these bits."""
    if kind.element == "i1":
        return f"(({value}) & 1)"
    if kind.is_integer or kind.is_pointer or kind.element == "index":
        return f"({register_type(kind)})({value})"
    if kind.element in ("f32", "f64"):
        return f"ht_{kind.element}_of_bits({value})"
    return f"ht_{NARROW_FLOATS[kind.element]}_to_f32({value})"


def literal(kind: Type, value: Attribute) -> str:
    """A constant's text in C."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if kind.is_float:
        number = _float_of_bits(kind, value) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
        return _float_literal(number, "" if kind.element == "f64" else "f")
    number = int(str(value), 0)
    if kind.element == "i1":
        return "1" if number else "0"
    if kind.bits == 64:
        return f"((int64_t){number & (1 << 64) - 1}u)" if number != -(1 << 63) else "INT64_MIN"
    return f"((int{kind.bits}_t){number})"


def _float_literal(number: float, suffix: str) -> str:
    if math.isnan(number):
        return f'__builtin_nan{suffix}("")'
    if math.isinf(number):
        return f"({'-' if number < 0 else ''}__builtin_inf{suffix}())"
    return f"({number.hex()}{suffix})"


def _float_of_bits(kind: Type, text: str) -> float:
    """Such as 0xFF800000, which MLIR prints for what has no decimal form."""
    bits = int(text, 16)
    if kind.element == "bf16":
        return float(struct.unpack("<f", struct.pack("<I", bits << 16))[0])
    forms = {"f16": ("<e", "<H"), "f32": ("<f", "<I"), "f64": ("<d", "<Q")}
    if kind.element in forms:
        read, written = forms[kind.element]
        return float(struct.unpack(read, struct.pack(written, bits))[0])
    if kind.element == "f8E5M2":
        return float(struct.unpack("<e", struct.pack("<H", bits << 8))[0])
    if kind.element in NARROW_FLOATS:  # the others have no infinities, and all else has a decimal form
        return math.nan
    raise UnsupportedError(f"a constant of {kind} with the bits {text}")


def _width(kind: Type) -> int:
    for width in (8, 16, 32, 64):
        if kind.bits <= width:
            if kind.bits == width:
                return width
            break
    raise UnsupportedError(f"integers of {kind.bits} bits")
