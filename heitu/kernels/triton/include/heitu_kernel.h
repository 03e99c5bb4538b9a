// What compiled kernels have besides elementary functions and number formats: whole numbers as
// chips compute them, and the functions of the runtime that they call.
#ifndef HEITU_KERNEL_H_
#define HEITU_KERNEL_H_

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "heitu_formats.h"
#include "heitu_math.h"
#include "heitu_math_f64.h"

// Division by zero, and of the lowest number by -1, ends a program on the CPU; on chips it gives
// some number. Shifts by the width and more give what is left when every bit has gone.
#define HT_INTEGERS(bits)                                                          \
  HT_FN int##bits##_t ht_divsi_##bits(int##bits##_t a, int##bits##_t b) {          \
    return b == 0 ? -1 : b == -1 ? (int##bits##_t)(0 - (uint##bits##_t)a) : a / b; \
  }                                                                                \
  HT_FN int##bits##_t ht_remsi_##bits(int##bits##_t a, int##bits##_t b) {          \
    return b == 0 ? a : b == -1 ? 0 : a % b;                                       \
  }                                                                                \
  HT_FN uint##bits##_t ht_divui_##bits(uint##bits##_t a, uint##bits##_t b) {       \
    return b == 0 ? (uint##bits##_t) - 1 : a / b;                                  \
  }                                                                                \
  HT_FN uint##bits##_t ht_remui_##bits(uint##bits##_t a, uint##bits##_t b) {       \
    return b == 0 ? a : a % b;                                                     \
  }                                                                                \
  HT_FN int##bits##_t ht_floordivsi_##bits(int##bits##_t a, int##bits##_t b) {     \
    const int##bits##_t q = ht_divsi_##bits(a, b);                                 \
    return b != 0 && ht_remsi_##bits(a, b) != 0 && (a < 0) != (b < 0) ? q - 1 : q; \
  }                                                                                \
  HT_FN int##bits##_t ht_ceildivsi_##bits(int##bits##_t a, int##bits##_t b) {      \
    const int##bits##_t q = ht_divsi_##bits(a, b);                                 \
    return b != 0 && ht_remsi_##bits(a, b) != 0 && (a < 0) == (b < 0) ? q + 1 : q; \
  }                                                                                \
  HT_FN uint##bits##_t ht_shl_##bits(uint##bits##_t a, uint##bits##_t b) {         \
    return b < bits ? (uint##bits##_t)(a << b) : 0;                                \
  }                                                                                \
  HT_FN uint##bits##_t ht_shru_##bits(uint##bits##_t a, uint##bits##_t b) {        \
    return b < bits ? (uint##bits##_t)(a >> b) : 0;                                \
  }                                                                                \
  HT_FN int##bits##_t ht_shrs_##bits(int##bits##_t a, int##bits##_t b) {           \
    return a >> ((uint##bits##_t)b < bits ? b : bits - 1);                         \
  }                                                                                \
  HT_FN uint##bits##_t ht_maxu_##bits(uint##bits##_t a, uint##bits##_t b) {        \
    return a > b ? a : b;                                                          \
  }                                                                                \
  HT_FN uint##bits##_t ht_minu_##bits(uint##bits##_t a, uint##bits##_t b) { return a < b ? a : b; }

HT_INTEGERS(8)
HT_INTEGERS(16)
HT_INTEGERS(32)
HT_INTEGERS(64)
#undef HT_INTEGERS

HT_FN uint32_t ht_mulhiu_32(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
HT_FN uint64_t ht_mulhiu_64(uint64_t a, uint64_t b) {
  return (uint64_t)((unsigned __int128)a * b >> 64);
}
HT_FN uint32_t ht_popcount_32(uint32_t x) { return (uint32_t)__builtin_popcount(x); }
HT_FN uint64_t ht_popcount_64(uint64_t x) { return (uint64_t)__builtin_popcountll(x); }
HT_FN uint32_t ht_leading_zeros_32(uint32_t x) { return x ? (uint32_t)__builtin_clz(x) : 32; }
HT_FN uint64_t ht_leading_zeros_64(uint64_t x) { return x ? (uint64_t)__builtin_clzll(x) : 64; }
HT_FN uint32_t ht_trailing_zeros_32(uint32_t x) { return x ? (uint32_t)__builtin_ctz(x) : 32; }
HT_FN uint64_t ht_trailing_zeros_64(uint64_t x) { return x ? (uint64_t)__builtin_ctzll(x) : 64; }

// The larger or smaller of two floats: the -num ones take the number where the other is NaN, the
// -imum ones take NaN.
#define HT_EXTREMES(kind, type)                                                     \
  HT_FN type ht_maxnumf_##kind(type a, type b) { return a > b || b != b ? a : b; }  \
  HT_FN type ht_minnumf_##kind(type a, type b) { return a < b || b != b ? a : b; }  \
  HT_FN type ht_maximumf_##kind(type a, type b) { return a > b || a != a ? a : b; } \
  HT_FN type ht_minimumf_##kind(type a, type b) { return a < b || a != a ? a : b; } \
  HT_FN type ht_clamp_##kind(type x, type low, type high) {                         \
    return ht_minnumf_##kind(ht_maxnumf_##kind(x, low), high);                      \
  }                                                                                 \
  HT_FN type ht_clamp_nan_##kind(type x, type low, type high) {                     \
    return ht_minimumf_##kind(ht_maximumf_##kind(x, low), high);                    \
  }
HT_EXTREMES(f32, float)
// Lanes of a loop start with what changes nothing, and are combined at its end.
#pragma omp declare reduction(maxnum:float : omp_out = ht_maxnumf_f32(omp_out, omp_in)) \
    initializer(omp_priv = __builtin_nanf(""))
#pragma omp declare reduction(minnum:float : omp_out = ht_minnumf_f32(omp_out, omp_in)) \
    initializer(omp_priv = __builtin_nanf(""))
#pragma omp declare reduction(maximum:float : omp_out = ht_maximumf_f32(omp_out, omp_in)) \
    initializer(omp_priv = -__builtin_inff())
#pragma omp declare reduction(minimum:float : omp_out = ht_minimumf_f32(omp_out, omp_in)) \
    initializer(omp_priv = __builtin_inff())
HT_EXTREMES(f64, double)
#pragma omp declare reduction(maxnum:double : omp_out = ht_maxnumf_f64(omp_out, omp_in)) \
    initializer(omp_priv = __builtin_nan(""))
#pragma omp declare reduction(minnum:double : omp_out = ht_minnumf_f64(omp_out, omp_in)) \
    initializer(omp_priv = __builtin_nan(""))
#pragma omp declare reduction(maximum:double : omp_out = ht_maximumf_f64(omp_out, omp_in)) \
    initializer(omp_priv = -__builtin_inf())
#pragma omp declare reduction(minimum:double : omp_out = ht_minimumf_f64(omp_out, omp_in)) \
    initializer(omp_priv = __builtin_inf())
#undef HT_EXTREMES

// Of the runtime.

// c += a b, all of them dense in the order of rows: a of m x k, b of k x n.
void heitu_dot_f32(const float* a, const float* b, float* c, int64_t m, int64_t n, int64_t k);
void heitu_dot_f64(const double* a, const double* b, double* c, int64_t m, int64_t n, int64_t k);
void heitu_dot_i8(const int8_t* a, const int8_t* b, int32_t* c, int64_t m, int64_t n, int64_t k);

// Looks at memory until it holds what is expected; gives up after some nanoseconds, unless
// negative.
bool heitu_poll_16(uint16_t* address, uint16_t expected, int64_t nanoseconds);
bool heitu_poll_32(uint32_t* address, uint32_t expected, int64_t nanoseconds);
bool heitu_poll_64(uint64_t* address, uint64_t expected, int64_t nanoseconds);

// Says what a program asserted, and makes its launch fail.
void heitu_assert_failed(const char* message, const int32_t* program);
// Prints a line as the program's device_print does.
void heitu_print(const char* line, ...) __attribute__((format(printf, 1, 2)));

#endif
