// Compiled for several instruction sets, the fastest chosen when the library is loaded: without
// FMA instructions every std::fma is a library call. All of them give the same bits.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math", "fp-contract=off")
#endif

#include "philox_blocks.h"

#include "philox.h"

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define HEITU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HEITU_CLONES
#endif

namespace heitu::philox {

// Sixteen threads at a time, round by round, so that the compiler sees straight vector code.
HEITU_CLONES
void block_words(uint64_t seed, uint64_t counter, uint32_t first, int count,
                 uint32_t (*out)[kBlock]) {
  constexpr int kLanes = 16;
  for (int start = 0; start < count; start += kLanes) {
    uint32_t x[kLanes], y[kLanes], z[kLanes], w[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      x[i] = static_cast<uint32_t>(counter);
      y[i] = static_cast<uint32_t>(counter >> 32);
      z[i] = first + static_cast<uint32_t>(start + i);
      w[i] = 0;
    }
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      for (int i = 0; i < kLanes; ++i) {
        const uint64_t p0 = uint64_t{kMultiplier0} * x[i];
        const uint64_t p1 = uint64_t{kMultiplier1} * z[i];
        x[i] = static_cast<uint32_t>(p1 >> 32) ^ y[i] ^ k0;
        y[i] = static_cast<uint32_t>(p1);
        z[i] = static_cast<uint32_t>(p0 >> 32) ^ w[i] ^ k1;
        w[i] = static_cast<uint32_t>(p0);
      }
      k0 += kWeyl0;
      k1 += kWeyl1;
    }
    // kBlock is a multiple of kLanes: what is written past `count` stays inside the block.
    for (int i = 0; i < kLanes; ++i) {
      out[0][start + i] = x[i];
      out[1][start + i] = y[i];
      out[2][start + i] = z[i];
      out[3][start + i] = w[i];
    }
  }
}

HEITU_CLONES
void block_uniform(const uint32_t* __restrict__ words, int count, float* __restrict__ out) {
  for (int i = 0; i < count; ++i) out[i] = uniform(words[i]);
}

HEITU_CLONES
void block_uniform(const uint32_t* __restrict__ low, const uint32_t* __restrict__ high, int count,
                   double* __restrict__ out) {
  for (int i = 0; i < count; ++i) out[i] = uniform_double(low[i], high[i]);
}

HEITU_CLONES
void block_normal(const uint32_t* __restrict__ a, const uint32_t* __restrict__ b, int count,
                  float* __restrict__ first, float* __restrict__ second) {
  for (int i = 0; i < count; ++i) {
    const Pair pair = normal(a[i], b[i]);
    first[i] = pair.first;
    second[i] = pair.second;
  }
}

void block_normal(const uint32_t (*words)[kBlock], int count, double* __restrict__ first,
                  double* __restrict__ second) {
  for (int i = 0; i < count; ++i) {
    const DoublePair pair = normal_double({words[0][i], words[1][i], words[2][i], words[3][i]});
    first[i] = pair.first;
    second[i] = pair.second;
  }
}

HEITU_CLONES
void block_affine(float* values, int count, float scale, float shift) {
  for (int i = 0; i < count; ++i) values[i] = std::fma(values[i], scale, shift);
}

HEITU_CLONES
void block_affine(double* values, int count, double scale, double shift) {
  for (int i = 0; i < count; ++i) values[i] = std::fma(values[i], scale, shift);
}

}  // namespace heitu::philox
