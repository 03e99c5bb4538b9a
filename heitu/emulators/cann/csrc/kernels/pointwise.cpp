// Kernels for which no operator of PyTorch's has the same arguments: element by element.
#include <ATen/ATen.h>

#include <chrono>
#include <thread>

#include "operators.h"

namespace heitu::cann {
namespace {

constexpr int64_t kTruncate = 1;
constexpr int64_t kFloor = 2;

}  // namespace

HEITU_KERNEL(copy) { call.put(2, call.tensor(0)); }

HEITU_KERNEL(div_mode) {
  std::optional<std::string_view> mode;
  if (call.integer(2) == kTruncate) mode = "trunc";
  if (call.integer(2) == kFloor) mode = "floor";
  const bool by_tensor = std::holds_alternative<Tensor>(call.argument(1));
  const auto other = by_tensor ? call.tensor(1) : at::scalar_tensor(call.scalar(1));
  const size_t place = call.size() > 3 ? 3 : 0;
  // A scalar divides in the type of the tensor, which a wrapped number does.
  const auto result = by_tensor ? at::div(call.tensor(0), other, mode)
                                : at::div(call.tensor(0), call.scalar(1), mode);
  call.put(place, result);
}

HEITU_KERNEL(equal) {
  const auto first = call.tensor(0), second = call.tensor(1);
  call.put(2, at::scalar_tensor(at::equal(first, second), at::kBool));
}

HEITU_KERNEL(arange) {
  const auto out = call.tensor(3);
  call.put(3, at::arange(call.scalar(0), call.scalar(1), call.scalar(2), out.options()));
}

HEITU_KERNEL(range) {
  const auto out = call.tensor(3);
  call.put(3, at::range(call.scalar(0), call.scalar(1), call.scalar(2), out.options()));
}

// A cycle lasts a nanosecond.
HEITU_KERNEL(sleep) {
  for (const int64_t cycles : call.ints(0))
    std::this_thread::sleep_for(std::chrono::nanoseconds(cycles));
}

}  // namespace heitu::cann
