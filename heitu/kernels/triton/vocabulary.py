"""What operations of TTIR are called in `triton.language`, and its dtypes in torch's names and Triton's."""

from __future__ import annotations

from collections.abc import Mapping

DTYPES = {
    "i1": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "f8E4M3FN": "float8_e4m3fn",
    "f8E5M2": "float8_e5m2", "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64",
}  # fmt: skip
SHOWN = {
    "float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64", "float8_e4m3fn": "fp8e4nv",
    "float8_e5m2": "fp8e5",
}  # fmt: skip
# What to compute in instead, in the order in which it is tried.
INSTEAD = {
    "float64": ("float32",),
    "float32": ("float16",),
    "bfloat16": ("float32", "float16"),
    "float16": ("float32",),
    "int64": ("int32",),
    "int32": ("float32", "int16"),
    "int16": ("int32",),
    "int8": ("int32", "float16"),
    "bool": ("int8", "int32"),
    "float8_e4m3fn": ("float16",),
    "float8_e5m2": ("float16",),
}
CASTS = (
    "arith.extf", "arith.truncf", "arith.extsi", "arith.extui", "arith.trunci", "arith.sitofp",
    "arith.uitofp", "arith.fptosi", "arith.fptoui", "tt.fp_to_fp",
)  # fmt: skip
# Operation of TTIR → the operators of triton.language that it may come from.
OPERATORS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(CASTS, ("cast",)),
    **dict.fromkeys(("arith.addi", "arith.addf"), ("add",)),
    **dict.fromkeys(("arith.subi", "arith.subf"), ("sub", "neg")),
    **dict.fromkeys(("arith.muli", "arith.mulf"), ("mul",)),
    "arith.negf": ("neg", "sub"),
    **dict.fromkeys(("arith.divsi", "arith.divui"), ("floordiv", "cdiv", "div")),
    "arith.divf": ("div", "fdiv"),
    **dict.fromkeys(("arith.remsi", "arith.remui", "arith.remf"), ("mod",)),
    "arith.andi": ("and", "logical_and"),
    "arith.ori": ("or", "logical_or"),
    "arith.xori": ("xor", "invert", "not"),
    "arith.shli": ("lshift",),
    **dict.fromkeys(("arith.shrsi", "arith.shrui"), ("rshift",)),
    **dict.fromkeys(("arith.cmpi", "arith.cmpf"), ("eq", "ne", "lt", "le", "gt", "ge")),
    "arith.select": ("where",),
    **dict.fromkeys(("arith.maxsi", "arith.maxui", "arith.maximumf", "arith.maxnumf"), ("maximum",)),
    **dict.fromkeys(("arith.minsi", "arith.minui", "arith.minimumf", "arith.minnumf"), ("minimum",)),
    "tt.clampf": ("clamp",),
    **{f"math.{name}": (name,) for name in (
        "exp", "exp2", "log", "log2", "sin", "cos", "sqrt", "rsqrt", "erf", "floor", "ceil", "fma")},
    **dict.fromkeys(("math.absf", "math.absi"), ("abs",)),
    "tt.precise_sqrt": ("sqrt_rn",),
    "tt.precise_divf": ("div_rn",),
    "tt.mulhiui": ("umulhi",),
    "tt.expand_dims": ("expand_dims",),
    "tt.broadcast": ("broadcast", "broadcast_to"),
    "tt.reshape": ("reshape", "view", "ravel"),
    "tt.trans": ("trans", "permute"),
    "tt.join": ("join", "interleave"),
    "tt.split": ("split",),
    "tt.cat": ("cat",),
    "tt.gather": ("gather",),
    "tt.histogram": ("histogram",),
    "tt.reduce": ("reduce",),
    "tt.scan": ("associative_scan",),
    "tt.dot": ("dot",),
    "tt.dot_scaled": ("dot_scaled",),
    "tt.load": ("load",),
    "tt.store": ("store",),
    "tt.atomic_cas": ("atomic_cas",),
    "tt.print": ("device_print",),
    "tt.elementwise_inline_asm": ("inline_asm_elementwise",),
    "tt.map_elementwise": ("map_elementwise",),
    "tt.atomic_load": ("atomic_load",),
    "tt.atomic_store": ("atomic_store",),
    "tt.atomic_poll": ("atomic_poll",),
}  # fmt: skip
ATOMICS = {
    "add": "add", "fadd": "add", "and": "and", "or": "or", "xor": "xor", "exch": "xchg", "max": "max",
    "umax": "max", "min": "min", "umin": "min",
}  # fmt: skip
ON_MEMORY = ("tt.load", "tt.store", "tt.atomic_cas", "tt.atomic_rmw", "tt.atomic_load", "tt.atomic_store")
# Structure, and numbers that are not computed; a dtype of theirs is that of those that use them.
NOT_JUDGED = (
    "arith.constant", "tt.splat", "tt.unsplat", "tt.make_range", "tt.addptr", "tt.bitcast", "arith.bitcast",
    "arith.index_cast", "tt.ptr_to_int", "tt.int_to_ptr", "tt.get_program_id", "tt.get_num_programs",
    "tt.return", "tt.assert", "tt.call", "tt.reduce.return", "tt.scan.return", "tt.map_elementwise.return",
    "ub.poison", "llvm.intr.assume",
)  # fmt: skip
