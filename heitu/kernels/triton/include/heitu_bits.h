// The bits of floats, and what the other headers of compiled kernels have in common.
#ifndef HEITU_BITS_H_
#define HEITU_BITS_H_

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

// Adding 1.5 * 2^23 leaves a number's nearest integer in the lowest bits.
#define HT_ROUND_F 0x1.8p+23f
#define HT_ROUND_D 0x1.8p+52

#endif  // HEITU_BITS_H_
