// Gradients of losses that PyTorch composes of others.
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {
namespace {

constexpr int64_t kMean = 1;

at::Tensor averaged(const at::Tensor& grad, const at::Tensor& self, int64_t reduction) {
  return reduction == kMean ? grad / self.numel() : grad;
}

}  // namespace

HEITU_KERNEL(l1_loss_backward) {
  const auto self = call.tensor(1);
  const auto sign = at::sign(self - call.tensor(2));
  call.put(4,
           at::expand_copy(averaged(call.tensor(0), sign, call.integer(3)) * sign, sign.sizes()));
}

HEITU_KERNEL(kl_div_backward) {
  const auto grad = call.tensor(0), self = call.tensor(1), target = call.tensor(2);
  const auto slope = call.flag(4) ? -at::exp(target) : at::where(target > 0, -target, 0);
  call.put(5, averaged(grad, self, call.integer(3)) * slope);
}

HEITU_KERNEL(kl_div_target_backward) {
  const auto grad = call.tensor(0), self = call.tensor(1), target = call.tensor(2);
  const auto slope = call.flag(4) ? (target + 1 - self) * at::exp(target)
                                  : at::where(target > 0, at::log(target) + 1 - self, 0);
  call.put(5, averaged(grad, self, call.integer(3)) * slope);
}

HEITU_KERNEL(bce_with_logits_backward) {
  const auto self = call.tensor(1), target = call.tensor(2), weight = call.tensor(3),
             positive = call.tensor(4);
  auto slope = at::sigmoid(self);
  if (positive.defined()) {
    const auto t = positive * target;
    slope = (t + 1 - target) * slope - t;
  } else {
    slope = slope - target;
  }
  slope = slope * call.tensor(0);
  if (weight.defined()) slope = slope * weight;
  call.put(6, averaged(slope, self, call.integer(5)));
}

// The chip pads the table of its forward pass to multiples of eight.
HEITU_KERNEL(ctc_loss) {
  const auto [loss, table] = at::_ctc_loss(call.tensor(0), call.tensor(1), call.ints(2),
                                           call.ints(3), call.integer(4), call.flag(5));
  call.put(6, loss);
  auto place = call.tensor(7);
  place.zero_();
  place.narrow(2, 0, table.size(2)).copy_(table);
}

HEITU_KERNEL(ctc_loss_backward) {
  const auto targets = call.ints(4);
  const int64_t longest = *std::max_element(targets.begin(), targets.end());
  const auto table = call.tensor(6).narrow(2, 0, 2 * longest + 1).contiguous();
  call.put(9,
           at::_ctc_loss_backward(call.tensor(0), call.tensor(1), call.tensor(2), call.ints(3),
                                  targets, call.tensor(5), table, call.integer(7), call.flag(8)));
}

}  // namespace heitu::cann
