// Elementary functions of float32 for compiled kernels, written so that a compiler vectorises the
// loop around a call: no branches, no tables, no calls. Those of float64 lie in heitu_math_f64.h.
//
// They behave as C's do for NaN, infinities, signed zeros, denormals and overflow, and keep
// OpenCL's error marks (in ULP: exp, exp2, log, log2, sin, cos, rsqrt 2; tanh, erf 3; pow 8; others
// 4). They must be compiled without -ffast-math, whose reassociation would undo the splitting of
// constants below.
//
// Polynomials are minimax approximations on the reduced interval, found by Remez' exchange.
#ifndef HEITU_MATH_H_
#define HEITU_MATH_H_

#include "heitu_angles.h"
#include "heitu_bits.h"

#define HT_LOG2E_F 0x1.715476p+0f
#define HT_LN2_HI_F 0x1.62e400p-1f  // 15 bits: a product with an exponent is exact
#define HT_LN2_LO_F 0x1.7f7d1cp-20f
#define HT_LOG10_2_HI_F 0x1.344000p-2f  // 13 bits, likewise
#define HT_LOG10_2_LO_F 0x1.3509f8p-18f

// x between a negative and a positive limit, by comparisons of bits: the compiler then sees minima,
// where comparisons of floats with constants would become branches. What NaN gives is left to the
// caller.
HT_FN float ht_bound_f32(float x, float low, float high) {
  const int32_t bits = (int32_t)ht_f32_bits(x), upper = (int32_t)ht_f32_bits(high);
  const uint32_t bounded = (uint32_t)(bits < upper ? bits : upper), lower = ht_f32_bits(low);
  return ht_f32_of_bits(bounded < lower ? bounded : lower);
}

HT_FN float ht_number_f32(float x, float result) { return x == x ? result : x; }

// p * 2^n for n in [-252, 254], rounded once: two steps, as 2^n may be no normal number.
HT_FN float ht_scale_f32(float p, int32_t n) {
  const int32_t half = n >> 1;
  return p * ht_f32_of_bits((uint32_t)(half + 127) << 23) *
         ht_f32_of_bits((uint32_t)(n - half + 127) << 23);
}

// (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2
HT_FN float ht_exp_tail_f32(float r) {
  // In pairs: a chain of dependent steps is what takes the time in such short loops.
  const float z = r * r;
  const float low = HT_FMAF(0.166666687f, r, 0.5f);
  const float middle = HT_FMAF(0.00833280385f, r, 0.0416664816f);
  const float high = HT_FMAF(0.000202757437f, r, 0.00139311375f);
  return HT_FMAF(HT_FMAF(high, z, middle), z, low);
}

// e^x * 2^k, for functions that halve e^x where it would overflow.
HT_FN float ht_exp_scaled_f32(float x, int32_t k) {
  const float bounded = ht_bound_f32(x, -105.0f, 90.0f);
  const float shifted = HT_FMAF(bounded, HT_LOG2E_F, HT_ROUND_F);
  const float n = shifted - HT_ROUND_F;
  const float r = HT_FMAF(n, -HT_LN2_LO_F, HT_FMAF(n, -HT_LN2_HI_F, bounded));
  const float p = HT_FMAF(r * r, ht_exp_tail_f32(r), r) + 1.0f;
  const int32_t exponent = (int32_t)(ht_f32_bits(shifted) - ht_f32_bits(HT_ROUND_F));
  return ht_number_f32(x, ht_scale_f32(p, exponent + k));
}

HT_FN float ht_exp_f32(float x) { return ht_exp_scaled_f32(x, 0); }

// 2^r on |r| <= 1/2
HT_FN float ht_exp2_half_f32(float r) {
  const float z = r * r;
  const float p0 = HT_FMAF(0.693147182f, r, 1.0f);
  const float p2 = HT_FMAF(0.0555032752f, r, 0.240226507f);
  const float p4 = HT_FMAF(0.00134004047f, r, 0.00961800292f);
  const float p6 = HT_FMAF(0.00015476608f, z, p4);
  return HT_FMAF(HT_FMAF(p6, z, p2), z, p0);
}

HT_FN float ht_exp2_f32(float x) {
  const float bounded = ht_bound_f32(x, -151.0f, 129.0f);
  const float shifted = bounded + HT_ROUND_F;
  const float p = ht_exp2_half_f32(bounded - (shifted - HT_ROUND_F));
  const int32_t exponent = (int32_t)(ht_f32_bits(shifted) - ht_f32_bits(HT_ROUND_F));
  return ht_number_f32(x, ht_scale_f32(p, exponent));
}

// 2^x where that is a normal number.
HT_FN float ht_exp2_near_f32(float x) {
  const float shifted = x + HT_ROUND_F;
  const float p = ht_exp2_half_f32(x - (shifted - HT_ROUND_F));
  return ht_f32_of_bits(ht_f32_bits(p) + (ht_f32_bits(shifted) << 23));
}

// 10^x = 2^n e^(r ln 10), where r = x - n log10(2) keeps what a product of x and ln 10 would lose.
HT_FN float ht_exp10_f32(float x) {
  const float bounded = ht_bound_f32(x, -46.0f, 39.0f);
  const float shifted = HT_FMAF(bounded, 0x1.a934f0p+1f, HT_ROUND_F);
  const float n = shifted - HT_ROUND_F;
  const float r =
      HT_FMAF(n, -HT_LOG10_2_LO_F, HT_FMAF(n, -HT_LOG10_2_HI_F, bounded)) * 0x1.26bb1cp+1f;
  const float p = HT_FMAF(r * r, ht_exp_tail_f32(r), r) + 1.0f;
  const int32_t exponent = (int32_t)(ht_f32_bits(shifted) - ht_f32_bits(HT_ROUND_F));
  return ht_number_f32(x, ht_scale_f32(p, exponent));
}

HT_FN float ht_expm1_f32(float x) {
  const float bounded = ht_bound_f32(x, -20.0f, 88.9f);
  const float shifted = HT_FMAF(bounded, HT_LOG2E_F, HT_ROUND_F);
  const float n = shifted - HT_ROUND_F;
  const float r = HT_FMAF(n, -HT_LN2_LO_F, HT_FMAF(n, -HT_LN2_HI_F, bounded));
  const float p = HT_FMAF(r * r, ht_exp_tail_f32(r), r);
  // Half of the result first, as 2^128 is none.
  const uint32_t exponent = ht_f32_bits(shifted) - ht_f32_bits(HT_ROUND_F) + 126;
  const float scale = ht_f32_of_bits(exponent << 23);
  const float result = ht_number_f32(x, 2.0f * HT_FMAF(p, scale, scale - 0.5f));
  return __builtin_fabsf(x) < 1e-8f ? x : result;
}

// x = 2^exponent * (1 + fraction) with 1 + fraction in [sqrt(1/2), sqrt(2)); for finite x > 0.
typedef struct {
  float exponent, fraction;
} ht_split_f32_t;

HT_FN ht_split_f32_t ht_split_f32(float x) {
  const int tiny = x < 0x1p-126f;
  const uint32_t sqrt_half = 0x3f3504f3u;
  const uint32_t bits = ht_f32_bits(tiny ? x * 0x1p23f : x) - sqrt_half;
  ht_split_f32_t split;
  split.exponent = (float)((int32_t)bits >> 23) - (tiny ? 23.0f : 0.0f);
  split.fraction = ht_f32_of_bits((bits & 0x7fffffu) + sqrt_half) - 1.0f;
  return split;
}

// ln(1 + f) - f + f^2 / 2 on [sqrt(1/2) - 1, sqrt(2) - 1]
HT_FN float ht_log_tail_f32(float f) {
  const float z = f * f;
  const float p1 = HT_FMAF(-0.250000089f, f, 0.333333135f);
  const float p3 = HT_FMAF(-0.166679963f, f, 0.200021192f);
  const float p5 = HT_FMAF(-0.1240559f, f, 0.142195538f);
  const float p7 = HT_FMAF(-0.116756357f, f, 0.118881524f);
  const float low = HT_FMAF(p3, z, p1);
  const float high = HT_FMAF(HT_FMAF(0.0674663857f, z, p7), z, p5);
  return z * f * HT_FMAF(high, z * z, low);
}

// What a logarithm gives for x <= 0, infinity and NaN.
HT_FN float ht_log_special_f32(float x, float result) {
  const float of_nothing = x == 0.0f ? -INFINITY : NAN;
  const float finite = x > 0.0f ? result : of_nothing;
  return x < INFINITY ? finite : x;
}

// ln(2^e * (1 + f))
HT_FN float ht_log_join_f32(float e, float f) {
  const float low = HT_FMAF(e, HT_LN2_LO_F, HT_FMAF(-0.5f * f, f, ht_log_tail_f32(f)));
  return HT_FMAF(e, HT_LN2_HI_F, f + low);
}

HT_FN float ht_log_f32(float x) {
  const ht_split_f32_t split = ht_split_f32(x);
  return ht_log_special_f32(x, ht_log_join_f32(split.exponent, split.fraction));
}

HT_FN float ht_log2_f32(float x) {
  const ht_split_f32_t split = ht_split_f32(x);
  const float f = split.fraction;
  const float low = HT_FMAF(-0.5f * f, f, ht_log_tail_f32(f));
  const float scaled = HT_FMAF(low, HT_LOG2E_F, f * 0x1.4ae0cp-26f);
  return ht_log_special_f32(x, split.exponent + HT_FMAF(f, HT_LOG2E_F, scaled));
}

HT_FN float ht_log10_f32(float x) {
  const ht_split_f32_t split = ht_split_f32(x);
  const float e = split.exponent, f = split.fraction;
  const float low = HT_FMAF(-0.5f * f, f, ht_log_tail_f32(f));
  const float scaled =
      HT_FMAF(low, 0x1.bcb7b2p-2f, HT_FMAF(e, HT_LOG10_2_LO_F, f * -0x1.5b235ep-27f));
  return ht_log_special_f32(x, HT_FMAF(e, HT_LOG10_2_HI_F, HT_FMAF(f, 0x1.bcb7b2p-2f, scaled)));
}

// The fraction comes from x, not from the rounded 1 + x, until that is x itself.
HT_FN float ht_log1p_f32(float x) {
  const float u = 1.0f + x;
  const ht_split_f32_t split = ht_split_f32(u);
  const int large = x > 0x1p30f;
  const float scale = ht_f32_of_bits((uint32_t)(127 - (large ? 0 : (int32_t)split.exponent)) << 23);
  const float f = large ? split.fraction : HT_FMAF(scale, x, scale - 1.0f);
  const float result = ht_log_special_f32(u, ht_log_join_f32(split.exponent, f));
  return __builtin_fabsf(x) < 1e-8f ? x : result;
}

// expm1(2 x) / (expm1(2 x) + 2); from 10 on it is 1.
HT_FN float ht_tanh_f32(float x) {
  const uint32_t bits = ht_f32_bits(x) & 0x7fffffffu;
  const float a = 2.0f * ht_f32_of_bits(bits < 0x41200000u ? bits : 0x41200000u);
  const float shifted = HT_FMAF(a, HT_LOG2E_F, HT_ROUND_F);
  const float n = shifted - HT_ROUND_F;
  const float r = HT_FMAF(n, -HT_LN2_LO_F, HT_FMAF(n, -HT_LN2_HI_F, a));
  const float p = HT_FMAF(r * r, ht_exp_tail_f32(r), r);
  const float scale = ht_f32_of_bits((ht_f32_bits(shifted) + 127) << 23);
  const float e = HT_FMAF(p, scale, scale - 1.0f);
  const float result = __builtin_copysignf(e / (e + 2.0f), x);
  return ht_number_f32(x, result);
}

// 2^(x P(x)) = 1 - erf(x) from 0.95 on; below, erf(x) = x + x P(x^2). From 4 on it is 1.
HT_FN float ht_erf_f32(float x) {
  const uint32_t bits = ht_f32_bits(x) & 0x7fffffffu;
  const float a = ht_f32_of_bits(bits < 0x40800000u ? bits : 0x40800000u);
  const float z = a * a;
  const float z2 = z * z;
  const float s1 = HT_FMAF(-0.376126319f, z, 0.128379166f);
  const float s3 = HT_FMAF(-0.0268577114f, z, 0.112836644f);
  const float s5 = HT_FMAF(-0.000809781952f, z, 0.00519696483f);
  const float s6 = HT_FMAF(8.18548506e-5f, z2, s5);
  const float small = HT_FMAF(HT_FMAF(HT_FMAF(s6, z2, s3), z2, s1), a, a);
  const float l1 = HT_FMAF(-0.917120397f, a, -1.62811017f);
  const float l3 = HT_FMAF(0.0330463648f, a, -0.151896745f);
  const float l5 = HT_FMAF(0.000309592957f, a, -0.00464542583f);
  const float exponent = HT_FMAF(HT_FMAF(l5, z, l3), z, l1) * a;
  const float large = 1.0f - ht_exp2_near_f32(exponent);
  const float result = __builtin_copysignf(a < 0.95f ? small : large, x);
  return ht_number_f32(x, result);
}

// e^a / 2 for what the hyperbolic functions need of it.
HT_FN float ht_cosh_f32(float x) {
  const float half = ht_exp_scaled_f32(__builtin_fabsf(x), -1);
  return half + 0.25f / half;
}

HT_FN float ht_sinh_f32(float x) {
  const float a = __builtin_fabsf(x), z = a * a;
  float small = 2.81701341e-6f;
  small = HT_FMAF(small, z, 0.000198361493f);
  small = HT_FMAF(small, z, 0.00833335053f);
  small = HT_FMAF(small, z, 0.166666672f);
  small = HT_FMAF(small * z, a, a);
  const float half = ht_exp_scaled_f32(a, -1);
  return __builtin_copysignf(a < 1.0f ? small : half - 0.25f / half, x);
}

// ln(a + sqrt(a^2 + 1)); from 2^28 on that is ln(2 a).
HT_FN float ht_asinh_f32(float x) {
  const float a = __builtin_fabsf(x), z = a * a;
  const int large = a > 0x1p28f;
  const float near = a + z / (1.0f + __builtin_sqrtf(z + 1.0f));
  const float result = ht_log1p_f32(large ? a : near) + (large ? 0x1.62e430p-1f : 0.0f);
  return __builtin_copysignf(result, x);
}

HT_FN float ht_acosh_f32(float x) {
  const float t = x - 1.0f;
  const int large = x > 0x1p28f;
  const float near = t + __builtin_sqrtf(t * (t + 2.0f));
  const float result = ht_log1p_f32(large ? x : near) + (large ? 0x1.62e430p-1f : 0.0f);
  return x < 1.0f ? NAN : result;
}

HT_FN float ht_atanh_f32(float x) {
  const float a = __builtin_fabsf(x);
  return __builtin_copysignf(0.5f * ht_log1p_f32(2.0f * a / (1.0f - a)), x);
}

// A third of the exponent is near; two steps of Halley's method triple the bits each, in double.
HT_FN double ht_cbrt_wide_f32(float a) {
  const int tiny = a < 0x1p-126f;
  const float scaled = tiny ? a * 0x1p24f : a;
  const double d = scaled;
  double t = ht_f32_of_bits(ht_f32_bits(scaled) / 3 + 0x2a5119f2u);
  double cube = t * t * t;
  t = t * (cube + 2.0 * d) / (2.0 * cube + d);
  cube = t * t * t;
  t = t * (cube + 2.0 * d) / (2.0 * cube + d);
  return tiny ? t * 0x1p-8 : t;
}

HT_FN float ht_cbrt_f32(float x) {
  const float a = __builtin_fabsf(x);
  const float root = (float)ht_cbrt_wide_f32(a);
  return ((a > 0.0f) & (a < INFINITY)) ? __builtin_copysignf(root, x) : x;
}

HT_FN float ht_rcbrt_f32(float x) {
  const float a = __builtin_fabsf(x);
  const float root = (float)(1.0 / ht_cbrt_wide_f32(a));
  return ((a > 0.0f) & (a < INFINITY)) ? __builtin_copysignf(root, x) : 1.0f / x;
}

HT_FN float ht_hypot_f32(float x, float y) {
  const double a = x, b = y;
  const int infinite = (__builtin_fabsf(x) == INFINITY) | (__builtin_fabsf(y) == INFINITY);
  return infinite ? INFINITY : (float)__builtin_sqrt(a * a + b * b);
}

HT_FN float ht_sqrt_f32(float x) { return __builtin_sqrtf(x); }
HT_FN float ht_rsqrt_f32(float x) { return 1.0f / __builtin_sqrtf(x); }

// By way of log2 and exp2 in double, whose error of 2^-30 after the product leaves the float's last
// bit.
HT_FN float ht_pow_f32(float x, float y) {
  const float base = __builtin_fabsf(x);
  const double d = base;
  const uint64_t sqrt_half = 0x3fe6a09e667f3bcdu;
  const uint64_t bits = ht_f64_bits(d) + (0x3ff0000000000000u - sqrt_half);
  const double exponent = ht_f64_of_bits((bits >> 52) | 0x4330000000000000u) - (0x1p52 + 1023);
  const double f = ht_f64_of_bits((bits & 0xfffffffffffffu) + sqrt_half) - 1.0;
  const double s = f / (f + 2.0), z = s * s;
  double l = 0x1.5ceceb901406ep-2;
  l = HT_FMAD(l, z, 0x1.a58d4c7e29826p-2);
  l = HT_FMAD(l, z, 0x1.27778061f2df7p-1);
  l = HT_FMAD(l, z, 0x1.ec709d1236241p-1);
  l = HT_FMAD(l, z, 0x1.71547652bee6dp+1);
  l = HT_FMAD(l, s, exponent);
  l = base < INFINITY ? l : d;
  l = base == 0.0f ? -INFINITY : l;
  double t = l * y;
  t = -200.0 > t ? -200.0 : t;
  t = 200.0 < t ? 200.0 : t;
  const double shifted = t + HT_ROUND_D;
  const double r = t - (shifted - HT_ROUND_D);
  double p = 0x1.41d311a5e1eb3p-13;
  p = HT_FMAD(p, r, 0x1.5f45968b3fa94p-10);
  p = HT_FMAD(p, r, 0x1.3b2dbc602df1ep-7);
  p = HT_FMAD(p, r, 0x1.c6aed4625d52cp-5);
  p = HT_FMAD(p, r, 0x1.ebfbdadb1e39cp-3);
  p = HT_FMAD(p, r, 0x1.62e430c8290b9p-1);
  p = HT_FMAD(p, r, 1.0);
  const float power = (float)ht_f64_of_bits(ht_f64_bits(p) + (ht_f64_bits(shifted) << 52));
  // A negative base: the sign of an odd power, none for a fraction. -0 counts, so look at the sign
  // bit.
  const float half = y * 0.5f;
  const int whole = __builtin_rintf(y) == y;
  const int odd = whole & (__builtin_rintf(half) != half);
  const uint32_t sign = odd ? ht_f32_bits(x) & 0x80000000u : 0;
  const float with_sign = ht_f32_of_bits(ht_f32_bits(power) ^ sign);
  const int undefined = (x < 0.0f) & (base < INFINITY) & !whole;
  const float result = undefined ? NAN : with_sign;
  const int one = (x == 1.0f) | (y == 0.0f) | ((x == -1.0f) & (__builtin_fabsf(y) == INFINITY));
  return one ? 1.0f : result;
}

#endif  // HEITU_MATH_H_
