"""CUDA's library of device functions: which C function stands for which of its symbols.

The functions lie in include/heitu_libdevice.h, which a kernel that calls one includes, and in the C library.
Arguments and results are those of CUDA's: unsigned integers convert to and from signed ones of their width.
"""

from __future__ import annotations

# In heitu_math.h and heitu_math_f64.h, for float and double; those with `fast_` approximate on a GPU alone.
_ELEMENTARY = (
    "exp", "exp2", "exp10", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinpi", "cospi",
    "sinh", "cosh", "tanh", "asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh", "erf", "pow", "sqrt",
    "rsqrt", "cbrt", "rcbrt", "hypot", "round",
)  # fmt: skip
_FAST = ("sin", "cos", "tan", "exp", "exp10", "log", "log2", "log10", "pow")
# In C's library, or the compiler's own, for float with an f behind the name.
_LIBRARY = (
    "erfc", "lgamma", "tgamma", "j0", "j1", "jn", "y0", "y1", "yn", "fmod", "remainder", "ilogb", "logb",
)  # fmt: skip
_COMPILER = ("fabs", "floor", "ceil", "trunc", "rint", "nearbyint", "copysign", "fma")
# In heitu_libdevice.h and what it includes, under CUDA's names.
_PAIRS = (
    "erfinv", "erfcinv", "erfcx", "normcdf", "normcdfinv", "cyl_bessel_i0", "cyl_bessel_i1", "ldexp", "fdim",
    "powi", "llround",
)  # fmt: skip
_NORMS = ("norm3d", "norm4d", "rnorm3d", "rnorm4d", "rhypot")
_INTEGERS = (
    "abs", "llabs", "clz", "clzll", "popc", "popcll", "ffs", "ffsll", "brev", "brevll", "byte_perm", "mulhi",
    "umulhi", "mul64hi", "umul64hi", "mul24", "umul24", "sad", "usad", "hadd", "uhadd", "rhadd", "urhadd",
)  # fmt: skip
_BITS = (
    "float_as_int", "int_as_float", "double_as_longlong", "longlong_as_double", "double2hiint",
    "double2loint", "hiloint2double", "signbitf", "signbitd", "isnanf", "isnand", "isinff", "isinfd",
    "isfinited",
)  # fmt: skip
_DIRECTED = (
    "fadd", "fsub", "fmul", "fdiv", "frcp", "dadd", "dsub", "dmul", "ddiv", "drcp", "int2float", "uint2float",
    "ll2float", "ull2float", "ll2double", "ull2double", "float2int", "float2uint", "float2ll", "float2ull",
    "double2int", "double2uint", "double2ll", "double2ull",
)  # fmt: skip
# To nearest these are C's or elementary.
_DIRECTED_ONLY = ("fsqrt", "dsqrt", "fmaf", "fma", "double2float")

_OWN_NAMES = (
    *_PAIRS, *(f"{name}f" for name in _PAIRS), *_NORMS, *(f"{name}f" for name in _NORMS), *_INTEGERS, *_BITS,
    *(f"{name}_{mode}" for name in _DIRECTED for mode in ("rn", "rz", "rd", "ru")),
    *(f"{name}_{mode}" for name in _DIRECTED_ONLY for mode in ("rz", "rd", "ru")),
    "int2double_rn", "uint2double_rn", "frsqrt_rn", "saturatef", "rcp64h", "nextafterf",
)  # fmt: skip

LIBDEVICE: dict[str, str] = {
    **{f"__nv_{name}f": f"ht_{name}_f32" for name in _ELEMENTARY},
    **{f"__nv_{name}": f"ht_{name}_f64" for name in _ELEMENTARY},
    **{f"__nv_fast_{name}f": f"ht_{name}_f32" for name in _FAST},
    **{f"__nv_{name}{end}": f"{name}{end}" for name in _LIBRARY for end in ("", "f")},
    **{f"__nv_{name}{end}": f"__builtin_{name}{end}" for name in _COMPILER for end in ("", "f")},
    **{f"__nv_{name}": f"ht_nv_{name}" for name in _OWN_NAMES},
    "__nv_double2float_rn": "ht_f64_to_f32",
    "__nv_dsqrt_rn": "ht_sqrt_f64",
    "__nv_fast_fdividef": "ht_nv_fdiv_rn",
    "__nv_finitef": "ht_nv_isfinitef",
    "__nv_float_as_uint": "ht_nv_float_as_int",
    "__nv_fma_rn": "__builtin_fma",
    "__nv_fmaf_rn": "__builtin_fmaf",
    "__nv_fsqrt_rn": "ht_sqrt_f32",
    "__nv_llrint": "ht_nv_double2ll_rn",
    "__nv_llrintf": "ht_nv_float2ll_rn",
    "__nv_nextafter": "nextafter",
    "__nv_scalbn": "ht_nv_ldexp",
    "__nv_scalbnf": "ht_nv_ldexpf",
    "__nv_uint_as_float": "ht_nv_int_as_float",
}
