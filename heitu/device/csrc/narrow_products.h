// Matrix products in 16-bit floats. A GPU accumulates them in float32; the CPU's kernels do so fast
// only where the processor has instructions for the dtype, and else are 4 to 40 times slower than
// in float32 (measured with AVX2: 256 x 256, one thread, bf16 53 ms, float32 1.9 ms). There the
// device computes in float32 and rounds once, which is also what CUDA does.
#pragma once

#include <c10/core/ScalarType.h>

namespace heitu {

inline bool slow_on_host(c10::ScalarType type) {
#if defined(__x86_64__)
  static const bool bfloat16 = !__builtin_cpu_supports("avx512bf16");
  // No name for avx512fp16 before gcc 13: those processors are taken for slow, never for fast.
  if (type == c10::ScalarType::BFloat16) return bfloat16;
  if (type == c10::ScalarType::Half) return true;
#endif
  return false;
}

}  // namespace heitu
