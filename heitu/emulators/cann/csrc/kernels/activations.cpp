// Activations that are the chip's own, or whose arguments differ from PyTorch's.
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {
namespace {

const char* approximation(int64_t mode) { return mode == 1 ? "tanh" : "none"; }

std::pair<at::Tensor, at::Tensor> halves(const at::Tensor& whole, int64_t dim) {
  const auto parts = whole.chunk(2, dim);
  return {parts[0], parts[1]};
}

constexpr double kFastGelu = 1.702;

}  // namespace

HEITU_KERNEL(gelu) { call.put(2, at::gelu(call.tensor(0), approximation(call.integer(1)))); }

HEITU_KERNEL(prelu_backward) {
  const auto [input, weight] =
      at::_prelu_kernel_backward(call.tensor(0), call.tensor(1), call.tensor(2));
  call.put(3, input);
  const auto out = call.tensor(4);
  at::Tensor summed = weight;
  if (out.numel() == 1) {
    summed = weight.sum();
  } else if (weight.sizes() != out.sizes()) {
    std::vector<int64_t> others{0};
    for (int64_t dim = 2; dim < weight.dim(); ++dim) others.push_back(dim);
    summed = weight.sum(others);
  }
  call.put(4, summed);
}

HEITU_KERNEL(fast_gelu) {
  const auto x = call.tensor(0);
  call.put(1, x * at::sigmoid(x * kFastGelu));
}

HEITU_KERNEL(fast_gelu_backward) {
  const auto x = call.tensor(1);
  const auto s = at::sigmoid(x * kFastGelu);
  call.put(2, call.tensor(0) * (s + x * kFastGelu * s * (1 - s)));
}

HEITU_KERNEL(swiglu) {
  const auto [gate, value] = halves(call.tensor(0).to(at::kFloat), call.integer(1));
  call.put(2, at::silu(gate) * value);
}

HEITU_KERNEL(swiglu_backward) {
  const auto grad = call.tensor(0).to(at::kFloat);
  const auto [gate, value] = halves(call.tensor(1).to(at::kFloat), call.integer(2));
  const auto first = at::silu_backward(grad * value, gate);
  call.put(3, at::cat({first, grad * at::silu(gate)}, call.integer(2)));
}

HEITU_KERNEL(geglu) {
  auto [value, gate] = halves(call.tensor(0), call.integer(1));
  if (call.flag(3)) std::swap(value, gate);
  const auto active = at::gelu(gate, approximation(call.integer(2)));
  call.put(4, value * active);
  call.put(5, active);
}

HEITU_KERNEL(geglu_backward) {
  const auto grad = call.tensor(0);
  const bool left = call.flag(5);
  auto [value, gate] = halves(call.tensor(1), call.integer(3));
  if (left) std::swap(value, gate);
  auto to_value = grad * call.tensor(2);
  auto to_gate = at::gelu_backward(grad * value, gate, approximation(call.integer(4)));
  if (left) std::swap(to_value, to_gate);
  call.put(6, at::cat({to_value, to_gate}, call.integer(3)));
}

HEITU_KERNEL(gelu_mul) {
  const auto [first, second] = halves(call.tensor(0), -1);
  call.put(2, at::gelu(first, call.text(1)) * second);
}

HEITU_KERNEL(log_sigmoid_backward) { call.put(3, call.tensor(0) * at::sigmoid(-call.tensor(1))); }

}  // namespace heitu::cann
