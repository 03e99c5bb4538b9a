// Rotary position embeddings.
#include <ATen/ATen.h>

#include "gradient.h"
#include "operators.h"

namespace heitu::cann {
namespace {

enum Order : int64_t { kHalves = 0, kInterleaved = 1 };

// Each pair turned by a quarter: pairs are the two halves, or neighbours.
at::Tensor turned(const at::Tensor& x, int64_t order) {
  if (order == kHalves) {
    const auto halves = x.chunk(2, -1);
    return at::cat({-halves[1], halves[0]}, -1);
  }
  if (order != kInterleaved) {
    throw std::runtime_error("rotary mode " + std::to_string(order) + " is not emulated");
  }
  const auto pairs = x.unflatten(-1, {-1, 2});
  return at::stack({-pairs.select(-1, 1), pairs.select(-1, 0)}, -1).flatten(-2);
}

at::Tensor rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                   int64_t order) {
  const auto wide = x.to(at::kFloat);
  return wide * cos.to(at::kFloat) + turned(wide, order) * sin.to(at::kFloat);
}

}  // namespace

HEITU_KERNEL(rotary) {
  const auto out = call.index("out");
  if (call.has(call.index("rotate"))) throw std::runtime_error("a rotation matrix is not emulated");
  call.put(out, rotated(call.tensor(0), call.tensor(1), call.tensor(2), call.integer(3)));
}

HEITU_KERNEL(rotary_backward) {
  const auto order = call.integer(4);
  const bool has_x = call.has(3);
  const auto x = has_x ? call.tensor(3) : at::zeros_like(call.tensor(0));
  const auto grads =
      gradients({x, call.tensor(1), call.tensor(2)},
                [&](const Tensors& in) -> Tensors { return {rotated(in[0], in[1], in[2], order)}; },
                {call.tensor(0)});
  call.put(5, grads[0]);
  if (!has_x) return;
  call.put(6, grads[1]);
  call.put(7, grads[2]);
}

HEITU_KERNEL(rotary_in_place) {
  const bool halves =
      call.text(call.index("mode")).empty() || call.text(call.index("mode")) == "half";
  const int64_t order = halves ? kHalves : kInterleaved;
  const auto cos = call.tensor(2), sin = call.tensor(3);
  for (const size_t i : {size_t{0}, size_t{1}})
    call.put(i, rotated(call.tensor(i), cos, sin, order));
}

HEITU_KERNEL(interleave_rope) {
  const auto pairs = call.tensor(0).unflatten(-1, {-1, 2});
  const auto apart = at::cat({pairs.select(-1, 0), pairs.select(-1, 1)}, -1);
  call.put(3, rotated(apart, call.tensor(1), call.tensor(2), kHalves));
}

}  // namespace heitu::cann
