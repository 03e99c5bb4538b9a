// Layer norm of 16-bit floats: the CPU adds gradients up in 16 bits and gives the mean in them,
// CUDA does both in 32.
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>

#include "../prelude.h"
#include "../registry.h"
#include "on_host.h"

namespace heitu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor converted(const Tensor& tensor, at::ScalarType type) {
  return tensor.defined() ? tensor.to(type) : tensor;
}

std::tuple<Tensor, Tensor, Tensor> layer_norm(const Tensor& input, at::IntArrayRef shape,
                                              const OptionalTensor& weight,
                                              const OptionalTensor& bias, double eps) {
  const OnHost host(input);
  const auto type = input.scalar_type(), acc = accumulate_type(type);
  auto [result, mean, rstd] =
      at::native_layer_norm(host.view(input).to(acc), shape, converted(host.view(weight), acc),
                            converted(host.view(bias), acc), eps);
  return {host.result(result.to(type)), host.result(mean), host.result(rstd)};
}

std::tuple<Tensor, Tensor, Tensor> layer_norm_backward(const Tensor& grad_out, const Tensor& input,
                                                       at::IntArrayRef shape, const Tensor& mean,
                                                       const Tensor& rstd,
                                                       const OptionalTensor& weight,
                                                       const OptionalTensor& bias,
                                                       std::array<bool, 3> mask) {
  const OnHost host(input);
  const auto type = input.scalar_type(), acc = accumulate_type(type);
  const Tensor factor = host.view(weight), offset = host.view(bias);
  auto [grad_input, grad_weight, grad_bias] = at::native_layer_norm_backward(
      host.view(grad_out).to(acc), host.view(input).to(acc), shape, host.view(mean).to(acc),
      host.view(rstd).to(acc), converted(factor, acc), converted(offset, acc), mask);
  const auto of_factor = factor.defined() ? factor.scalar_type() : type;
  return {host.result(converted(grad_input, type)), host.result(converted(grad_weight, of_factor)),
          host.result(converted(grad_bias, offset.defined() ? offset.scalar_type() : of_factor))};
}

HEITU_KERNELS(layer_norm) {
  m.impl("native_layer_norm", layer_norm);
  m.impl("native_layer_norm_backward", layer_norm_backward);
}

}  // namespace
}  // namespace heitu
