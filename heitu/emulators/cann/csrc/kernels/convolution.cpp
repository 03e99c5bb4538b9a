// Convolutions and their gradients.
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {

HEITU_KERNEL(convolution) {
  const auto input = call.tensor(0), weight = call.tensor(1);
  std::optional<at::Tensor> bias;
  if (call.has(2)) bias = call.tensor(2).to(input.scalar_type());
  call.put(9, at::convolution(input, weight, bias, call.ints(3), call.ints(4), call.ints(5),
                              call.flag(6), call.ints(7), call.integer(8)));
}

HEITU_KERNEL(convolution_backward) {
  const auto wanted = call.ints(10);
  const auto sizes = call.ints(3);
  const auto bias = sizes.empty() ? at::OptionalIntArrayRef() : at::OptionalIntArrayRef(sizes);
  const auto grads = at::convolution_backward(
      call.tensor(0), call.tensor(1), call.tensor(2), bias, call.ints(4), call.ints(5),
      call.ints(6), call.flag(7), call.ints(8), call.integer(9),
      {wanted[0] != 0, wanted[1] != 0, wanted[2] != 0 && !sizes.empty()});
  call.put(12, std::get<0>(grads));
  call.put(13, std::get<1>(grads));
  call.put(14, std::get<2>(grads));
}

HEITU_KERNEL(convolution_depthwise) {
  const auto weight = call.tensor(1);
  std::optional<at::Tensor> bias;
  if (call.has(3)) bias = call.tensor(3);
  const std::vector<int64_t> none{0, 0};
  call.put(7, at::convolution(call.tensor(0), weight, bias, call.ints(4), call.ints(5),
                              call.ints(6), false, none, call.tensor(0).size(1)));
}

}  // namespace heitu::cann
