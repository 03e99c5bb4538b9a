"""Number formats: every code, every rounding boundary, against what the formats' definitions give."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

Array = Any


class Format(NamedTuple):
    """Bits of exponent and mantissa, bias, the largest finite number, the code of NaN, that of infinity."""

    exponent: int
    mantissa: int
    bias: int
    largest: float
    nan: int | None
    infinity: int | None = None
    one_zero: bool = False

    @property
    def storage(self) -> str:
        return "u16" if self.exponent + self.mantissa == 15 else "u8"

    @property
    def sign(self) -> int:
        return 1 << (self.exponent + self.mantissa)

    def magnitudes(self) -> Array:
        """The value of each code without sign, as float64, up to the largest finite one."""
        codes = np.arange(self.sign)
        exponents, fractions = codes >> self.mantissa, codes & ((1 << self.mantissa) - 1)
        part = fractions / 2.0**self.mantissa
        values = np.where(
            exponents > 0,
            np.ldexp(1 + part, exponents - self.bias),
            np.ldexp(part, 1 - self.bias),
        )
        return values[values <= self.largest]


FORMATS = {
    "bf16": Format(8, 7, 127, float.fromhex("0x1.fep127"), 0x7FC0, 0x7F80),
    "f16": Format(5, 10, 15, 65504.0, 0x7E00, 0x7C00),
    "e4m3fn": Format(4, 3, 7, 448.0, 0x7F),
    "e5m2": Format(5, 2, 15, 57344.0, 0x7F, 0x7C),
    "e4m3fnuz": Format(4, 3, 8, 240.0, 0x80, one_zero=True),
    "e5m2fnuz": Format(5, 2, 16, 57344.0, 0x80, one_zero=True),
    "e4m3b11fnuz": Format(4, 3, 15, 1.875, None),
    "e2m1": Format(2, 1, 1, 6.0, None),
}
# fp8e4b15 has a rounding of its own.
IEEE_LIKE = [name for name in FORMATS if name != "e4m3b11fnuz"]
TRUNCATING = [name for name in IEEE_LIKE if name != "e2m1"]
INTEGERS = ["i32", "u32", "i64", "u64"]


@pytest.fixture(scope="module")
def loops(compile_loops: Any) -> Any:
    signatures: dict[str, tuple[str, ...]] = {}
    for name, fmt in FORMATS.items():
        signatures[f"ht_{name}_to_f32"] = (fmt.storage, "f32")
        for source in ("f32", "f64"):
            signatures[f"ht_{source}_to_{name}"] = (source, fmt.storage)
            if name != "e2m1":
                signatures[f"ht_{source}_to_{name}_rtz"] = (source, fmt.storage)
    for integer in INTEGERS:
        for source in ("f32", "f64"):
            signatures[f"ht_{source}_to_{integer}"] = (source, integer)
    signatures |= {
        "ht_f16_to_e4m3b11fnuz": ("u16", "u8"),
        "ht_round_to_bf16": ("f32", "f32"),
        "ht_round_to_f16": ("f32", "f32"),
        "ht_e8m0_to_f32": ("u8", "f32"),
        "ht_f32_to_e8m0_rtz": ("f32", "u8"),
        "ht_f32_to_e8m0_up": ("f32", "u8"),
        "ht_f32_to_tf32": ("f32", "f32"),
        "ht_f32_to_tf32_rtz": ("f32", "f32"),
        "ht_f64_to_f32_rtz": ("f64", "f32"),
    }
    return compile_loops("heitu_formats.h", signatures)


def boundaries(fmt: Format) -> Array:
    """Every magnitude of the format and every midpoint, with their neighbours, as float64."""
    values = fmt.magnitudes()
    # One step beyond the largest is where rounding would overflow.
    beyond = 2 * values[-1] - values[-2]
    ladder = np.append(values, beyond)
    points = np.concatenate([ladder, (ladder[1:] + ladder[:-1]) / 2])
    near = np.concatenate([points, np.nextafter(points, 0), np.nextafter(points, np.inf)])
    return np.concatenate([near, -near])


def samples(source: str, fmt: Format) -> Array:
    rng = np.random.default_rng(7)
    edges = boundaries(fmt)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, -1e-30, 3.4028234663852886e38]
    if source == "f64":
        random = np.ldexp(rng.uniform(-2, 2, 1 << 16), rng.integers(-160, 140, 1 << 16))
        return np.concatenate([edges, random, special, [1e300, -1e300, 5e-324, -5e-324]])
    with np.errstate(over="ignore"):
        near = edges.astype(np.float32)
    near = np.concatenate([near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))])
    random = rng.integers(0, 1 << 32, 1 << 17, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return np.concatenate([near, random, np.array(special, np.float32)])


def encode(x: Array, fmt: Format, toward_zero: bool) -> Array:
    """The code nearest to each x, by search in the table of values."""
    values = fmt.magnitudes()
    a = np.abs(x.astype(np.float64))
    below = np.clip(np.searchsorted(values, a, side="right") - 1, 0, len(values) - 1)
    code = below.copy()
    if not toward_zero:
        beyond = 2 * values[-1] - values[-2]
        middle = (values[below] + np.append(values[1:], beyond)[below]) / 2
        code += (a > middle) | ((a == middle) & (below % 2 == 1))
    saturates = fmt.storage == "u8"
    if saturates:
        code = np.minimum(code, len(values) - 1)
    if fmt.infinity is not None and (toward_zero or not saturates):
        code = np.where(np.isinf(x), fmt.infinity, code)
    signed = np.where(np.signbit(x), code | fmt.sign, code)
    if fmt.one_zero:
        signed = np.where(code == 0, 0, signed)
    return signed


@pytest.mark.parametrize("name", IEEE_LIKE)
@pytest.mark.parametrize("source", ["f32", "f64"])
@pytest.mark.parametrize("mode", ["", "_rtz"])
def test_encoding(loops: Any, name: str, source: str, mode: str) -> None:
    if mode and name not in TRUNCATING:
        pytest.skip("fp4 only rounds to nearest")
    fmt = FORMATS[name]
    x = samples(source, fmt)
    got = loops(f"ht_{source}_to_{name}{mode}", x).astype(int)
    number = ~np.isnan(x)
    want = encode(x[number], fmt, bool(mode))
    wrong = np.flatnonzero(got[number] != want)
    first = wrong[:1]
    assert not len(wrong), (len(wrong), x[number][first], got[number][first], want[first])
    nans = got[~number]
    if fmt.one_zero:
        assert (nans == fmt.nan).all()
    elif fmt.nan is None:
        assert (nans == len(fmt.magnitudes()) - 1).all()
    else:
        assert np.isnan(loops(f"ht_{name}_to_f32", nans)).all()


@pytest.mark.parametrize("name", ["bf16", "f16"])
def test_rounding_is_a_conversion_there_and_back(loops: Any, name: str) -> None:
    x = samples("f32", FORMATS[name])
    want = loops(f"ht_{name}_to_f32", loops(f"ht_f32_to_{name}", x))
    got = loops(f"ht_round_to_{name}", x)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("name", FORMATS)
def test_decoding(loops: Any, name: str) -> None:
    fmt = FORMATS[name]
    codes = np.arange(2 * fmt.sign)
    got = loops(f"ht_{name}_to_f32", codes)
    magnitude, values = codes & (fmt.sign - 1), fmt.magnitudes()
    finite = magnitude < len(values)
    if fmt.one_zero:
        finite &= codes != fmt.nan
    want = values[np.where(finite, magnitude, 0)] * np.where(codes & fmt.sign, -1.0, 1.0)
    np.testing.assert_array_equal(got[finite], want[finite].astype(np.float32))
    np.testing.assert_array_equal(np.signbit(got[finite]), (codes & fmt.sign != 0)[finite])
    infinite = np.zeros_like(finite) if fmt.infinity is None else magnitude == fmt.infinity
    assert np.isinf(got[infinite]).all()
    assert np.isnan(got[~finite & ~infinite]).all()


def test_e4m3b11fnuz_rounds_half_away_and_ends_at_its_limit(loops: Any) -> None:
    fmt = FORMATS["e4m3b11fnuz"]
    halves = np.arange(1 << 16).astype(np.uint16)
    x = halves.view(np.float16).astype(np.float64)
    a = np.where(np.isnan(x), 1.75, np.minimum(np.abs(x), 1.75))
    values = fmt.magnitudes()
    below = np.searchsorted(values, a, side="right") - 1
    code = below + (a >= (values[below] + np.append(values[1:], 2.0)[below]) / 2)
    want = code | np.where(halves >> 15, 0x80, 0)
    np.testing.assert_array_equal(loops("ht_f16_to_e4m3b11fnuz", halves), want)
    number = ~np.isnan(x)
    for function in ("ht_f32_to_e4m3b11fnuz", "ht_f32_to_e4m3b11fnuz_rtz", "ht_f64_to_e4m3b11fnuz_rtz"):
        np.testing.assert_array_equal(loops(function, x[number]), want[number])
    # What float16 cuts off does not round up.
    assert loops("ht_f32_to_e4m3b11fnuz", np.array([1.0625 - 2**-23])) == loops(
        "ht_f32_to_e4m3b11fnuz", np.ones(1)
    )


def test_e8m0(loops: Any) -> None:
    codes = np.arange(256)
    got = loops("ht_e8m0_to_f32", codes)
    np.testing.assert_array_equal(got[:255].astype(np.float64), np.ldexp(1.0, codes[:255] - 127))
    assert np.isnan(got[255])
    powers = got[:255]
    for name, above in (("ht_f32_to_e8m0_rtz", 0), ("ht_f32_to_e8m0_up", 1)):
        np.testing.assert_array_equal(loops(name, -powers), codes[:255])
        inside = np.nextafter(powers[:254], np.float32(np.inf))
        np.testing.assert_array_equal(loops(name, inside), codes[:254] + above)
        limits = np.array([np.inf, np.finfo(np.float32).max, 0.0, 2.0**-149, np.nan], np.float32)
        np.testing.assert_array_equal(loops(name, limits), [254, 254, 0, 0, 255])


def test_tf32(loops: Any) -> None:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 0x7F7FE000, 1 << 16).astype(np.uint32)
    bits[: 1 << 12] = (bits[: 1 << 12] & 0xFFFFE000) | 0x1000
    x = bits.view(np.float32)
    low, step = (bits & 0xFFFFE000).view(np.float32).astype(np.float64), bits & 0xFFFFE000
    high = (step + 0x2000).view(np.float32).astype(np.float64)
    nearest = np.where(x - low >= high - x, high, low)
    for sign in (1, -1):
        np.testing.assert_array_equal(loops("ht_f32_to_tf32", sign * x), sign * nearest)
        np.testing.assert_array_equal(loops("ht_f32_to_tf32_rtz", sign * x), sign * low)
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32)
    for name in ("ht_f32_to_tf32", "ht_f32_to_tf32_rtz"):
        np.testing.assert_array_equal(loops(name, special), special)


def test_float64_to_float32_toward_zero(loops: Any) -> None:
    rng = np.random.default_rng(5)
    x = np.ldexp(rng.uniform(-2, 2, 1 << 16), rng.integers(-155, 140, 1 << 16))
    x = np.concatenate([x, [0.0, -0.0, np.inf, -np.inf, 1e300, -1e300]])
    got = loops("ht_f64_to_f32_rtz", x).astype(np.float64)
    assert (np.abs(got) <= np.abs(x)).all()
    with np.errstate(over="ignore"):
        further = np.nextafter(np.abs(got).astype(np.float32), np.float32(np.inf)).astype(np.float64)
    assert ((further > np.abs(x)) | np.isinf(x)).all()
    np.testing.assert_array_equal(np.signbit(got), np.signbit(x))


@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("source", ["f32", "f64"])
def test_saturating_conversion(loops: Any, source: str, integer: str) -> None:
    info = np.iinfo({"i": "int", "u": "uint"}[integer[0]] + integer[1:])
    dtype = np.float32 if source == "f32" else np.float64
    edges = np.array([info.min, info.max, 2.0**31, -(2.0**31), 2.0**32, 2.0**63, 2.0**64, 0, 1, -1], dtype)
    edges = np.concatenate([edges, edges + dtype(0.5), edges - dtype(0.5)])
    near = np.concatenate([edges, np.nextafter(edges, dtype(np.inf)), np.nextafter(edges, dtype(-np.inf))])
    rng = np.random.default_rng(11)
    random = np.ldexp(rng.uniform(-2, 2, 4096), rng.integers(-3, 70, 4096)).astype(dtype)
    x = np.concatenate([near, random, np.array([np.inf, -np.inf, -0.0], dtype)])
    # Python's integers have no limit of their own.
    want = [
        (info.max if v > 0 else info.min) if np.isinf(v) else min(max(int(v), info.min), info.max) for v in x
    ]
    np.testing.assert_array_equal(loops(f"ht_{source}_to_{integer}", x), np.array(want, info.dtype))
    assert loops(f"ht_{source}_to_{integer}", np.array([np.nan]))[0] == 0


def test_conversions_are_vectorised(loops: Any) -> None:
    if not loops.vectorised:
        pytest.skip("the compiler does not say what it vectorised")
    # 64-bit integers have no conversion before AVX-512.
    missing = {
        name for name in loops.signatures if not name.endswith(("to_i64", "to_u64"))
    } - loops.vectorised
    assert not missing
