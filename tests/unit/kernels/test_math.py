"""Elementary functions against wider ones: float32's against numpy in float64, float64's in long double."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

Array = Any


def _half_turns(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """sin or cos of pi x, by symmetry from angles of at most pi / 4, so that zeros and ends are exact."""

    def of(x: Array) -> Array:
        turn = x - 2 * np.rint(x / 2)
        quarters = np.rint(2 * turn)
        angle = (turn - quarters / 2) * np.pi
        step = (np.nan_to_num(quarters).astype(int) + (1 if function is np.cos else 0)) % 4
        table = [np.sin(angle), np.cos(angle), -np.sin(angle), -np.cos(angle)]
        result = np.choose(step, table)
        zero = np.copysign(0.0, x) if function is np.sin else 0.0
        return np.where(result == 0, zero, result)

    return of


# The reference and the limit of the error in ULP: OpenCL's for full profiles.
ONE: dict[str, tuple[Callable[..., Array], float]] = {
    "exp": (np.exp, 2),
    "exp2": (np.exp2, 2),
    "exp10": (lambda x: np.power(10.0, x), 2),
    "expm1": (np.expm1, 3),
    "log": (np.log, 2),
    "log2": (np.log2, 2),
    "log10": (np.log10, 2),
    "log1p": (np.log1p, 2),
    "sin": (np.sin, 2),
    "cos": (np.cos, 2),
    "tan": (np.tan, 4),
    "sinpi": (_half_turns(np.sin), 2),
    "cospi": (_half_turns(np.cos), 2),
    "sinh": (np.sinh, 4),
    "cosh": (np.cosh, 4),
    "tanh": (np.tanh, 3),
    "asin": (np.arcsin, 4),
    "acos": (np.arccos, 4),
    "atan": (np.arctan, 4),
    "asinh": (np.arcsinh, 4),
    "acosh": (np.arccosh, 4),
    "atanh": (np.arctanh, 4),
    "erf": (special.erf, 3),
    "sqrt": (np.sqrt, 0.5),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 2),
    "cbrt": (np.cbrt, 1),
    "rcbrt": (lambda x: 1 / np.cbrt(x), 1),
}
TWO: dict[str, tuple[Callable[..., Array], float]] = {
    "pow": (np.power, 2),
    "atan2": (np.arctan2, 4),
    "hypot": (np.hypot, 1),
}
WIDE: dict[str, tuple[Callable[..., Array], float]] = {
    name: (ONE[name][0], 2) for name in ("exp", "exp2", "log", "log2")
}
SPECIAL = [
    0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1e-45, -1e-45,
    1e-40, -1e-40, 2.0**-126, 3.4028234663852886e38, -3.4028234663852886e38, 1e30, -1e30, 88.72284, -103.98,
    128.0, -149.0, -150.0, 38.53184, 89.41599, 2.0**24, 2.0**24 + 2,
]  # fmt: skip


@pytest.fixture(scope="module")
def loops(compile_loops: Any) -> Any:
    return compile_loops("heitu_math.h", _float32_signatures())


def _float32_signatures() -> dict[str, tuple[str, ...]]:
    one = {f"ht_{name}_f32": ("f32", "f32") for name in ONE}
    return one | {f"ht_{name}_f32": ("f32", "f32", "f32") for name in TWO}


def samples(rng: np.random.Generator, count: int) -> Array:
    """float32: any bits, and numbers of everyday size."""
    bits = rng.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = [rng.normal(0, 3, count), rng.uniform(-110, 110, count), rng.normal(1, 0.1, count)]
    return np.concatenate([bits, *(part.astype(np.float32) for part in near)])


def error(got: Array, want: Array) -> Array:
    """Distance in units of the last place of `got`'s dtype; infinite where NaN or zero's sign differs."""
    dtype = got.dtype.type
    limits = np.finfo(dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(dtype)
        bounded = np.minimum(np.abs(rounded), limits.max)
        distance = np.abs(got.astype(want.dtype) - want) / np.spacing(bounded)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    same &= ~((got == 0) & (rounded == 0) & (np.signbit(got) != np.signbit(rounded)))
    exact = np.where(np.isfinite(distance), distance, 0)
    apart = np.where(np.isfinite(distance) & ((got != 0) | (rounded != 0)), distance, np.inf)
    return np.where(same, exact, apart)


def check(got: Array, want: Array, limit: float, *arguments: Array) -> None:
    errors = error(got, want)
    i = int(np.argmax(errors))
    assert errors[i] <= limit, (errors[i], [a[i] for a in arguments], got[i], want[i])


def one_argument() -> Array:
    return np.concatenate([np.array(SPECIAL, np.float32), samples(np.random.default_rng(1), 1 << 16)])


def two_arguments() -> tuple[Array, Array]:
    rng = np.random.default_rng(2)
    grid = np.array([(a, b) for a in SPECIAL for b in SPECIAL], np.float32).T
    x, y = (rng.permutation(samples(rng, 1 << 15)) for _ in range(2))
    whole = rng.integers(-9, 10, 1 << 14).astype(np.float32)
    x = np.concatenate([grid[0], x, samples(rng, 1 << 12), np.abs(x)])
    return x, np.concatenate([grid[1], y, whole, y])


@pytest.mark.parametrize("name", ONE)
def test_float32(loops: Any, name: str) -> None:
    reference, limit = ONE[name]
    x = one_argument()
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
    check(loops(f"ht_{name}_f32", x), want, limit, x)


@pytest.mark.parametrize("name", TWO)
def test_float32_of_two(loops: Any, name: str) -> None:
    reference, limit = TWO[name]
    x, y = two_arguments()
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64), y.astype(np.float64))
    check(loops(f"ht_{name}_f32", x, y), want, limit, x, y)


def test_angles_near_multiples_of_a_quarter_turn(loops: Any) -> None:
    """The floats nearest to k pi / 2: there the reduction has least to work with."""
    k = np.concatenate([np.arange(1, 5000), np.logspace(4, 15, 5000).astype(np.int64)])
    x = (k * (np.pi / 2)).astype(np.float32)
    # The float32 nearest of all to a multiple of pi / 2, some 2^96 large.
    x = np.append(x, np.float32(math.ldexp(16367173, 72)))
    wide = x.astype(np.float64)
    for name in ("sin", "cos", "tan"):
        reference, limit = ONE[name]
        check(loops(f"ht_{name}_f32", x), reference(wide), limit, x)


def test_without_fused_multiplication(compile_loops: Any) -> None:
    """What the marks promise holds on a processor without the instruction too."""
    baseline = compile_loops("heitu_math.h", _float32_signatures(), flags=("-O1", "-fno-math-errno"))
    x = one_argument()[::7]
    for name, (reference, limit) in ONE.items():
        with np.errstate(all="ignore"):
            want = reference(x.astype(np.float64))
        check(baseline(f"ht_{name}_f32", x), want, limit, x)


@pytest.mark.parametrize("name", WIDE)
def test_float64(compile_loops: Any, name: str) -> None:
    reference, limit = WIDE[name]
    function = f"ht_{name}_f64"
    loops = compile_loops("heitu_math_f64.h", {function: ("f64", "f64")})
    rng = np.random.default_rng(4)
    bits = rng.integers(0, 1 << 64, 1 << 15, dtype=np.uint64).view(np.float64)
    edges = np.array([*SPECIAL, 5e-324, 2.0**-1022, 1e-310, 1.7e308, 709.78, 709.79, -745.13, -745.14])
    near = [rng.normal(0, 3, 1 << 15), rng.uniform(-1100, 1100, 1 << 15), rng.normal(1, 0.1, 1 << 15)]
    x = np.concatenate([bits, edges, *near])
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.longdouble))
    check(loops(function, x), want, limit, x)
    assert function in loops.vectorised or not loops.vectorised


def test_functions_are_vectorised(loops: Any) -> None:
    if not loops.vectorised:
        pytest.skip("the compiler does not say what it vectorised")
    assert not set(loops.signatures) - loops.vectorised
