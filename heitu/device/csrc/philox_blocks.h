// Philox for many threads at once: the inner loops that dominate randn, rand and dropout.
#pragma once

#include <cstdint>

namespace heitu::philox {

// CUDA's distribution kernels run blocks of this many threads, and so does everything here.
constexpr int kBlock = 256;

// The curand4() that stands at `counter` of the threads first .. first + count - 1; count <=
// kBlock. `out[j][i]` is the j-th word of the i-th thread.
void block_words(uint64_t seed, uint64_t counter, uint32_t first, int count,
                 uint32_t (*out)[kBlock]);

// (0, 1]; these two may be longer than a block.
void block_uniform(const uint32_t* words, int count, float* out);
void block_uniform(const uint32_t* low, const uint32_t* high, int count, double* out);

// Box-Muller: a pair of words to a pair of normals.
void block_normal(const uint32_t* a, const uint32_t* b, int count, float* first, float* second);
void block_normal(const uint32_t (*words)[kBlock], int count, double* first, double* second);

// value * scale + shift in one rounding, as nvcc compiles it.
void block_affine(float* values, int count, float scale, float shift);
void block_affine(double* values, int count, double scale, double shift);

}  // namespace heitu::philox
