"""What CUDA's libdevice offers: rounding against exact fractions, integers against Python's."""

from __future__ import annotations

import importlib.util
import math
import random
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from heitu.kernels.triton.libdevice import LIBDEVICE

Array = Any
MODES = ("rz", "rd", "ru")
# Exact results of two or three fractions.
ARITHMETIC: dict[str, Callable[..., Fraction]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "rcp": lambda a: 1 / a,
    "fma": lambda a, b, c: a * b + c,
}
ARITY = {"rcp": 1, "fma": 3}
FLOATS = {"f32": ("f", np.float32), "f64": ("d", np.float64)}
SPECIAL: dict[str, Callable[[Array], Array]] = {
    "erfinv": special.erfinv,
    "erfcinv": special.erfcinv,
    "erfcx": special.erfcx,
    "normcdf": special.ndtr,
    "normcdfinv": special.ndtri,
    "cyl_bessel_i0": special.i0,
    "cyl_bessel_i1": special.i1,
}


def _symbol(operation: str, kind: str, mode: str) -> str:
    if operation == "fma":
        return f"__nv_fma{'f' if kind == 'f32' else ''}_{mode}"
    return f"__nv_{FLOATS[kind][0]}{operation}_{mode}"


def _signatures() -> dict[str, tuple[str, ...]]:
    signatures: dict[str, tuple[str, ...]] = {}
    for mode in MODES:
        for kind in FLOATS:
            for operation in ARITHMETIC:
                signatures[_symbol(operation, kind, mode)] = (kind,) * (ARITY.get(operation, 2) + 1)
            signatures[f"__nv_{FLOATS[kind][0]}sqrt_{mode}"] = (kind, kind)
        signatures[f"__nv_double2float_{mode}"] = ("f64", "f32")
        for integer, name in (("i32", "int"), ("u32", "uint"), ("i64", "ll"), ("u64", "ull")):
            signatures[f"__nv_{name}2float_{mode}"] = (integer, "f32")
            for kind, wide in (("f32", "float"), ("f64", "double")):
                signatures[f"__nv_{wide}2{name}_{mode}"] = (kind, integer)
            if integer.endswith("64"):
                signatures[f"__nv_{name}2double_{mode}"] = (integer, "f64")
    for name in SPECIAL:
        signatures[f"__nv_{name}"] = ("f64", "f64")
        signatures[f"__nv_{name}f"] = ("f32", "f32")
    for name, kinds in INTEGERS.items():
        signatures[f"__nv_{name}"] = kinds[0]
    for name, kinds in OTHERS.items():
        signatures[f"__nv_{name}"] = kinds[0]
    return signatures


def _wrap(value: int, bits: int, signed: bool) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def _bytes(a: int, b: int, selector: int) -> int:
    source = (a & 0xFFFFFFFF).to_bytes(4, "little") + (b & 0xFFFFFFFF).to_bytes(4, "little")
    chosen = bytes(source[selector >> shift & 7] for shift in (0, 4, 8, 12))
    return int.from_bytes(chosen, "little", signed=True)


def _reversed(bits: int) -> Callable[[int], int]:
    return lambda x: _wrap(int(format(x & ((1 << bits) - 1), f"0{bits}b")[::-1], 2), bits, True)


def _ones(bits: int) -> Callable[[int], int]:
    return lambda x: (x & ((1 << bits) - 1)).bit_count()


def _leading(bits: int) -> Callable[[int], int]:
    return lambda x: bits - (x & ((1 << bits) - 1)).bit_length()


INTEGERS: dict[str, tuple[tuple[str, ...], Callable[..., int]]] = {
    "abs": (("i32", "i32"), lambda x: _wrap(abs(x), 32, True)),
    "llabs": (("i64", "i64"), lambda x: _wrap(abs(x), 64, True)),
    "clz": (("i32", "i32"), _leading(32)),
    "clzll": (("i64", "i32"), _leading(64)),
    "popc": (("i32", "i32"), _ones(32)),
    "popcll": (("i64", "i32"), _ones(64)),
    "ffs": (("i32", "i32"), lambda x: (x & -x).bit_length()),
    "ffsll": (("i64", "i32"), lambda x: (x & -x).bit_length()),
    "brev": (("i32", "i32"), _reversed(32)),
    "brevll": (("i64", "i64"), _reversed(64)),
    "byte_perm": (("i32", "i32", "i32", "i32"), _bytes),
    "mulhi": (("i32", "i32", "i32"), lambda a, b: a * b >> 32),
    "umulhi": (("u32", "u32", "u32"), lambda a, b: a * b >> 32),
    "mul64hi": (("i64", "i64", "i64"), lambda a, b: a * b >> 64),
    "umul64hi": (("u64", "u64", "u64"), lambda a, b: a * b >> 64),
    "mul24": (("i32", "i32", "i32"), lambda a, b: _wrap(_wrap(a, 24, True) * _wrap(b, 24, True), 32, True)),
    "umul24": (("u32", "u32", "u32"), lambda a, b: _wrap((a & 0xFFFFFF) * (b & 0xFFFFFF), 32, False)),
    "sad": (("i32", "i32", "u32", "i32"), lambda a, b, c: _wrap(abs(a - b) + c, 32, True)),
    "usad": (("u32", "u32", "u32", "u32"), lambda a, b, c: _wrap(abs(a - b) + c, 32, False)),
    "hadd": (("i32", "i32", "i32"), lambda a, b: (a + b) >> 1),
    "uhadd": (("u32", "u32", "u32"), lambda a, b: (a + b) >> 1),
    "rhadd": (("i32", "i32", "i32"), lambda a, b: (a + b + 1) >> 1),
    "urhadd": (("u32", "u32", "u32"), lambda a, b: (a + b + 1) >> 1),
}


def _away(x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.copysign(np.floor(np.abs(x)) + (np.abs(x) - np.floor(np.abs(x)) >= 0.5), x)


def _norm(*x: Array) -> Array:
    return np.sqrt(sum(each.astype(np.longdouble) ** 2 for each in x))


_F1, _D1 = ("f32", "f32"), ("f64", "f64")
OTHERS: dict[str, tuple[tuple[str, ...], Callable[..., Array]]] = {
    "roundf": (_F1, _away),
    "round": (_D1, _away),
    "rintf": (_F1, np.rint),
    "nearbyint": (_D1, np.rint),
    "saturatef": (_F1, lambda x: np.where(x > 0, np.minimum(x, 1), 0)),
    "nextafterf": (("f32", "f32", "f32"), np.nextafter),
    "fdimf": (("f32", "f32", "f32"), lambda x, y: np.where(x <= y, x.dtype.type(0), x - y)),
    "ldexpf": (("f32", "i32", "f32"), lambda x, n: np.ldexp(x.astype(np.float64), np.clip(n, -600, 600))),
    "scalbn": (("f64", "i32", "f64"), lambda x, n: np.ldexp(x, n)),
    "frsqrt_rn": (_F1, lambda x: 1 / np.sqrt(x.astype(np.float64))),
    "norm3df": (("f32",) * 4, _norm),
    "norm4df": (("f32",) * 5, _norm),
    "rnorm3df": (("f32",) * 4, lambda *x: 1 / _norm(*x)),
    "signbitf": (("f32", "i32"), np.signbit),
    "isnand": (("f64", "i32"), np.isnan),
    "isinff": (("f32", "i32"), np.isinf),
    "finitef": (("f32", "i32"), np.isfinite),
    "float_as_int": (("f32", "i32"), lambda x: x.view(np.int32)),
    "double2hiint": (("f64", "i32"), lambda x: (x.view(np.int64) >> 32).astype(np.int32)),
    "double2loint": (("f64", "i32"), lambda x: x.view(np.int64).astype(np.int32)),
    "fast_fdividef": (("f32", "f32", "f32"), np.divide),
    "fmodf": (("f32", "f32", "f32"), np.fmod),
}  # fmt: skip


@pytest.fixture(scope="module")
def call(compile_loops: Any) -> Callable[..., Array]:
    """`call(symbol, *arrays)`: the C function that the table has for a symbol."""
    signatures = _signatures()
    # Two symbols may share a function, and their loops a name, only with one signature.
    loops = compile_loops("heitu_libdevice.h", {LIBDEVICE[s]: kinds for s, kinds in signatures.items()})
    assert all(loops.signatures[LIBDEVICE[s]] == kinds for s, kinds in signatures.items())
    return lambda symbol, *arguments: loops(LIBDEVICE[symbol], *arguments)


def floats(kind: str, count: int, seed: int) -> Array:
    """Finite, not zero: of everyday size, and of any exponent, the denormal ones too."""
    dtype = FLOATS[kind][1]
    rng = np.random.default_rng(seed)
    width = 8 * np.dtype(dtype).itemsize
    any_bits = rng.integers(0, 1 << 64, count, dtype=np.uint64) >> np.uint64(64 - width)
    parts = [any_bits.astype(f"uint{width}").view(dtype), rng.normal(0, 3, count).astype(dtype)]
    small = rng.integers(1, 99, count).astype(f"uint{width}").view(dtype)
    limits = np.finfo(dtype)
    values = np.concatenate([*parts, small[: count // 4], [limits.max, -limits.max, limits.tiny]]).astype(
        dtype
    )
    return rng.permutation(values[np.isfinite(values) & (values != 0)])


def directed(exact: Fraction, mode: str, dtype: Any) -> Any:
    """The neighbour of `exact` among the dtype's numbers, infinities included, that the mode asks for."""
    limit, infinity = np.finfo(dtype).max, dtype(np.inf)
    if abs(exact) > Fraction(float(limit)):
        below, above = (limit, infinity) if exact > 0 else (-infinity, -limit)
    else:
        below = dtype(exact)
        below = np.clip(below, -limit, limit)
        while Fraction(float(below)) > exact:
            below = np.nextafter(below, -infinity)
        above = below if Fraction(float(below)) == exact else np.nextafter(below, infinity)
    return below if mode == "rd" or (mode == "rz" and exact > 0) else above


def assert_rounded(got: Array, exact: list[Fraction], mode: str) -> None:
    dtype = got.dtype.type
    with np.errstate(over="ignore"):
        want = np.array([directed(each, mode, dtype) for each in exact])
    signs = np.array([each < 0 for each in exact])
    wrong = np.flatnonzero((got != want) | ((np.signbit(got) != signs) & (np.array(exact) != 0)))
    assert not len(wrong), (len(wrong), wrong[0], got[wrong[0]], want[wrong[0]])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("operation", ARITHMETIC)
def test_directed_arithmetic(call: Any, operation: str, kind: str, mode: str) -> None:
    count = ARITY.get(operation, 2)
    arguments = [floats(kind, 200, seed) for seed in range(count)]
    length = min(map(len, arguments))
    arguments = [each[:length] for each in arguments]
    got = call(_symbol(operation, kind, mode), *arguments)
    fractions = [[Fraction(float(v)) for v in each] for each in arguments]
    assert_rounded(got, [ARITHMETIC[operation](*each) for each in zip(*fractions, strict=True)], mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", FLOATS)
def test_directed_square_root(call: Any, kind: str, mode: str) -> None:
    letter, dtype = FLOATS[kind]
    x = np.abs(floats(kind, 200, 3))
    root = call(f"__nv_{letter}sqrt_{mode}", x)
    for r, value in zip(root, x, strict=True):
        exact = Fraction(float(value))
        low, high = (r, r) if Fraction(float(r)) ** 2 == exact else (r, np.nextafter(r, dtype(np.inf)))
        if mode == "ru" and low != high:
            low, high = np.nextafter(r, dtype(0)), r
        assert Fraction(float(low)) ** 2 <= exact <= Fraction(float(high)) ** 2


@pytest.mark.parametrize("mode", MODES)
def test_directed_conversion(call: Any, mode: str) -> None:
    x = floats("f64", 300, 5)
    assert_rounded(call(f"__nv_double2float_{mode}", x), [Fraction(float(v)) for v in x], mode)
    numbers = random.Random(7)
    for name, low, high in (
        ("int", -(1 << 31), (1 << 31) - 1), ("uint", 0, (1 << 32) - 1),
        ("ll", -(1 << 63), (1 << 63) - 1), ("ull", 0, (1 << 64) - 1),
    ):  # fmt: skip
        edges = [low, high, high - 1, low + 1, 0, 1]
        values = edges + [numbers.randint(low >> n, high >> n) for n in range(32) for _ in range(9)]
        integers = np.array(values, np.uint64 if low == 0 else np.int64)
        for wide in ("float", "double") if "ll" in name else ("float",):
            got = call(f"__nv_{name}2{wide}_{mode}", integers)
            assert_rounded(got, [Fraction(value) for value in values], mode)
        floor = {"rz": math.trunc, "rd": math.floor, "ru": math.ceil}[mode]
        for kind, wide in (("f32", "float"), ("f64", "double")):
            near = np.random.default_rng(9).normal(0, 1e6, 200).astype(FLOATS[kind][1])
            x = np.concatenate([floats(kind, 200, 9), near, near * 1000])
            want = [min(max(floor(float(v)), low), high) for v in x]
            assert call(f"__nv_{wide}2{name}_{mode}", x).tolist() == want


def test_directed_sums_of_nothing_and_of_the_infinite(call: Any) -> None:
    for kind, (_, dtype) in FLOATS.items():
        a = np.array([1, -1, 0.0, 0.0, -0.0, np.inf, -np.inf, np.inf, np.nan], dtype)
        b = np.array([-1, 1, -0.0, 0.0, -0.0, 1, np.finfo(dtype).max, -np.inf, 1], dtype)
        down, up = (call(_symbol("add", kind, mode), a, b) for mode in ("rd", "ru"))
        assert np.signbit(down[:5]).tolist() == [True, True, True, False, True]
        assert np.signbit(up[:5]).tolist() == [False, False, False, False, True]
        for got in (down, up):
            np.testing.assert_array_equal(got[:5], 0)
            np.testing.assert_array_equal(got[5:], [np.inf, -np.inf, np.nan, np.nan])


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(call: Any, name: str) -> None:
    (*kinds, result), reference = INTEGERS[name]
    numbers = random.Random(name)
    columns: list[list[int]] = []
    for kind in kinds:
        bits, signed = int(kind[1:]), kind[0] == "i"
        edges = [0, 1, -1, 1 << (bits - 1), (1 << (bits - 1)) - 1, 0x7FFFFF, 0x800000]
        values = edges + [numbers.getrandbits(bits) >> numbers.randrange(bits) for _ in range(500)]
        columns.append([_wrap(value, bits, signed) for value in numbers.sample(values, len(values))])
    arrays = [
        np.array(column, np.dtype({"i": "int", "u": "uint"}[kind[0]] + kind[1:]))
        for column, kind in zip(columns, kinds, strict=True)
    ]
    want = [reference(*row) for row in zip(*columns, strict=True)]
    assert call(f"__nv_{name}", *arrays).tolist() == want, result


@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions(call: Any, name: str) -> None:
    rng = np.random.default_rng(13)
    x = {
        "erfinv": np.concatenate(
            [rng.uniform(-1, 1, 999), 1 - 10.0 ** -np.arange(1, 15), 10.0 ** -np.arange(30)]
        ),
        "erfcinv": np.concatenate([rng.uniform(0, 2, 999), 10.0 ** -np.arange(300)]),
        "erfcx": rng.uniform(-20, 60, 999),
        "normcdf": rng.uniform(-30, 10, 999),
        "normcdfinv": np.concatenate([rng.uniform(0, 1, 999), 10.0 ** -np.arange(1, 300)]),
        "cyl_bessel_i0": np.concatenate([rng.uniform(-60, 60, 999), [700.0, 1e-9]]),
        "cyl_bessel_i1": np.concatenate([rng.uniform(-60, 60, 999), [700.0, 1e-9]]),
    }[name]
    np.testing.assert_allclose(call(f"__nv_{name}", x), SPECIAL[name](x), rtol=1e-13)
    single = x.astype(np.float32)
    with np.errstate(over="ignore"):
        want = SPECIAL[name](single.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(call(f"__nv_{name}f", single), want, rtol=2e-7)
    edges = np.array([0.0, 1.0, -1.0, 2.0, 3.0, -3.0, np.nan, np.inf, -np.inf])
    if "bessel" in name:  # scipy says NaN of infinity
        assert np.isposinf(call(f"__nv_{name}", np.array([np.inf])))
        edges = edges[:-2]
    np.testing.assert_allclose(call(f"__nv_{name}", edges), SPECIAL[name](edges), rtol=1e-13)


@pytest.mark.parametrize("name", OTHERS)
def test_other_functions(call: Any, name: str) -> None:
    (*kinds, result), reference = OTHERS[name]
    rng = np.random.default_rng(17)
    edges = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, 0.49999997, np.nan, np.inf, -np.inf]
    arguments = [
        rng.integers(-300, 300, 900).astype(np.int32)
        if kind == "i32"
        else np.concatenate([edges, floats(kind, 450, seed)]).astype(FLOATS[kind][1])[:900]
        for seed, kind in enumerate(kinds)
    ]
    if kinds.count("f32") > 1:  # the edges of one against ordinary numbers of the other
        arguments[1] = np.roll(arguments[1], 450)
    got = call(f"__nv_{name}", *arguments)
    with np.errstate(all="ignore"):
        want = np.asarray(reference(*arguments)).astype(got.dtype)
    if "norm" in name:
        return np.testing.assert_allclose(got, want, rtol=1.2e-7, atol=1e-45)
    np.testing.assert_array_equal(got, want)
    if result.startswith("f"):
        np.testing.assert_array_equal(np.signbit(got) | np.isnan(got), np.signbit(want) | np.isnan(want))
    return None


def test_every_symbol_of_triton_compiles(compile_loops: Any) -> None:
    """With the arguments that Triton's own module of libdevice gives it."""
    triton = importlib.util.find_spec("triton")
    if triton is None or triton.origin is None:
        pytest.skip("no triton")
    text = (Path(triton.origin).parent / "language" / "extra" / "cuda" / "libdevice.py").read_text()
    kinds = {"fp32": "f32", "fp64": "f64", "int32": "i32", "uint32": "u32", "int64": "i64", "uint64": "u64"}
    dtype = r'core\.dtype\("(\w+)"\)'
    entry = re.compile(rf'\(\s*((?:{dtype},?\s*)+)\):\s*\("(__nv_\w+)",\s*{dtype}\)')
    functions = {}
    for found in entry.finditer(text):
        arguments = [kinds[each] for each in re.findall(dtype, found[1])]
        functions[found[3]] = (*arguments, kinds[found[4]])
    assert set(functions) == set(re.findall(r"__nv_\w+", text))
    assert set(functions) <= set(LIBDEVICE)
    # Those that approximate on a GPU share a function with those that do not. A warning is an error.
    named = {LIBDEVICE[symbol]: signature for symbol, signature in functions.items()}
    compile_loops("heitu_libdevice.h", named, flags=("-O1",))
