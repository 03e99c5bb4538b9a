// The plugin's autocast lists: PyTorch's own for GPUs, as plugins take them over.
#pragma once

#include <ATen/Operators.h>
#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace standin {

inline void register_autocast(torch::Library& m) {
  using namespace at;
  using namespace at::autocast;
#define STANDIN_LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define STANDIN_FP32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define STANDIN_FP32_OUTPUT(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define STANDIN_FP32_APPENDED(...) KERNEL_DIFFERENT_REDISPATCH_SIGNATURE_PRIVATEUSEONE(__VA_ARGS__)
#define STANDIN_PROMOTE(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
  AT_FORALL_LOWER_PRECISION_FP(STANDIN_LOWER)
  AT_FORALL_FP32(STANDIN_FP32)
  AT_FORALL_FP32_SET_OPT_DTYPE(STANDIN_FP32_OUTPUT)
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(STANDIN_FP32_APPENDED)
  AT_FORALL_PROMOTE(STANDIN_PROMOTE)
#undef STANDIN_LOWER
#undef STANDIN_FP32
#undef STANDIN_FP32_OUTPUT
#undef STANDIN_FP32_APPENDED
#undef STANDIN_PROMOTE
}

}  // namespace standin
