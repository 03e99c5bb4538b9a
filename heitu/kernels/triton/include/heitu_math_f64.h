// Elementary functions of float64 for compiled kernels. exp, exp2, log and log2 are written so that
// a compiler vectorises the loop around a call (2 ULP); the others are the C library's.
#ifndef HEITU_MATH_F64_H_
#define HEITU_MATH_F64_H_

#include "heitu_math.h"

#define HT_LN2_HI_D 0x1.62e42feep-1  // 32 bits: a product with an exponent is exact
#define HT_LN2_LO_D 0x1.a39ef35793c76p-33

HT_FN double ht_bound_f64(double x, double low, double high) {
  const double bounded = low > x ? low : x;
  return high < bounded ? high : bounded;
}

// p * 2^n, where n is in the low bits of `shifted`, for n in [-2044, 2046]. The shift is of an
// unsigned number, as AVX2 has no arithmetic shift of 64 bits.
HT_FN double ht_scale_f64(double p, double shifted) {
  const uint64_t n = ht_f64_bits(shifted) - ht_f64_bits(HT_ROUND_D) + 2046;
  const uint64_t half = n >> 1;
  return p * ht_f64_of_bits(half << 52) * ht_f64_of_bits((n - half) << 52);
}

HT_FN double ht_exp_f64(double x) {
  const double bounded = ht_bound_f64(x, -750.0, 710.0);
  const double shifted = HT_FMAD(bounded, 0x1.71547652b82fep+0, HT_ROUND_D);
  const double n = shifted - HT_ROUND_D;
  const double r = HT_FMAD(n, -HT_LN2_LO_D, HT_FMAD(n, -HT_LN2_HI_D, bounded));
  double q = 0x1.1f9e0c20de241p-29;
  q = HT_FMAD(q, r, 0x1.af6ccbc865550p-26);
  q = HT_FMAD(q, r, 0x1.27e4bf188be5fp-22);
  q = HT_FMAD(q, r, 0x1.71ddef948684ap-19);
  q = HT_FMAD(q, r, 0x1.a01a01b4647a6p-16);
  q = HT_FMAD(q, r, 0x1.a01a01b3bac84p-13);
  q = HT_FMAD(q, r, 0x1.6c16c16c13546p-10);
  q = HT_FMAD(q, r, 0x1.111111110ebb4p-7);
  q = HT_FMAD(q, r, 0x1.555555555555ep-5);
  q = HT_FMAD(q, r, 0x1.555555555555cp-3);
  q = HT_FMAD(q, r, 0.5);
  return ht_scale_f64(HT_FMAD(r * r, q, r) + 1.0, shifted);
}

HT_FN double ht_exp2_f64(double x) {
  const double bounded = ht_bound_f64(x, -1080.0, 1025.0);
  const double shifted = bounded + HT_ROUND_D;
  const double r = bounded - (shifted - HT_ROUND_D);
  double q = 0x1.c4dacc0c46453p-36;
  q = HT_FMAD(q, r, 0x1.ea0422ddf1c26p-32);
  q = HT_FMAD(q, r, 0x1.e4cee81c10100p-28);
  q = HT_FMAD(q, r, 0x1.b524db515e90bp-24);
  q = HT_FMAD(q, r, 0x1.62c0224dae2c0p-20);
  q = HT_FMAD(q, r, 0x1.ffcbfc75e542dp-17);
  q = HT_FMAD(q, r, 0x1.430912f868d33p-13);
  q = HT_FMAD(q, r, 0x1.5d87fe78a22cap-10);
  q = HT_FMAD(q, r, 0x1.3b2ab6fba4e82p-7);
  q = HT_FMAD(q, r, 0x1.c6b08d704a0d1p-5);
  q = HT_FMAD(q, r, 0x1.ebfbdff82c58fp-3);
  q = HT_FMAD(q, r, 0x1.62e42fefa39efp-1);
  return ht_scale_f64(HT_FMAD(q, r, 1.0), shifted);
}

// x = 2^exponent * (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); ln(1 + f) = f - square + tail, square =
// f^2 / 2.
typedef struct {
  double exponent, f, square, tail;
} ht_split_f64_t;

HT_FN ht_split_f64_t ht_split_f64(double x) {
  const int tiny = x < 0x1p-1022;
  const uint64_t sqrt_half = 0x3fe6a09e667f3bcdu;
  const uint64_t bits = ht_f64_bits(tiny ? x * 0x1p54 : x) + (0x3ff0000000000000u - sqrt_half);
  // Above 2^52 a double's low bits are an integer.
  const double biased = ht_f64_of_bits((bits >> 52) | 0x4330000000000000u);
  ht_split_f64_t split;
  split.exponent = biased - (tiny ? 0x1p52 + 1077 : 0x1p52 + 1023);
  split.f = ht_f64_of_bits((bits & 0xfffffffffffffu) + sqrt_half) - 1.0;
  const double s = split.f / (split.f + 2.0), z = s * s;
  double p = 0x1.2f0ca2f6423f5p-3;
  p = HT_FMAD(p, z, 0x1.39a10f0c1d294p-3);
  p = HT_FMAD(p, z, 0x1.7466450e7112ap-3);
  p = HT_FMAD(p, z, 0x1.c71c51edf082cp-3);
  p = HT_FMAD(p, z, 0x1.249249420fb4dp-2);
  p = HT_FMAD(p, z, 0x1.999999997fbc8p-2);
  p = HT_FMAD(p, z, 0x1.5555555555593p-1);
  split.square = 0.5 * split.f * split.f;
  split.tail = s * HT_FMAD(p, z, split.square);
  return split;
}

HT_FN double ht_log_special_f64(double x, double result) {
  const double of_nothing = x == 0.0 ? -INFINITY : NAN;
  const double finite = x > 0.0 ? result : of_nothing;
  return x < INFINITY ? finite : x;
}

HT_FN double ht_log_f64(double x) {
  const ht_split_f64_t split = ht_split_f64(x);
  const double low = HT_FMAD(split.exponent, HT_LN2_LO_D, split.tail);
  const double fraction = split.f - (split.square - low);
  return ht_log_special_f64(x, HT_FMAD(split.exponent, HT_LN2_HI_D, fraction));
}

// The logarithm and log2(e) are split, so that the product of their upper parts is exact.
HT_FN double ht_log2_f64(double x) {
  const ht_split_f64_t split = ht_split_f64(x);
  const double high = ht_f64_of_bits(ht_f64_bits(split.f - split.square) & 0xffffffff00000000u);
  const double low = ((split.f - high) - split.square) + split.tail;
  const double product = high * 0x1.71547p+0;
  const double rest = (low + high) * 0x1.94ae0bf85ddf4p-22 + low * 0x1.71547p+0;
  const double sum = split.exponent + product;
  return ht_log_special_f64(x, sum + (((split.exponent - sum) + product) + rest));
}

HT_FN double ht_sqrt_f64(double x) { return __builtin_sqrt(x); }
HT_FN double ht_rsqrt_f64(double x) { return 1.0 / __builtin_sqrt(x); }
HT_FN double ht_rcbrt_f64(double x) { return 1.0 / cbrt(x); }

HT_FN double ht_exp10_f64(double x) { return pow(10.0, x); }
HT_FN double ht_pow_f64(double x, double y) { return pow(x, y); }
HT_FN double ht_atan2_f64(double y, double x) { return atan2(y, x); }
HT_FN double ht_hypot_f64(double x, double y) { return hypot(x, y); }

#define HT_FROM_LIBM(name) \
  HT_FN double ht_##name##_f64(double x) { return name(x); }
HT_FROM_LIBM(expm1)
HT_FROM_LIBM(log10)
HT_FROM_LIBM(log1p)
HT_FROM_LIBM(sin)
HT_FROM_LIBM(cos)
HT_FROM_LIBM(tan)
HT_FROM_LIBM(sinh)
HT_FROM_LIBM(cosh)
HT_FROM_LIBM(tanh)
HT_FROM_LIBM(asin)
HT_FROM_LIBM(acos)
HT_FROM_LIBM(atan)
HT_FROM_LIBM(asinh)
HT_FROM_LIBM(acosh)
HT_FROM_LIBM(atanh)
HT_FROM_LIBM(cbrt)
HT_FROM_LIBM(erf)
HT_FROM_LIBM(erfc)
HT_FROM_LIBM(tgamma)
HT_FROM_LIBM(lgamma)
#undef HT_FROM_LIBM

// pi x reduced exactly: x mod 2 first, then to the nearest half.
HT_FN double ht_sinpi_f64(double x) {
  const double turn = x - 2.0 * __builtin_rint(0.5 * x);
  const double halves = __builtin_rint(2.0 * turn);
  const double angle = (turn - 0.5 * halves) * 0x1.921fb54442d18p+1;
  const double odd = halves > 0.0 ? cos(angle) : -cos(angle);
  const double whole = __builtin_fabs(halves) > 1.5 ? -sin(angle) : sin(angle);
  const double result = __builtin_fabs(halves) == 1.0 ? odd : whole;
  return result == 0.0 ? __builtin_copysign(0.0, x) : result;
}

HT_FN double ht_cospi_f64(double x) {
  const double turn = __builtin_fabs(x - 2.0 * __builtin_rint(0.5 * x));
  const double halves = __builtin_rint(2.0 * turn);
  const double angle = (turn - 0.5 * halves) * 0x1.921fb54442d18p+1;
  const double whole = halves > 1.5 ? -cos(angle) : cos(angle);
  return halves == 1.0 ? -sin(angle) + 0.0 : whole;
}

#endif  // HEITU_MATH_F64_H_
