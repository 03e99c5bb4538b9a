// Number formats narrower than float32, as the bits that lie in memory, and conversions to integers
// as NVIDIA's PTX makes them. Branch-free, so that a compiler vectorises the loop around a call.
//
// Names: ht_<from>_to_<to>[_rtz]. Without a suffix a conversion rounds to nearest, ties to
// even; _rtz rounds toward zero. Formats, by the end of MLIR's name, and what Triton calls them:
//   bf16, f16
//   e4m3fn       fp8e4nv   no infinity; 0x7f is NaN
//   e5m2         fp8e5     as IEEE
//   e4m3fnuz     fp8e4b8   bias 8, one zero, 0x80 is NaN
//   e5m2fnuz     fp8e5b16  bias 16, one zero, 0x80 is NaN
//   e4m3b11fnuz  fp8e4b15  bias 15, neither infinity nor NaN, whatever the name
//   e2m1                   fp4, in the low four bits of a byte
//   e8m0                   a scale 2^(b - 127); 0xff is NaN
// To fp8 and fp4 what is too large, infinity too, becomes the largest finite number (`satfinite`).
#ifndef HEITU_FORMATS_H_
#define HEITU_FORMATS_H_

#include "heitu_bits.h"

// Choices are made by masks where values depend on them further: of ternaries a compiler makes
// branches, whose arms it then vectorises one by one.
HT_FN uint32_t ht_mask(int condition) { return 0u - (uint32_t)condition; }
HT_FN uint32_t ht_choose(uint32_t mask, uint32_t a, uint32_t b) { return (a & mask) | (b & ~mask); }

// ---- bf16 ----

HT_FN float ht_bf16_to_f32(uint16_t x) { return ht_f32_of_bits((uint32_t)x << 16); }

HT_FN uint32_t ht_bf16_above(float x) {  // the bits of bfloat16, in the upper half
  const uint32_t bits = ht_f32_bits(x);
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1);
  return ht_choose(ht_mask(x != x), bits | 0x400000u, rounded) & 0xffff0000u;
}

HT_FN uint16_t ht_f32_to_bf16(float x) { return (uint16_t)(ht_bf16_above(x) >> 16); }
HT_FN float ht_round_to_bf16(float x) { return ht_f32_of_bits(ht_bf16_above(x)); }

HT_FN uint16_t ht_f32_to_bf16_rtz(float x) {
  return (uint16_t)((ht_f32_bits(x) >> 16) | (ht_mask(x != x) & 0x40u));
}

// ---- what fits the exponent and mantissa scheme of IEEE ----

// A float's magnitude, given as bits, in a format of `mantissa` bits with this exponent bias, as if
// its exponent had no upper limit. Every argument but the first is a constant where this is called.
HT_FN uint32_t ht_narrow(uint32_t bits, int mantissa, int bias, int toward_zero) {
  const int shift = 23 - mantissa;
  const uint32_t round = toward_zero ? 0 : (1u << (shift - 1)) - 1 + ((bits >> shift) & 1);
  const uint32_t normal = ((bits + round) >> shift) - ((uint32_t)(127 - bias) << mantissa);
  // A denormal is a multiple of 2^(1 - bias - mantissa): an addition rounds to it, or a conversion
  // truncates.
  const uint32_t is_denormal = ht_mask(bits < (uint32_t)(128 - bias) << 23);
  const float few = ht_f32_of_bits(bits & is_denormal);
  const float multiple = ht_f32_of_bits((uint32_t)(126 + bias + mantissa) << 23);
  const float magic = ht_f32_of_bits((uint32_t)(128 - bias - mantissa + 23) << 23);
  const uint32_t denormal = toward_zero ? (uint32_t)(int32_t)(few * multiple)
                                        : ht_f32_bits(few + magic) - ht_f32_bits(magic);
  return ht_choose(is_denormal, denormal, normal);
}

// The other way, exactly, for what is neither NaN nor infinite. A denormal gets a first bit and
// loses it again: float32's own denormals would be slow to multiply.
HT_FN float ht_widen(uint32_t magnitude, int mantissa, int bias) {
  const uint32_t bits = magnitude << (23 - mantissa);
  const uint32_t is_denormal = ht_mask(bits < 0x800000u);
  const uint32_t moved = bits + ((uint32_t)(127 - bias) << 23) + (is_denormal & 0x800000u);
  return ht_f32_of_bits(moved) - ht_f32_of_bits(is_denormal & ((uint32_t)(128 - bias) << 23));
}

HT_FN float ht_with_sign(float x, uint32_t sign_at_31) {
  return ht_f32_of_bits(ht_f32_bits(x) | (sign_at_31 & 0x80000000u));
}

// ---- f16 ----

// gcc's vectoriser knows the processor's own conversions on aarch64 alone, clang's on x86 too.
// Where there are none, the bits are moved by hand.
#if defined(__aarch64__) || (defined(__clang__) && defined(__F16C__))
HT_FN float ht_f16_to_f32(uint16_t x) {
  _Float16 value;
  memcpy(&value, &x, sizeof value);
  return (float)value;
}

HT_FN uint16_t ht_f32_to_f16(float x) {
  const _Float16 value = (_Float16)x;
  uint16_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

HT_FN float ht_round_to_f16(float x) { return (float)(_Float16)x; }
#else
HT_FN float ht_f16_to_f32(uint16_t x) {
  const uint32_t bits = (x & 0x7fffu) << 13;
  const uint32_t is_denormal = ht_mask(bits < 0x800000u);
  const uint32_t is_special = ht_mask(bits >= 0xf800000u);
  const uint32_t moved =
      bits + 0x38000000u + (is_denormal & 0x800000u) + (is_special & 0x38000000u);
  const float value = ht_f32_of_bits(moved) - ht_f32_of_bits(is_denormal & 0x38800000u);
  return ht_with_sign(value, (uint32_t)x << 16);
}

// 65536 already rounds to what stands for infinity, as does all from 65520 on.
HT_FN uint16_t ht_f32_to_f16(float x) {
  const uint32_t bits = ht_f32_bits(x), a = bits & 0x7fffffffu;
  const uint32_t magnitude = ht_narrow(a < 0x47800000u ? a : 0x47800000u, 10, 15, 0);
  return (uint16_t)(magnitude | (ht_mask(x != x) & 0x200u) | (bits >> 16 & 0x8000u));
}

// The float16 next to x, as a float: what a conversion there and back gives, in fewer steps. Adding
// 1/2 leaves multiples of 2^-24, which the denormal ones are.
HT_FN float ht_round_to_f16(float x) {
  const uint32_t bits = ht_f32_bits(x), a = bits & 0x7fffffffu;
  const uint32_t normal = (a + 0xfffu + ((a >> 13) & 1)) & ~0x1fffu;
  const uint32_t denormal = ht_f32_bits((ht_f32_of_bits(a) + 0.5f) - 0.5f);
  const uint32_t finite = ht_choose(ht_mask(a < 0x38800000u), denormal, normal);
  const uint32_t large = ht_mask(a >= 0x477ff000u);
  const uint32_t special = 0x7f800000u | (ht_mask(x != x) & 0x400000u);
  return ht_f32_of_bits(ht_choose(large, special, finite) | (bits & 0x80000000u));
}

#endif

HT_FN uint16_t ht_f32_to_f16_rtz(float x) {
  const uint32_t bits = ht_f32_bits(x), a = bits & 0x7fffffffu;
  const uint32_t magnitude = ht_narrow(a < 0x477fe000u ? a : 0x477fe000u, 10, 15, 1);
  const uint32_t infinite = ht_mask(a >= 0x7f800000u);
  const uint32_t special = ht_choose(infinite, 0x7c00u, magnitude);
  return (uint16_t)(special | (ht_mask(x != x) & 0x200u) | (bits >> 16 & 0x8000u));
}

// ---- fp8 ----

HT_FN float ht_e4m3fn_to_f32(uint8_t x) {
  const uint32_t magnitude = x & 0x7fu;
  const uint32_t nan = ht_mask(magnitude == 0x7fu) & 0x7fc00000u;
  return ht_f32_of_bits(ht_f32_bits(ht_widen(magnitude, 3, 7)) | nan | (x & 0x80u) << 24);
}

HT_FN float ht_e5m2_to_f32(uint8_t x) { return ht_f16_to_f32((uint16_t)((uint32_t)x << 8)); }

// A magnitude with its sign, and NaN for the code of -0.
HT_FN float ht_fnuz(uint8_t x, float magnitude) {
  const uint32_t nan = ht_mask(x == 0x80) & 0x7fc00000u;
  return ht_f32_of_bits(ht_f32_bits(magnitude) | nan | (x & 0x80u) << 24);
}

HT_FN float ht_e4m3fnuz_to_f32(uint8_t x) { return ht_fnuz(x, ht_widen(x & 0x7fu, 3, 8)); }

HT_FN float ht_e5m2fnuz_to_f32(uint8_t x) { return ht_fnuz(x, ht_widen(x & 0x7fu, 2, 16)); }

HT_FN float ht_e4m3b11fnuz_to_f32(uint8_t x) {
  return ht_with_sign(ht_widen(x & 0x7fu, 3, 15), (uint32_t)x << 24);
}

// A magnitude no larger than `largest`, with the sign of x; NaN becomes `nan` with that sign.
HT_FN uint8_t ht_f32_to_f8(float x, int mantissa, int bias, float largest, uint32_t nan,
                           int toward_zero) {
  const uint32_t bits = ht_f32_bits(x), a = bits & 0x7fffffffu, limit = ht_f32_bits(largest);
  const uint32_t magnitude = ht_narrow(a < limit ? a : limit, mantissa, bias, toward_zero);
  return (uint8_t)(ht_choose(ht_mask(x != x), nan, magnitude) | (bits >> 24 & 0x80u));
}

// The same where there is one zero and one NaN, 0x80.
HT_FN uint8_t ht_f32_to_f8_fnuz(float x, int mantissa, int bias, float largest, int toward_zero) {
  const uint32_t bits = ht_f32_to_f8(x, mantissa, bias, largest, 0, toward_zero);
  const uint32_t one_zero = bits & ht_mask((bits & 0x7fu) != 0);
  return (uint8_t)ht_choose(ht_mask(x != x), 0x80u, one_zero);
}

HT_FN uint8_t ht_f32_to_e4m3fn(float x) { return ht_f32_to_f8(x, 3, 7, 448.0f, 0x7f, 0); }
HT_FN uint8_t ht_f32_to_e4m3fn_rtz(float x) { return ht_f32_to_f8(x, 3, 7, 448.0f, 0x7f, 1); }
HT_FN uint8_t ht_f32_to_e5m2(float x) { return ht_f32_to_f8(x, 2, 15, 57344.0f, 0x7f, 0); }
// Toward zero Triton cuts off float16's lower byte, by which infinity stays what it is.
HT_FN uint8_t ht_f32_to_e5m2_rtz(float x) {
  const uint8_t finite = ht_f32_to_f8(x, 2, 15, 57344.0f, 0x7f, 1);
  // 0x7b is the largest finite one.
  return (uint8_t)(finite + (__builtin_fabsf(x) == INFINITY));
}
HT_FN uint8_t ht_f32_to_e4m3fnuz(float x) { return ht_f32_to_f8_fnuz(x, 3, 8, 240.0f, 0); }
HT_FN uint8_t ht_f32_to_e4m3fnuz_rtz(float x) { return ht_f32_to_f8_fnuz(x, 3, 8, 240.0f, 1); }
HT_FN uint8_t ht_f32_to_e5m2fnuz(float x) { return ht_f32_to_f8_fnuz(x, 2, 16, 57344.0f, 0); }
HT_FN uint8_t ht_f32_to_e5m2fnuz_rtz(float x) { return ht_f32_to_f8_fnuz(x, 2, 16, 57344.0f, 1); }

// float16 to fp8e4b15 rounds ties away from zero and ends at 1.75, NaN too, as Triton's own code
// for it.
HT_FN uint8_t ht_f16_to_e4m3b11fnuz(uint16_t x) {
  const uint32_t a = x & 0x7fffu;
  const uint32_t bounded = a < 0x3f00u ? a : 0x3f00u;
  return (uint8_t)(((2 * bounded + 0x80u) >> 8) | ((uint32_t)x >> 8 & 0x80u));
}
// From float32 it goes by way of float16, cut off, whichever rounding is asked for.
HT_FN uint8_t ht_f32_to_e4m3b11fnuz(float x) { return ht_f16_to_e4m3b11fnuz(ht_f32_to_f16_rtz(x)); }
HT_FN uint8_t ht_f32_to_e4m3b11fnuz_rtz(float x) { return ht_f32_to_e4m3b11fnuz(x); }

// ---- fp4 and scales ----

HT_FN float ht_e2m1_to_f32(uint8_t x) {
  return ht_with_sign(ht_widen(x & 0x7u, 1, 1), (uint32_t)x << 28);
}

// NaN becomes +6, as there is none.
HT_FN uint8_t ht_f32_to_e2m1(float x) {
  const uint32_t bits = ht_f32_bits(x), a = bits & 0x7fffffffu, six = ht_f32_bits(6.0f);
  const uint32_t magnitude = ht_narrow(a < six ? a : six, 1, 1, 0);
  return (uint8_t)(magnitude | (bits >> 28 & 0x8u & ht_mask(x == x)));
}

HT_FN float ht_e8m0_to_f32(uint8_t x) {
  const float normal = ht_f32_of_bits((uint32_t)x << 23);
  const float value = x == 0 ? 0x1p-127f : normal;
  return x == 0xff ? NAN : value;
}

// The sign is dropped; _rtz gives the power of two below, _up the one above, both within the
// format.
HT_FN uint8_t ht_f32_to_e8m0_rtz(float x) {
  const uint32_t bits = ht_f32_bits(x) & 0x7fffffffu;
  const uint32_t exponent = bits < 0x7f800000u ? bits >> 23 : 0xfeu;
  return (uint8_t)(x == x ? exponent : 0xffu);
}
HT_FN uint8_t ht_f32_to_e8m0_up(float x) {
  const uint32_t bits = ht_f32_bits(x) & 0x7fffffffu;
  const uint32_t above =
      (bits >> 23) + (bits < 0x800000u ? bits > 0x400000u : (bits & 0x7fffffu) != 0);
  const uint32_t exponent = above < 0xfeu ? above : 0xfeu;
  return (uint8_t)(x == x ? exponent : 0xffu);
}

// ---- tf32, kept as a float32 whose 13 low bits are zero ----

HT_FN float ht_f32_to_tf32(float x) {  // to nearest, ties away from zero
  const uint32_t bits = ht_f32_bits(x);
  const uint32_t rounded = (bits + 0x1000u) & ~0x1fffu;
  return x - x == 0.0f ? ht_f32_of_bits(rounded) : x;
}
HT_FN float ht_f32_to_tf32_rtz(float x) {
  return x == x ? ht_f32_of_bits(ht_f32_bits(x) & ~0x1fffu) : x;
}

// ---- from float64, rounded once ----

// Rounded to odd: the float32 between whose neighbours x lies, its last bit set where x is not that
// number. Whatever rounds it further, to two bits fewer at least, then rounds as it would have
// rounded x.
HT_FN float ht_f64_to_f32_odd(double x) {
  const float near = (float)x;
  const double back = near;
  const int beyond = __builtin_fabs(back) > __builtin_fabs(x);
  const uint32_t bits = (ht_f32_bits(near) - (uint32_t)beyond) | (uint32_t)(back != x);
  return x == x ? ht_f32_of_bits(bits) : near;
}

HT_FN float ht_f64_to_f32(double x) { return (float)x; }
HT_FN float ht_f64_to_f32_rtz(double x) {
  const float near = (float)x;
  const int beyond = __builtin_fabs((double)near) > __builtin_fabs(x);
  return ht_f32_of_bits(ht_f32_bits(near) - (uint32_t)beyond);
}

#define HT_FROM_F64(type, name) \
  HT_FN type ht_f64_to_##name(double x) { return ht_f32_to_##name(ht_f64_to_f32_odd(x)); }
HT_FROM_F64(uint16_t, f16)
HT_FROM_F64(uint16_t, f16_rtz)
HT_FROM_F64(uint16_t, bf16)
HT_FROM_F64(uint16_t, bf16_rtz)
HT_FROM_F64(uint8_t, e4m3fn)
HT_FROM_F64(uint8_t, e4m3fn_rtz)
HT_FROM_F64(uint8_t, e5m2)
HT_FROM_F64(uint8_t, e5m2_rtz)
HT_FROM_F64(uint8_t, e4m3fnuz)
HT_FROM_F64(uint8_t, e4m3fnuz_rtz)
HT_FROM_F64(uint8_t, e5m2fnuz)
HT_FROM_F64(uint8_t, e5m2fnuz_rtz)
HT_FROM_F64(uint8_t, e4m3b11fnuz)
HT_FROM_F64(uint8_t, e4m3b11fnuz_rtz)
HT_FROM_F64(uint8_t, e2m1)
#undef HT_FROM_F64

// ---- to integers: toward zero, NaN to 0, what is too large to the nearest limit ----

HT_FN int32_t ht_f64_to_i32(double x) {
  const double above = x > -2147483648.0 ? x : -2147483648.0;
  const double inside = above < 2147483647.0 ? above : 2147483647.0;
  return x == x ? (int32_t)inside : 0;
}

// Where the largest integer is no float, the largest float below it stands in for the conversion.
HT_FN int32_t ht_f32_to_i32(float x) {
  const float above = x > -0x1p31f ? x : -0x1p31f;
  const float inside = above < 0x1.fffffep30f ? above : 0x1.fffffep30f;
  const int32_t limited = x >= 0x1p31f ? INT32_MAX : (int32_t)inside;
  return x == x ? limited : 0;
}

HT_FN uint32_t ht_f32_to_u32(float x) {
  const int high = x >= 0x1p31f;
  const float low_part = high ? x - 0x1p31f : x;
  const float above = low_part > 0.0f ? low_part : 0.0f;
  const float inside = above < 0x1.fffffep30f ? above : 0x1.fffffep30f;
  const uint32_t value = (uint32_t)(int32_t)inside | (high ? 0x80000000u : 0);
  return x >= 0x1p32f ? UINT32_MAX : value;
}

HT_FN uint32_t ht_f64_to_u32(double x) {
  const double above = x > 0.0 ? x : 0.0;
  const double inside = above < 4294967295.0 ? above : 4294967295.0;
  // Above 2^52 a double's low bits are the integer.
  return (uint32_t)ht_f64_bits(__builtin_trunc(inside) + 0x1p52);
}

HT_FN int64_t ht_f64_to_i64(double x) {
  const double above = x > -0x1p63 ? x : -0x1p63;
  const double inside = above < 0x1.fffffffffffffp62 ? above : 0x1.fffffffffffffp62;
  const int64_t limited = x >= 0x1p63 ? INT64_MAX : (int64_t)inside;
  return x == x ? limited : 0;
}

HT_FN uint64_t ht_f64_to_u64(double x) {
  const double above = x > 0.0 ? x : 0.0;
  const double inside = above < 0x1.fffffffffffffp63 ? above : 0x1.fffffffffffffp63;
  return x >= 0x1p64 ? UINT64_MAX : (uint64_t)inside;
}

HT_FN int64_t ht_f32_to_i64(float x) { return ht_f64_to_i64(x); }
HT_FN uint64_t ht_f32_to_u64(float x) { return ht_f64_to_u64(x); }

#endif  // HEITU_FORMATS_H_
