// Gradients by PyTorch's own autograd, for backward kernels: no formula is written down twice.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

namespace heitu::cann {

using Tensors = std::vector<at::Tensor>;

// Gradients of `function` at `inputs`, weighted with `grads` of its results (undefined: zero).
// Undefined inputs stay so; an input that does not take part gets an undefined gradient.
Tensors gradients(const Tensors& inputs, const std::function<Tensors(const Tensors&)>& function,
                  const Tensors& grads);

}  // namespace heitu::cann
