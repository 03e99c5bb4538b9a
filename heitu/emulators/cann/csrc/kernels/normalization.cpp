// Normalization. As on the chip, statistics are those of float32 whatever the type of the input.
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {
namespace {

at::Tensor single(const at::Tensor& tensor) {
  return tensor.defined() && tensor.scalar_type() != at::kDouble ? tensor.to(at::kFloat) : tensor;
}

// The trailing dimensions that `gamma` spans.
std::vector<int64_t> spanned(const at::Tensor& gamma) {
  std::vector<int64_t> dims;
  for (int64_t dim = -gamma.dim(); dim < 0; ++dim) dims.push_back(dim);
  return dims;
}

std::pair<at::Tensor, at::Tensor> rms(const at::Tensor& x, const at::Tensor& gamma,
                                      double epsilon) {
  const auto rstd = at::rsqrt(at::mean(x * x, spanned(gamma), true) + epsilon);
  return {x * rstd, rstd};
}

}  // namespace

HEITU_KERNEL(layer_norm_backward) {
  const auto input = single(call.tensor(1));
  const auto mean = single(call.tensor(3)), rstd = single(call.tensor(4));
  const auto weight = single(call.tensor(5)), bias = single(call.tensor(6));
  const auto grads =
      at::native_layer_norm_backward(single(call.tensor(0)), input, call.ints(2), mean, rstd,
                                     weight, bias.defined() ? bias : weight, {true, true, true});
  call.put(8, std::get<0>(grads));
  call.put(9, std::get<1>(grads));
  call.put(10, std::get<2>(grads));
}

HEITU_KERNEL(rms_norm) {
  const auto gamma = single(call.tensor(1));
  const auto [normal, rstd] = rms(single(call.tensor(0)), gamma, call.real(2));
  call.put(3, normal * gamma);
  call.put(4, rstd);
}

HEITU_KERNEL(gemma_rms_norm) {
  const auto gamma = single(call.tensor(1));
  const auto [normal, rstd] = rms(single(call.tensor(0)), gamma, call.real(2));
  call.put(3, normal * (gamma + 1));
  call.put(4, rstd);
}

HEITU_KERNEL(add_rms_norm) {
  const auto gamma = single(call.tensor(2));
  const auto sum = single(call.tensor(0)) + single(call.tensor(1));
  const auto [normal, rstd] = rms(sum, gamma, call.real(3));
  call.put(4, normal * gamma);
  call.put(5, rstd);
  call.put(6, sum);
}

HEITU_KERNEL(rms_norm_backward) {
  const auto dy = single(call.tensor(0)), x = single(call.tensor(1)), rstd = single(call.tensor(2)),
             gamma = single(call.tensor(3));
  const auto dims = spanned(gamma);
  const auto normal = x * rstd, scaled = dy * gamma;
  call.put(4, (scaled - normal * at::mean(scaled * normal, dims, true)) * rstd);
  call.put(5, (dy * normal).reshape({-1, gamma.numel()}).sum(0));
}

HEITU_KERNEL(add_layer_norm) {
  auto sum = single(call.tensor(0)) + single(call.tensor(1));
  const auto bias = single(call.tensor(4));
  if (bias.defined()) sum = sum + bias;
  const auto gamma = single(call.tensor(2));
  const auto results =
      at::native_layer_norm(sum, gamma.sizes(), gamma, single(call.tensor(3)), call.real(5));
  call.put(7, std::get<0>(results));
  call.put(8, std::get<1>(results));
  call.put(9, std::get<2>(results));
  if (call.flag(6)) call.put(10, sum);
}

HEITU_KERNEL(batch_norm_elemt) {
  const auto input = single(call.tensor(0));
  std::vector<int64_t> shape(static_cast<size_t>(input.dim()), 1);
  shape[1] = input.size(1);
  const auto wide = [&](size_t index) { return single(call.tensor(index)).reshape(shape); };
  auto out = (input - wide(3)) * wide(4);
  if (call.has(1)) out = out * wide(1);
  if (call.has(2)) out = out + wide(2);
  call.put(6, out);
}

HEITU_KERNEL(batch_norm) {
  const auto given = [&](size_t index) {
    return call.has(index) ? std::optional(call.tensor(index)) : std::nullopt;
  };
  const auto results = at::native_batch_norm(call.tensor(0), given(1), given(2), given(3), given(4),
                                             call.flag(5), call.real(6), call.real(7));
  call.put(8, std::get<0>(results));
  if (call.flag(5)) {  // else nothing is saved
    call.put(9, std::get<1>(results));
    call.put(10, std::get<2>(results));
  }
}

}  // namespace heitu::cann
