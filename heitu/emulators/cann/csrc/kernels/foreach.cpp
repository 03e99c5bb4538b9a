// Operators over lists of tensors that PyTorch lacks, or has under other names.
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {
namespace {

// How numbers are rounded, as the plugin's codes say.
at::Tensor rounded(const at::Tensor& x, int64_t mode) {
  switch (mode) {
    case 1:
      return at::round(x);
    case 2:
      return at::floor(x);
    case 3:
      return at::ceil(x);
    case 4:
      return at::round(x);
    case 5:
      return at::trunc(x);
    case 7:
      return at::frac(x);
    default:
      throw std::runtime_error("rounding mode " + std::to_string(mode) + " is not emulated");
  }
}

}  // namespace

HEITU_KERNEL(foreach_copy) { call.put(1, call.tensors(0)); }

HEITU_KERNEL(foreach_round) {
  std::vector<at::Tensor> results;
  for (const auto& x : call.tensors(0)) results.push_back(rounded(x, call.integer(1)));
  call.put(2, results);
}

HEITU_KERNEL(unscale) {
  auto found = call.tensor(1);
  const auto scale = call.tensor(2).item<float>();
  bool finite = true;
  for (auto& gradient : call.tensors(0)) {
    finite = finite && at::isfinite(gradient).all().item<bool>();
    gradient.mul_(scale);
  }
  if (!finite) found.fill_(1);
}

HEITU_KERNEL(update_scale) {
  auto scale = call.tensor(0), tracker = call.tensor(1);
  if (call.tensor(2).item<float>() != 0) {
    scale.mul_(call.real(4));
    tracker.zero_();
    return;
  }
  const int64_t steps = tracker.item<int64_t>() + 1;
  if (steps < call.integer(5)) {
    tracker.fill_(steps);
    return;
  }
  const auto grown = scale * call.real(3);
  if (at::isfinite(grown).all().item<bool>()) scale.copy_(grown);
  tracker.zero_();
}

}  // namespace heitu::cann
