// Pooling and resampling, whose scales and divisors come as plain numbers that may mean "none".
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {
namespace {

std::optional<int64_t> divisor_of(const Call& call, size_t index) {
  const int64_t divisor = call.integer(index);
  return divisor == 0 ? std::nullopt : std::optional(divisor);
}

// Scales from `first` on; 0 and less mean that the sizes say it.
std::vector<std::optional<double>> scales_of(const Call& call, size_t first, size_t last) {
  std::vector<std::optional<double>> scales;
  for (size_t i = first; i < last; ++i) {
    const double scale = call.real(i);
    scales.push_back(scale > 0 ? std::optional(scale) : std::nullopt);
  }
  return scales;
}

}  // namespace

HEITU_KERNEL(avg_pool2d) {
  call.put(8, at::avg_pool2d(call.tensor(0), call.ints(1), call.ints(2), call.ints(3), call.flag(4),
                             call.flag(5), divisor_of(call, 6)));
}

HEITU_KERNEL(avg_pool2d_backward) {
  call.put(9,
           at::avg_pool2d_backward(call.tensor(0), call.tensor(1), call.ints(2), call.ints(3),
                                   call.ints(4), call.flag(5), call.flag(6), divisor_of(call, 7)));
}

// In float32: the CPU averages no volumes of 16 bits.
HEITU_KERNEL(avg_pool3d) {
  call.put(7, at::avg_pool3d(call.tensor(0).to(at::kFloat), call.ints(1), call.ints(2),
                             call.ints(3), call.flag(4), call.flag(5), divisor_of(call, 6)));
}

HEITU_KERNEL(avg_pool3d_backward) {
  call.put(8, at::avg_pool3d_backward(call.tensor(0).to(at::kFloat), call.tensor(1).to(at::kFloat),
                                      call.ints(2), call.ints(3), call.ints(4), call.flag(5),
                                      call.flag(6), divisor_of(call, 7)));
}

// The mask's layout is the chip's own and nobody else reads it; the backward finds the places
// again.
HEITU_KERNEL(max_pool2d_with_mask) {
  const auto [out, indices] = at::max_pool2d_with_indices(
      call.tensor(0), call.ints(1), call.ints(2), call.ints(3), call.ints(4), call.flag(5));
  call.put(6, out);
  call.tensor(7).zero_();
}

HEITU_KERNEL(max_pool2d_backward) {
  const auto self = call.tensor(1);
  const auto kernel = call.ints(3), stride = call.ints(4), padding = call.ints(5),
             dilation = call.ints(6);
  const bool ceil = call.flag(7);
  const auto [_, indices] =
      at::max_pool2d_with_indices(self, kernel, stride, padding, dilation, ceil);
  call.put(8, at::max_pool2d_with_indices_backward(call.tensor(0), self, kernel, stride, padding,
                                                   dilation, ceil, indices));
}

HEITU_KERNEL(upsample_nearest) {
  const auto self = call.tensor(0);
  const auto size = call.ints(1);
  const size_t last = call.size() - 1;
  const auto s = scales_of(call, 2, last);
  if (s.size() == 1) call.put(last, at::upsample_nearest1d(self, size, s[0]));
  if (s.size() == 2) call.put(last, at::upsample_nearest2d(self, size, s[0], s[1]));
  if (s.size() == 3) call.put(last, at::upsample_nearest3d(self, size, s[0], s[1], s[2]));
}

HEITU_KERNEL(upsample_nearest_backward) {
  const auto grad = call.tensor(0);
  const auto size = call.ints(1), from = call.ints(2);
  const size_t last = call.size() - 1;
  const auto s = scales_of(call, 3, last);
  if (s.size() == 1) call.put(last, at::upsample_nearest1d_backward(grad, size, from, s[0]));
  if (s.size() == 2) call.put(last, at::upsample_nearest2d_backward(grad, size, from, s[0], s[1]));
  if (s.size() == 3) {
    call.put(last, at::upsample_nearest3d_backward(grad, size, from, s[0], s[1], s[2]));
  }
}

HEITU_KERNEL(upsample_nearest_exact) {
  const auto self = call.tensor(0);
  const auto size = call.ints(1);
  const size_t last = call.size() - 1;
  const auto s = scales_of(call, 2, last);
  if (s.size() == 1) call.put(last, at::_upsample_nearest_exact1d(self, size, s[0]));
  if (s.size() == 2) call.put(last, at::_upsample_nearest_exact2d(self, size, s[0], s[1]));
  if (s.size() == 3) call.put(last, at::_upsample_nearest_exact3d(self, size, s[0], s[1], s[2]));
}

HEITU_KERNEL(upsample_nearest_exact_backward) {
  const auto grad = call.tensor(0);
  const auto size = call.ints(1), from = call.ints(2);
  const size_t last = call.size() - 1;
  const auto s = scales_of(call, 3, last);
  if (s.size() == 1) call.put(last, at::_upsample_nearest_exact1d_backward(grad, size, from, s[0]));
  if (s.size() == 2) {
    call.put(last, at::_upsample_nearest_exact2d_backward(grad, size, from, s[0], s[1]));
  }
  if (s.size() == 3) {
    call.put(last, at::_upsample_nearest_exact3d_backward(grad, size, from, s[0], s[1], s[2]));
  }
}

HEITU_KERNEL(upsample_linear) {
  const auto self = call.tensor(0);
  const auto size = call.ints(1);
  const bool corners = call.flag(2);
  const size_t last = call.size() - 1;
  const auto s = scales_of(call, 3, last);
  if (s.size() == 1) call.put(last, at::upsample_linear1d(self, size, corners, s[0]));
  if (s.size() == 2) call.put(last, at::upsample_bilinear2d(self, size, corners, s[0], s[1]));
  if (s.size() == 3)
    call.put(last, at::upsample_trilinear3d(self, size, corners, s[0], s[1], s[2]));
}

HEITU_KERNEL(upsample_linear_backward) {
  const auto grad = call.tensor(0);
  const auto size = call.ints(1), from = call.ints(2);
  const bool corners = call.flag(3);
  const size_t last = call.size() - 1;
  const auto s = scales_of(call, 4, last);
  if (s.size() == 1)
    call.put(last, at::upsample_linear1d_backward(grad, size, from, corners, s[0]));
  if (s.size() == 2) {
    call.put(last, at::upsample_bilinear2d_backward(grad, size, from, corners, s[0], s[1]));
  }
  if (s.size() == 3) {
    call.put(last, at::upsample_trilinear3d_backward(grad, size, from, corners, s[0], s[1], s[2]));
  }
}

HEITU_KERNEL(upsample_bicubic) {
  const auto s = scales_of(call, 3, 5);
  call.put(5, at::upsample_bicubic2d(call.tensor(0), call.ints(1), call.flag(2), s[0], s[1]));
}

HEITU_KERNEL(upsample_bicubic_backward) {
  const auto s = scales_of(call, 4, 6);
  call.put(6, at::upsample_bicubic2d_backward(call.tensor(0), call.ints(1), call.ints(2),
                                              call.flag(3), s[0], s[1]));
}

HEITU_KERNEL(upsample_bicubic_aa) {
  const auto s = scales_of(call, 3, 5);
  call.put(5, at::_upsample_bicubic2d_aa(call.tensor(0), call.ints(1), call.flag(2), s[0], s[1]));
}

HEITU_KERNEL(upsample_bicubic_aa_backward) {
  const auto s = scales_of(call, 4, 6);
  call.put(6, at::_upsample_bicubic2d_aa_backward(call.tensor(0), call.ints(1), call.ints(2),
                                                  call.flag(3), s[0], s[1]));
}

HEITU_KERNEL(upsample_bilinear_aa) {
  const auto s = scales_of(call, 3, 5);
  call.put(5, at::_upsample_bilinear2d_aa(call.tensor(0), call.ints(1), call.flag(2), s[0], s[1]));
}

HEITU_KERNEL(upsample_bilinear_aa_backward) {
  const auto s = scales_of(call, 4, 6);
  call.put(6, at::_upsample_bilinear2d_aa_backward(call.tensor(0), call.ints(1), call.ints(2),
                                                   call.flag(3), s[0], s[1]));
}

}  // namespace heitu::cann
