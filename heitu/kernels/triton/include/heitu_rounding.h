// Arithmetic in the rounding directions that CUDA's intrinsics name: rn to nearest, rz toward zero,
// rd down, ru up. What has a float32 for result is exact in double, or compared exactly with the
// nearest float there and moved to its neighbour, which compilers vectorise. In float64 the
// processor's own rounding mode is set around one operation.
#ifndef HEITU_ROUNDING_H_
#define HEITU_ROUNDING_H_

#include <fenv.h>

#include "heitu_formats.h"

HT_FN float ht_next_up_f32(float x) {
  const uint32_t bits = ht_f32_bits(x);
  const uint32_t next = bits >> 31 ? bits - 1 : bits + 1;
  return ht_f32_of_bits(x == 0.0f ? 1u : next);
}

HT_FN float ht_next_down_f32(float x) { return -ht_next_up_f32(-x); }

// `near`, or its neighbour, given whether it lies above or below the exact result.
HT_FN float ht_down_f32(float near, int above, int below) {
  (void)below;
  return above ? ht_next_down_f32(near) : near;
}
HT_FN float ht_up_f32(float near, int above, int below) {
  (void)above;
  return below ? ht_next_up_f32(near) : near;
}
HT_FN float ht_zero_f32(float near, int above, int below) {
  const int beyond = ht_f32_bits(near) >> 31 ? below : above;
  return beyond ? ht_f32_of_bits(ht_f32_bits(near) - 1) : near;
}

// high + low exactly, high the nearest double.
typedef struct {
  double high, low;
} ht_sum_t;

HT_FN ht_sum_t ht_sum(double a, double b) {
  ht_sum_t sum;
  sum.high = a + b;
  const double part = sum.high - a;
  sum.low = (a - (sum.high - part)) + (b - part);
  return sum;
}

// The sum of two doubles. One that is exactly zero is -0 downward, unless both are +0.
#define HT_SUM_F32(mode, direction)                                                             \
  HT_FN float ht_sum_f32_##mode(double a, double b) {                                           \
    const ht_sum_t sum = ht_sum(a, b);                                                          \
    const float near = (float)sum.high;                                                         \
    const double wide = near;                                                                   \
    const int same = wide == sum.high;                                                          \
    const float result = ht_##direction##_f32(near, (wide > sum.high) | (same & (sum.low < 0)), \
                                              (wide < sum.high) | (same & (sum.low > 0)));      \
    const uint32_t sign = (uint32_t)((ht_f64_bits(a) | ht_f64_bits(b)) >> 63) << 31;            \
    return sum.high == 0.0 ? ht_##mode##_zero(sign, near) : result;                             \
  }
HT_FN float ht_rd_zero(uint32_t sign, float near) {
  (void)near;
  return ht_f32_of_bits(sign);
}
HT_FN float ht_ru_zero(uint32_t sign, float near) {
  (void)sign;
  return near;
}
HT_FN float ht_rz_zero(uint32_t sign, float near) {
  (void)sign;
  return near;
}

#define HT_DIRECTED_F32(mode, direction)                                                         \
  HT_SUM_F32(mode, direction)                                                                    \
  HT_FN float ht_nv_fadd_##mode(float a, float b) { return ht_sum_f32_##mode(a, b); }            \
  HT_FN float ht_nv_fsub_##mode(float a, float b) { return ht_sum_f32_##mode(a, -b); }           \
  HT_FN float ht_nv_fmaf_##mode(float a, float b, float c) {                                     \
    return ht_sum_f32_##mode((double)a * b, c);                                                  \
  }                                                                                              \
  HT_FN float ht_nv_double2float_##mode(double x) {                                              \
    const float near = (float)x;                                                                 \
    return ht_##direction##_f32(near, (double)near > x, (double)near < x);                       \
  }                                                                                              \
  HT_FN float ht_nv_fmul_##mode(float a, float b) {                                              \
    return ht_nv_double2float_##mode((double)a * b);                                             \
  }                                                                                              \
  HT_FN float ht_nv_fdiv_##mode(float a, float b) {                                              \
    const float near = a / b;                                                                    \
    const double back = (double)near * __builtin_fabsf(b);                                       \
    const double want = b < 0.0f ? -a : a;                                                       \
    return ht_##direction##_f32(near, (b != 0.0f) & (back > want), (b != 0.0f) & (back < want)); \
  }                                                                                              \
  HT_FN float ht_nv_frcp_##mode(float x) { return ht_nv_fdiv_##mode(1.0f, x); }                  \
  HT_FN float ht_nv_fsqrt_##mode(float x) {                                                      \
    const float near = __builtin_sqrtf(x);                                                       \
    const double square = (double)near * near;                                                   \
    return ht_##direction##_f32(near, square > x, square < x);                                   \
  }                                                                                              \
  HT_FN float ht_nv_int2float_##mode(int32_t x) { return ht_nv_double2float_##mode(x); }         \
  HT_FN float ht_nv_uint2float_##mode(uint32_t x) { return ht_nv_double2float_##mode(x); }       \
  HT_FN float ht_nv_ll2float_##mode(int64_t x) {                                                 \
    const float near = (float)x;                                                                 \
    const double apart = ((double)near - (double)(x >> 32) * 0x1p32) - (uint32_t)x;              \
    return ht_##direction##_f32(near, apart > 0, apart < 0);                                     \
  }                                                                                              \
  HT_FN float ht_nv_ull2float_##mode(uint64_t x) {                                               \
    const float near = (float)x;                                                                 \
    const double apart = ((double)near - (double)(x >> 32) * 0x1p32) - (uint32_t)x;              \
    return ht_##direction##_f32(near, apart > 0, apart < 0);                                     \
  }
HT_DIRECTED_F32(rz, zero)
HT_DIRECTED_F32(rd, down)
HT_DIRECTED_F32(ru, up)
#undef HT_DIRECTED_F32
#undef HT_SUM_F32

// Volatile, so that nothing moves across the change of mode. No inlining: a caller keeps none of
// it.
#define HT_DIRECTED_F64(name, expression)                                                         \
  __attribute__((noinline, unused)) static double ht_in_mode_##name(int mode, double x, double y, \
                                                                    double z) {                   \
    volatile double a = x, b = y, c = z;                                                          \
    (void)b;                                                                                      \
    (void)c;                                                                                      \
    fesetround(mode);                                                                             \
    volatile double result = expression;                                                          \
    fesetround(FE_TONEAREST);                                                                     \
    return result;                                                                                \
  }
HT_DIRECTED_F64(add, a + b)
HT_DIRECTED_F64(mul, (a * b))
HT_DIRECTED_F64(div, a / b)
HT_DIRECTED_F64(fma, __builtin_fma(a, b, c))
HT_DIRECTED_F64(sqrt, __builtin_sqrt(a))
#undef HT_DIRECTED_F64

#define HT_MODE_F64(mode, fe)                                                                 \
  HT_FN double ht_nv_dadd_##mode(double a, double b) { return ht_in_mode_add(fe, a, b, 0); }  \
  HT_FN double ht_nv_dsub_##mode(double a, double b) { return ht_in_mode_add(fe, a, -b, 0); } \
  HT_FN double ht_nv_dmul_##mode(double a, double b) { return ht_in_mode_mul(fe, a, b, 0); }  \
  HT_FN double ht_nv_ddiv_##mode(double a, double b) { return ht_in_mode_div(fe, a, b, 0); }  \
  HT_FN double ht_nv_drcp_##mode(double a) { return ht_in_mode_div(fe, 1.0, a, 0); }          \
  HT_FN double ht_nv_dsqrt_##mode(double a) { return ht_in_mode_sqrt(fe, a, 0, 0); }          \
  HT_FN double ht_nv_fma_##mode(double a, double b, double c) {                               \
    return ht_in_mode_fma(fe, a, b, c);                                                       \
  }                                                                                           \
  /* Both halves are exact, so that the sum alone rounds. */                                  \
  HT_FN double ht_nv_ll2double_##mode(int64_t x) {                                            \
    return ht_in_mode_add(fe, (double)(x >> 32) * 0x1p32, (uint32_t)x, 0);                    \
  }                                                                                           \
  HT_FN double ht_nv_ull2double_##mode(uint64_t x) {                                          \
    return ht_in_mode_add(fe, (double)(x >> 32) * 0x1p32, (uint32_t)x, 0);                    \
  }
HT_MODE_F64(rz, FE_TOWARDZERO)
HT_MODE_F64(rd, FE_DOWNWARD)
HT_MODE_F64(ru, FE_UPWARD)
#undef HT_MODE_F64

// ---- to nearest: C's own operators ----

HT_FN float ht_nv_fadd_rn(float a, float b) { return a + b; }
HT_FN float ht_nv_fsub_rn(float a, float b) { return a - b; }
HT_FN float ht_nv_fmul_rn(float a, float b) { return a * b; }
HT_FN float ht_nv_fdiv_rn(float a, float b) { return a / b; }
HT_FN float ht_nv_frcp_rn(float x) { return 1.0f / x; }
HT_FN float ht_nv_frsqrt_rn(float x) { return (float)(1.0 / __builtin_sqrt((double)x)); }
HT_FN double ht_nv_dadd_rn(double a, double b) { return a + b; }
HT_FN double ht_nv_dsub_rn(double a, double b) { return a - b; }
HT_FN double ht_nv_dmul_rn(double a, double b) { return a * b; }
HT_FN double ht_nv_ddiv_rn(double a, double b) { return a / b; }
HT_FN double ht_nv_drcp_rn(double x) { return 1.0 / x; }
HT_FN float ht_nv_int2float_rn(int32_t x) { return (float)x; }
HT_FN float ht_nv_uint2float_rn(uint32_t x) { return (float)x; }
HT_FN float ht_nv_ll2float_rn(int64_t x) { return (float)x; }
HT_FN float ht_nv_ull2float_rn(uint64_t x) { return (float)x; }
HT_FN double ht_nv_int2double_rn(int32_t x) { return x; }
HT_FN double ht_nv_uint2double_rn(uint32_t x) { return x; }
HT_FN double ht_nv_ll2double_rn(int64_t x) { return (double)x; }
HT_FN double ht_nv_ull2double_rn(uint64_t x) { return (double)x; }

// ---- to integers ----

#define HT_ROUND_TO(mode, round)                                                                   \
  HT_FN int32_t ht_nv_float2int_##mode(float x) { return ht_f32_to_i32(__builtin_##round##f(x)); } \
  HT_FN uint32_t ht_nv_float2uint_##mode(float x) {                                                \
    return ht_f32_to_u32(__builtin_##round##f(x));                                                 \
  }                                                                                                \
  HT_FN int64_t ht_nv_float2ll_##mode(float x) { return ht_f32_to_i64(__builtin_##round##f(x)); }  \
  HT_FN uint64_t ht_nv_float2ull_##mode(float x) {                                                 \
    return ht_f32_to_u64(__builtin_##round##f(x));                                                 \
  }                                                                                                \
  HT_FN int32_t ht_nv_double2int_##mode(double x) { return ht_f64_to_i32(__builtin_##round(x)); }  \
  HT_FN uint32_t ht_nv_double2uint_##mode(double x) {                                              \
    return ht_f64_to_u32(__builtin_##round(x));                                                    \
  }                                                                                                \
  HT_FN int64_t ht_nv_double2ll_##mode(double x) { return ht_f64_to_i64(__builtin_##round(x)); }   \
  HT_FN uint64_t ht_nv_double2ull_##mode(double x) { return ht_f64_to_u64(__builtin_##round(x)); }
HT_ROUND_TO(rn, rint)
HT_ROUND_TO(rz, trunc)
HT_ROUND_TO(rd, floor)
HT_ROUND_TO(ru, ceil)
#undef HT_ROUND_TO

#endif  // HEITU_ROUNDING_H_
