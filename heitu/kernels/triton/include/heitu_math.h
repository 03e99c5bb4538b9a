// Elementary functions of float32 for compiled kernels, written so that a compiler vectorises the
// loop around a call: no branches, no tables, no calls. Those of float64 lie in heitu_math_f64.h.
//
// They behave as C's do for NaN, infinities, signed zeros, denormals and overflow, and keep
// OpenCL's error marks (in ULP: exp, exp2, log, log2, sin, cos, rsqrt 2; tanh, erf 3; pow 8; others
// 4). They must be compiled without -ffast-math, whose reassociation would undo the splitting of
// constants below.
//
// Polynomials are minimax approximations of their own, by Remez' exchange on the reduced interval.
#ifndef HEITU_MATH_H_
#define HEITU_MATH_H_

#include <math.h>
#include <stdint.h>
#include <string.h>

#define HT_FN static inline __attribute__((always_inline, unused))

// Without the instruction, fma() is a slow call that nothing vectorises; two roundings are near
// enough then.
#if defined(__FMA__) || defined(__aarch64__) || defined(__riscv_flen)
#define HT_FMAF(a, b, c) __builtin_fmaf(a, b, c)
#define HT_FMAD(a, b, c) __builtin_fma(a, b, c)
#else
#define HT_FMAF(a, b, c) ((a) * (b) + (c))
#define HT_FMAD(a, b, c) ((a) * (b) + (c))
#endif

HT_FN uint32_t ht_f32_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

HT_FN float ht_f32_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

HT_FN uint64_t ht_f64_bits(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

HT_FN double ht_f64_of_bits(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

#define HT_LOG2E_F 0x1.715476p+0f
#define HT_LN2_HI_F 0x1.62e400p-1f  // 15 bits: a product with an exponent is exact
#define HT_LN2_LO_F 0x1.7f7d1cp-20f
#define HT_LOG10_2_HI_F 0x1.344000p-2f  // 13 bits, likewise
#define HT_LOG10_2_LO_F 0x1.3509f8p-18f
#define HT_PI_F 0x1.921fb6p+1f
#define HT_PI_2_F 0x1.921fb6p+0f
// Adding 1.5 * 2^23 leaves a number's nearest integer in the lowest bits.
#define HT_ROUND_F 0x1.8p+23f
#define HT_ROUND_D 0x1.8p+52

// The lower and upper limit let NaN through.
HT_FN float ht_bound_f32(float x, float low, float high) {
  const float bounded = low > x ? low : x;
  return high < bounded ? high : bounded;
}

// p * 2^n for n in [-252, 254], rounded once: two steps, as 2^n may be no normal number.
HT_FN float ht_scale_f32(float p, int32_t n) {
  const int32_t half = n >> 1;
  return p * ht_f32_of_bits((uint32_t)(half + 127) << 23) *
         ht_f32_of_bits((uint32_t)(n - half + 127) << 23);
}

// (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2
HT_FN float ht_exp_tail_f32(float r) {
  float q = 0.000202757437f;
  q = HT_FMAF(q, r, 0.00139311375f);
  q = HT_FMAF(q, r, 0.00833280385f);
  q = HT_FMAF(q, r, 0.0416664816f);
  q = HT_FMAF(q, r, 0.166666687f);
  return HT_FMAF(q, r, 0.5f);
}

// e^x * 2^k, for functions that halve e^x where it would overflow.
HT_FN float ht_exp_scaled_f32(float x, int32_t k) {
  const float bounded = ht_bound_f32(x, -105.0f, 90.0f);
  const float shifted = HT_FMAF(bounded, HT_LOG2E_F, HT_ROUND_F);
  const float n = shifted - HT_ROUND_F;
  const float r = HT_FMAF(n, -HT_LN2_LO_F, HT_FMAF(n, -HT_LN2_HI_F, bounded));
  const float p = HT_FMAF(r * r, ht_exp_tail_f32(r), r) + 1.0f;
  return ht_scale_f32(p, (int32_t)(ht_f32_bits(shifted) - ht_f32_bits(HT_ROUND_F)) + k);
}

HT_FN float ht_exp_f32(float x) { return ht_exp_scaled_f32(x, 0); }

HT_FN float ht_exp2_f32(float x) {
  const float bounded = ht_bound_f32(x, -151.0f, 129.0f);
  const float shifted = bounded + HT_ROUND_F;
  const float r = bounded - (shifted - HT_ROUND_F);
  float p = 0.00015476608f;
  p = HT_FMAF(p, r, 0.00134004047f);
  p = HT_FMAF(p, r, 0.00961800292f);
  p = HT_FMAF(p, r, 0.0555032752f);
  p = HT_FMAF(p, r, 0.240226507f);
  p = HT_FMAF(p, r, 0.693147182f);
  p = HT_FMAF(p, r, 1.0f);
  return ht_scale_f32(p, (int32_t)(ht_f32_bits(shifted) - ht_f32_bits(HT_ROUND_F)));
}

// 10^x = 2^n e^(r ln 10), where r = x - n log10(2) keeps what a product of x and ln 10 would lose.
HT_FN float ht_exp10_f32(float x) {
  const float bounded = ht_bound_f32(x, -46.0f, 39.0f);
  const float shifted = HT_FMAF(bounded, 0x1.a934f0p+1f, HT_ROUND_F);
  const float n = shifted - HT_ROUND_F;
  const float r =
      HT_FMAF(n, -HT_LOG10_2_LO_F, HT_FMAF(n, -HT_LOG10_2_HI_F, bounded)) * 0x1.26bb1cp+1f;
  const float p = HT_FMAF(r * r, ht_exp_tail_f32(r), r) + 1.0f;
  return ht_scale_f32(p, (int32_t)(ht_f32_bits(shifted) - ht_f32_bits(HT_ROUND_F)));
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
  const float result = 2.0f * HT_FMAF(p, scale, scale - 0.5f);
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
  float p = 0.0674663857f;
  p = HT_FMAF(p, f, -0.116756357f);
  p = HT_FMAF(p, f, 0.118881524f);
  p = HT_FMAF(p, f, -0.1240559f);
  p = HT_FMAF(p, f, 0.142195538f);
  p = HT_FMAF(p, f, -0.166679963f);
  p = HT_FMAF(p, f, 0.200021192f);
  p = HT_FMAF(p, f, -0.250000089f);
  p = HT_FMAF(p, f, 0.333333135f);
  return f * f * f * p;
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

// The nearest multiple of pi/2 and what is left of x, exact to 2^-53 of itself for every finite
// float. 1/(2 pi) is cut into pieces of 29 bits, whose products with x are exact in double, as is
// what remains of them after whole turns are dropped; the sum, in order, then loses nothing where
// it cancels.
typedef struct {
  float r;
  uint32_t quadrant;
} ht_angle_t;

HT_FN double ht_turn(double product) { return product - __builtin_rint(product); }

HT_FN ht_angle_t ht_reduce_f32(float x) {
  const double d = x;
  const double t0 = ht_turn(d * 0x1.45f306dp-3), t1 = ht_turn(d * 0x1.9391054p-32);
  const double t2 = ht_turn(d * 0x1.4fe13abp-61), t3 = ht_turn(d * 0x1.d1f534dp-90);
  const double t4 = HT_FMAD(d, 0x1.5993c439041fep-150, ht_turn(d * 0x1.b81b6c5p-119));
  const double shifted = (((t0 + t1) + (t2 + t3)) + t4) * 4.0 + HT_ROUND_D;
  const double quarters = shifted - HT_ROUND_D;
  const double left = ((((t0 - quarters * 0.25) + t1) + t2) + t3) + t4;
  ht_angle_t angle;
  angle.r = (float)(left * 0x1.921fb54442d18p+2);
  angle.quadrant = (uint32_t)ht_f64_bits(shifted);
  return angle;
}

HT_FN float ht_sin_quarter_f32(float r) {
  const float z = r * r;
  float p = 2.71804629e-6f;
  p = HT_FMAF(p, z, -0.000198393042f);
  p = HT_FMAF(p, z, 0.00833332911f);
  p = HT_FMAF(p, z, -0.166666672f);
  return HT_FMAF(p * z, r, r);
}

HT_FN float ht_cos_quarter_f32(float r) {
  const float z = r * r;
  float p = 2.44377406e-5f;
  p = HT_FMAF(p, z, -0.00138873619f);
  p = HT_FMAF(p, z, 0.0416666456f);
  p = HT_FMAF(p, z, -0.5f);
  return HT_FMAF(p, z, 1.0f);
}

HT_FN float ht_sine_of_f32(ht_angle_t angle, uint32_t quadrant) {
  const float value = quadrant & 1 ? ht_cos_quarter_f32(angle.r) : ht_sin_quarter_f32(angle.r);
  return ht_f32_of_bits(ht_f32_bits(value) ^ ((quadrant & 2) << 30));
}

HT_FN float ht_sin_f32(float x) {
  const ht_angle_t angle = ht_reduce_f32(x);
  const float result = ht_sine_of_f32(angle, angle.quadrant);
  return x == 0.0f ? x : result;
}

HT_FN float ht_cos_f32(float x) {
  const ht_angle_t angle = ht_reduce_f32(x);
  return ht_sine_of_f32(angle, angle.quadrant + 1);
}

// Of pi x, whose multiples of 1/2 are exact.
HT_FN ht_angle_t ht_reduce_pi_f32(float x) {
  const float turn = x - 2.0f * __builtin_rintf(0.5f * x);
  const float shifted = 2.0f * turn + HT_ROUND_F;
  ht_angle_t angle;
  angle.r = (turn - 0.5f * (shifted - HT_ROUND_F)) * HT_PI_F;
  angle.quadrant = ht_f32_bits(shifted);
  return angle;
}

HT_FN float ht_sinpi_f32(float x) {
  const ht_angle_t angle = ht_reduce_pi_f32(x);
  const float result = ht_sine_of_f32(angle, angle.quadrant);
  return result == 0.0f ? __builtin_copysignf(0.0f, x) : result;
}

HT_FN float ht_cospi_f32(float x) {
  const ht_angle_t angle = ht_reduce_pi_f32(x);
  return ht_sine_of_f32(angle, angle.quadrant + 1) + 0.0f;
}

HT_FN float ht_tan_f32(float x) {
  const ht_angle_t angle = ht_reduce_f32(x);
  const float sine = ht_sin_quarter_f32(angle.r), cosine = ht_cos_quarter_f32(angle.r);
  const int odd = angle.quadrant & 1;
  const float result = (odd ? -cosine : sine) / (odd ? sine : cosine);
  return x == 0.0f ? x : result;
}

HT_FN float ht_tanh_f32(float x) {
  const float e = ht_expm1_f32(ht_bound_f32(2.0f * __builtin_fabsf(x), 0.0f, 20.0f));
  return __builtin_copysignf(e / (e + 2.0f), x);
}

// 2^(x P(x)) = 1 - erf(x) from 0.95 on; below, erf(x) = x + x P(x^2).
HT_FN float ht_erf_f32(float x) {
  const float a = ht_bound_f32(__builtin_fabsf(x), 0.0f, 4.0f), z = a * a;
  float small = 8.18548506e-5f;
  small = HT_FMAF(small, z, -0.000809781952f);
  small = HT_FMAF(small, z, 0.00519696483f);
  small = HT_FMAF(small, z, -0.0268577114f);
  small = HT_FMAF(small, z, 0.112836644f);
  small = HT_FMAF(small, z, -0.376126319f);
  small = HT_FMAF(small, z, 0.128379166f);
  small = HT_FMAF(small, a, a);
  float large = 0.000309592957f;
  large = HT_FMAF(large, a, -0.00464542583f);
  large = HT_FMAF(large, a, 0.0330463648f);
  large = HT_FMAF(large, a, -0.151896745f);
  large = HT_FMAF(large, a, -0.917120397f);
  large = HT_FMAF(large, a, -1.62811017f);
  large = 1.0f - ht_exp2_f32(large * a);
  return __builtin_copysignf(a < 0.95f ? small : large, x);
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

// asin(s) for 0 <= s <= 1/2
HT_FN float ht_asin_half_f32(float s, float z) {
  float p = 0.0422243699f;
  p = HT_FMAF(p, z, 0.0241479538f);
  p = HT_FMAF(p, z, 0.0454761945f);
  p = HT_FMAF(p, z, 0.0749525651f);
  p = HT_FMAF(p, z, 0.166667536f);
  return HT_FMAF(p * z, s, s);
}

HT_FN float ht_asin_f32(float x) {
  const float a = __builtin_fabsf(x);
  const float z = a > 0.5f ? 0.5f * (1.0f - a) : a * a;
  const float p = ht_asin_half_f32(a > 0.5f ? __builtin_sqrtf(z) : a, z);
  return __builtin_copysignf(a > 0.5f ? HT_FMAF(-2.0f, p, HT_PI_2_F) : p, x);
}

HT_FN float ht_acos_f32(float x) {
  const float a = __builtin_fabsf(x);
  const float z = a > 0.5f ? 0.5f * (1.0f - a) : a * a;
  const float p = ht_asin_half_f32(a > 0.5f ? __builtin_sqrtf(z) : a, z);
  const float large = x < 0.0f ? HT_FMAF(-2.0f, p, HT_PI_F) : 2.0f * p;
  return a > 0.5f ? large : HT_PI_2_F - __builtin_copysignf(p, x);
}

// atan(t) for 0 <= t <= 1
HT_FN float ht_atan_unit_f32(float t) {
  const float z = t * t;
  float p = -0.00179366872f;
  p = HT_FMAF(p, z, 0.0109148128f);
  p = HT_FMAF(p, z, -0.031178223f);
  p = HT_FMAF(p, z, 0.0579579622f);
  p = HT_FMAF(p, z, -0.0840347111f);
  p = HT_FMAF(p, z, 0.109521925f);
  p = HT_FMAF(p, z, -0.142642424f);
  p = HT_FMAF(p, z, 0.199985489f);
  p = HT_FMAF(p, z, -0.333332986f);
  return HT_FMAF(p * z, t, t);
}

HT_FN float ht_atan_f32(float x) {
  const float a = __builtin_fabsf(x);
  const float p = ht_atan_unit_f32(a > 1.0f ? 1.0f / a : a);
  return __builtin_copysignf(a > 1.0f ? HT_PI_2_F - p : p, x);
}

HT_FN float ht_atan2_f32(float y, float x) {
  const float a = __builtin_fabsf(x), b = __builtin_fabsf(y);
  const float large = a < b ? b : a, small = a < b ? a : b;
  const float ratio = small == large ? (large == 0.0f ? 0.0f : 1.0f) : small / large;
  const float p = ht_atan_unit_f32(ratio);
  const float first = a < b ? HT_PI_2_F - p : p;
  const float half = ht_f32_bits(x) >> 31 ? HT_PI_F - first : first;
  return (x == x) & (y == y) ? __builtin_copysignf(half, y) : x + y;
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
  return (a > 0.0f) & (a < INFINITY) ? __builtin_copysignf(root, x) : x;
}

HT_FN float ht_rcbrt_f32(float x) {
  const float a = __builtin_fabsf(x);
  const float root = (float)(1.0 / ht_cbrt_wide_f32(a));
  return (a > 0.0f) & (a < INFINITY) ? __builtin_copysignf(root, x) : 1.0f / x;
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
