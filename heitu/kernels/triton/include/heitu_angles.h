// Trigonometric functions of float32 and their inverses, under the rules that heitu_math.h gives.
#ifndef HEITU_ANGLES_H_
#define HEITU_ANGLES_H_

#include "heitu_bits.h"

#define HT_PI_F 0x1.921fb6p+1f
#define HT_PI_2_F 0x1.921fb6p+0f

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
  const float low = HT_FMAF(0.00833332911f, z, -0.166666672f);
  const float high = HT_FMAF(2.71804629e-6f, z, -0.000198393042f);
  return HT_FMAF(HT_FMAF(high, z * z, low), z * r, r);
}

HT_FN float ht_cos_quarter_f32(float r) {
  const float z = r * r;
  const float low = HT_FMAF(-0.5f, z, 1.0f);
  const float high = HT_FMAF(2.44377406e-5f, z, -0.00138873619f);
  return HT_FMAF(HT_FMAF(high, z, 0.0416666456f), z * z, low);
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
  const uint32_t bits = ht_f32_bits(a), inverse = ht_f32_bits(1.0f / a);
  const float p = ht_atan_unit_f32(ht_f32_of_bits(bits < inverse ? bits : inverse));
  return __builtin_copysignf(a > 1.0f ? HT_PI_2_F - p : p, x);
}

HT_FN float ht_atan2_f32(float y, float x) {
  const float a = __builtin_fabsf(x), b = __builtin_fabsf(y);
  const float large = a < b ? b : a, small = a < b ? a : b;
  const float ratio = small == large ? (large == 0.0f ? 0.0f : 1.0f) : small / large;
  const float p = ht_atan_unit_f32(ratio);
  const float first = a < b ? HT_PI_2_F - p : p;
  const float half = ht_f32_bits(x) >> 31 ? HT_PI_F - first : first;
  return ((x == x) & (y == y)) ? __builtin_copysignf(half, y) : x + y;
}

#endif  // HEITU_ANGLES_H_
