// The plugin's autocast lists.
#pragma once

#include <ATen/Operators.h>
#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace standin {

inline void register_autocast(torch::Library& m) {
  using namespace at::autocast;
  using at::autocast::CastPolicy;
#define STANDIN_LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define STANDIN_FP32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
  STANDIN_LOWER(mm)
  STANDIN_LOWER(bmm)
  STANDIN_LOWER(addmm)
  STANDIN_LOWER(baddbmm)
  STANDIN_LOWER(matmul)
  STANDIN_LOWER(linear)
  STANDIN_LOWER(conv1d)
  STANDIN_LOWER(conv2d)
  STANDIN_LOWER(_convolution)
  STANDIN_LOWER(scaled_dot_product_attention)
  STANDIN_FP32(layer_norm)
  STANDIN_FP32(softmax, int)
  STANDIN_FP32(log_softmax, int)
  STANDIN_FP32(nll_loss)
  STANDIN_FP32(cross_entropy_loss)
  STANDIN_FP32(mse_loss)
  STANDIN_FP32(exp)
  STANDIN_FP32(log)
#undef STANDIN_LOWER
#undef STANDIN_FP32
}

}  // namespace standin
