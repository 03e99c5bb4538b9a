// What CUDA's libdevice offers beyond elementary functions: each under its own name behind ht_nv_.
// heitu/kernels/triton/libdevice.py says which function stands for which symbol.
#ifndef HEITU_LIBDEVICE_H_
#define HEITU_LIBDEVICE_H_

#include "heitu_rounding.h"
#include "heitu_special.h"

// ---- integers ----

HT_FN int32_t ht_nv_abs(int32_t x) { return (int32_t)(x < 0 ? -(uint32_t)x : (uint32_t)x); }
HT_FN int64_t ht_nv_llabs(int64_t x) { return (int64_t)(x < 0 ? -(uint64_t)x : (uint64_t)x); }
HT_FN int32_t ht_nv_clz(int32_t x) { return x ? __builtin_clz((uint32_t)x) : 32; }
HT_FN int32_t ht_nv_clzll(int64_t x) { return x ? __builtin_clzll((uint64_t)x) : 64; }
HT_FN int32_t ht_nv_ffs(int32_t x) { return __builtin_ffs(x); }
HT_FN int32_t ht_nv_ffsll(int64_t x) { return __builtin_ffsll(x); }

HT_FN int32_t ht_nv_popcll(int64_t x) {
  uint64_t n = (uint64_t)x;
  n -= (n >> 1) & 0x5555555555555555u;
  n = (n & 0x3333333333333333u) + ((n >> 2) & 0x3333333333333333u);
  n = (n + (n >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  n += n >> 8;
  n += n >> 16;
  return (int32_t)((n + (n >> 32)) & 0x7f);
}
HT_FN int32_t ht_nv_popc(int32_t x) { return ht_nv_popcll((uint32_t)x); }

HT_FN int64_t ht_nv_brevll(int64_t x) {
  uint64_t n = (uint64_t)x;
  n = (n >> 1 & 0x5555555555555555u) | (n & 0x5555555555555555u) << 1;
  n = (n >> 2 & 0x3333333333333333u) | (n & 0x3333333333333333u) << 2;
  n = (n >> 4 & 0x0f0f0f0f0f0f0f0fu) | (n & 0x0f0f0f0f0f0f0f0fu) << 4;
  n = (n >> 8 & 0x00ff00ff00ff00ffu) | (n & 0x00ff00ff00ff00ffu) << 8;
  n = (n >> 16 & 0x0000ffff0000ffffu) | (n & 0x0000ffff0000ffffu) << 16;
  return (int64_t)(n >> 32 | n << 32);
}
HT_FN int32_t ht_nv_brev(int32_t x) {
  return (int32_t)((uint64_t)ht_nv_brevll((int64_t)(uint32_t)x) >> 32);
}

// Each of the selector's four digits takes a byte of the eight in (b, a).
HT_FN int32_t ht_nv_byte_perm(int32_t a, int32_t b, int32_t selector) {
  const uint64_t bytes = (uint64_t)(uint32_t)b << 32 | (uint32_t)a;
  const uint32_t s = (uint32_t)selector;
  uint32_t result = (uint32_t)(bytes >> (8 * (s & 7))) & 0xff;
  result |= ((uint32_t)(bytes >> (8 * (s >> 4 & 7))) & 0xff) << 8;
  result |= ((uint32_t)(bytes >> (8 * (s >> 8 & 7))) & 0xff) << 16;
  result |= ((uint32_t)(bytes >> (8 * (s >> 12 & 7))) & 0xff) << 24;
  return (int32_t)result;
}

HT_FN int32_t ht_nv_mulhi(int32_t a, int32_t b) { return (int32_t)((int64_t)a * b >> 32); }
HT_FN uint32_t ht_nv_umulhi(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
HT_FN int64_t ht_nv_mul64hi(int64_t a, int64_t b) { return (int64_t)((__int128)a * b >> 64); }
HT_FN uint64_t ht_nv_umul64hi(uint64_t a, uint64_t b) {
  return (uint64_t)((unsigned __int128)a * b >> 64);
}
HT_FN uint32_t ht_nv_umul24(uint32_t a, uint32_t b) { return (a & 0xffffffu) * (b & 0xffffffu); }
HT_FN int32_t ht_nv_mul24(int32_t a, int32_t b) {
  const int32_t low_a = (int32_t)((uint32_t)a << 8) >> 8, low_b = (int32_t)((uint32_t)b << 8) >> 8;
  return (int32_t)((uint32_t)low_a * (uint32_t)low_b);
}
HT_FN int32_t ht_nv_sad(int32_t a, int32_t b, uint32_t c) {
  return (int32_t)((a > b ? (uint32_t)a - (uint32_t)b : (uint32_t)b - (uint32_t)a) + c);
}
HT_FN uint32_t ht_nv_usad(uint32_t a, uint32_t b, uint32_t c) {
  return (a > b ? a - b : b - a) + c;
}
HT_FN int32_t ht_nv_hadd(int32_t a, int32_t b) { return (a >> 1) + (b >> 1) + (a & b & 1); }
HT_FN uint32_t ht_nv_uhadd(uint32_t a, uint32_t b) { return (a >> 1) + (b >> 1) + (a & b & 1); }
HT_FN int32_t ht_nv_rhadd(int32_t a, int32_t b) { return (a >> 1) + (b >> 1) + ((a | b) & 1); }
HT_FN uint32_t ht_nv_urhadd(uint32_t a, uint32_t b) { return (a >> 1) + (b >> 1) + ((a | b) & 1); }

// ---- bits of floats ----

HT_FN int32_t ht_nv_float_as_int(float x) { return (int32_t)ht_f32_bits(x); }
HT_FN float ht_nv_int_as_float(int32_t x) { return ht_f32_of_bits((uint32_t)x); }
HT_FN int64_t ht_nv_double_as_longlong(double x) { return (int64_t)ht_f64_bits(x); }
HT_FN double ht_nv_longlong_as_double(int64_t x) { return ht_f64_of_bits((uint64_t)x); }
HT_FN int32_t ht_nv_double2hiint(double x) { return (int32_t)(ht_f64_bits(x) >> 32); }
HT_FN int32_t ht_nv_double2loint(double x) { return (int32_t)ht_f64_bits(x); }
HT_FN double ht_nv_hiloint2double(int32_t high, int32_t low) {
  return ht_f64_of_bits((uint64_t)(uint32_t)high << 32 | (uint32_t)low);
}

#define HT_KINDS(type, suffix, letter)                                                     \
  HT_FN int32_t ht_nv_signbit##letter(type x) {                                            \
    return (int32_t)(ht_##suffix##_bits(x) >> (sizeof x * 8 - 1));                         \
  }                                                                                        \
  HT_FN int32_t ht_nv_isnan##letter(type x) { return x != x; }                             \
  HT_FN int32_t ht_nv_isinf##letter(type x) { return (x == INFINITY) | (x == -INFINITY); } \
  HT_FN int32_t ht_nv_isfinite##letter(type x) { return x - x == 0; }
HT_KINDS(float, f32, f)
HT_KINDS(double, f64, d)
#undef HT_KINDS

// ---- to whole numbers ----

// Ties away from zero.
HT_FN float ht_round_f32(float x) {
  const float whole = __builtin_truncf(x);
  const float away = __builtin_fabsf(x - whole) >= 0.5f ? 1.0f : 0.0f;
  return __builtin_copysignf(__builtin_fabsf(whole) + away, x);
}
HT_FN double ht_round_f64(double x) {
  const double whole = __builtin_trunc(x);
  const double away = __builtin_fabs(x - whole) >= 0.5 ? 1.0 : 0.0;
  return __builtin_copysign(__builtin_fabs(whole) + away, x);
}
HT_FN int64_t ht_nv_llroundf(float x) { return ht_f32_to_i64(ht_round_f32(x)); }
HT_FN int64_t ht_nv_llround(double x) { return ht_f64_to_i64(ht_round_f64(x)); }

// ---- norms ----

// Squares of floats neither overflow nor vanish in double. An infinite argument prevails over NaN.
HT_FN double ht_norm_wide_f32(float a, float b, float c, float d) {
  const double sum = (double)a * a + (double)b * b + ((double)c * c + (double)d * d);
  const int infinite = ht_nv_isinff(a) | ht_nv_isinff(b) | ht_nv_isinff(c) | ht_nv_isinff(d);
  return infinite ? INFINITY : __builtin_sqrt(sum);
}
HT_FN float ht_nv_norm3df(float a, float b, float c) { return (float)ht_norm_wide_f32(a, b, c, 0); }
HT_FN float ht_nv_norm4df(float a, float b, float c, float d) {
  return (float)ht_norm_wide_f32(a, b, c, d);
}
HT_FN float ht_nv_rhypotf(float a, float b) { return (float)(1.0 / ht_norm_wide_f32(a, b, 0, 0)); }
HT_FN float ht_nv_rnorm3df(float a, float b, float c) {
  return (float)(1.0 / ht_norm_wide_f32(a, b, c, 0));
}
HT_FN float ht_nv_rnorm4df(float a, float b, float c, float d) {
  return (float)(1.0 / ht_norm_wide_f32(a, b, c, d));
}
HT_FN double ht_nv_norm3d(double a, double b, double c) { return hypot(hypot(a, b), c); }
HT_FN double ht_nv_norm4d(double a, double b, double c, double d) {
  return hypot(hypot(a, b), hypot(c, d));
}
HT_FN double ht_nv_rhypot(double a, double b) { return 1.0 / hypot(a, b); }
HT_FN double ht_nv_rnorm3d(double a, double b, double c) { return 1.0 / ht_nv_norm3d(a, b, c); }
HT_FN double ht_nv_rnorm4d(double a, double b, double c, double d) {
  return 1.0 / ht_nv_norm4d(a, b, c, d);
}

// ---- the rest ----

HT_FN float ht_nv_saturatef(float x) {
  const float above = x > 0.0f ? x : 0.0f;
  return above < 1.0f ? above : 1.0f;
}

// The upper half of a reciprocal.
HT_FN double ht_nv_rcp64h(double x) {
  return ht_f64_of_bits(ht_f64_bits(1.0 / x) & 0xffffffff00000000u);
}

// Past 600 every float has become zero or infinite, and a double has not yet.
HT_FN float ht_nv_ldexpf(float x, int32_t n) {
  const int32_t above = n > -600 ? n : -600;
  const int64_t exponent = above < 600 ? above : 600;
  return (float)(x * ht_f64_of_bits((uint64_t)(exponent + 1023) << 52));
}
HT_FN double ht_nv_ldexp(double x, int32_t n) { return scalbn(x, n); }

HT_FN float ht_nv_nextafterf(float x, float y) {
  const float next = x < y ? ht_next_up_f32(x) : ht_next_down_f32(x);
  const float other = x == y ? y : next;
  return ((x == x) & (y == y)) ? other : x + y;
}

HT_FN float ht_nv_fdimf(float x, float y) {
  const float apart = x - y;
  return x <= y ? 0.0f : apart;
}
HT_FN double ht_nv_fdim(double x, double y) {
  const double apart = x - y;
  return x <= y ? 0.0 : apart;
}

// In double an exponent of 32 bits stays whole.
HT_FN float ht_nv_powif(float x, int32_t n) { return (float)pow(x, n); }
HT_FN double ht_nv_powi(double x, int32_t n) { return pow(x, n); }

#endif  // HEITU_LIBDEVICE_H_
