// Simple operators of the graph compiler's, which the plugin still asks for here and there.
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {
namespace {

at::Tensor in(const Call& call, int index) {
  return call.tensor(call.index("in" + std::to_string(index)));
}

void out(const Call& call, const at::Tensor& result, int index = 0) {
  call.put(call.index("out" + std::to_string(index)), result);
}

at::Tensor place(const Call& call) { return call.tensor(call.index("out0")); }

std::vector<int64_t> numbers(const at::Tensor& values) {
  const auto whole = values.to(at::kLong).contiguous();
  return {whole.data_ptr<int64_t>(), whole.data_ptr<int64_t>() + whole.numel()};
}

}  // namespace

HEITU_KERNEL(graph_Identity) { out(call, in(call, 0)); }
HEITU_KERNEL(graph_TensorMove) { out(call, in(call, 0)); }
HEITU_KERNEL(graph_Cast) { out(call, in(call, 0)); }
HEITU_KERNEL(graph_ZerosLike) { out(call, at::zeros_like(in(call, 0))); }
HEITU_KERNEL(graph_OnesLike) { out(call, at::ones_like(in(call, 0))); }
HEITU_KERNEL(graph_Fill) { out(call, at::full(place(call).sizes(), in(call, 1).item())); }
HEITU_KERNEL(graph_BroadcastTo) { out(call, in(call, 0).expand(place(call).sizes())); }
HEITU_KERNEL(graph_Transpose) { out(call, in(call, 0).permute(numbers(in(call, 1)))); }
HEITU_KERNEL(graph_Add) { out(call, in(call, 0) + in(call, 1)); }
HEITU_KERNEL(graph_Sub) { out(call, in(call, 0) - in(call, 1)); }
HEITU_KERNEL(graph_Mul) { out(call, in(call, 0) * in(call, 1)); }
HEITU_KERNEL(graph_RealDiv) { out(call, in(call, 0) / in(call, 1)); }
HEITU_KERNEL(graph_Sigmoid) { out(call, at::sigmoid(in(call, 0))); }
HEITU_KERNEL(graph_Swish) { out(call, at::silu(in(call, 0))); }
HEITU_KERNEL(graph_Relu) { out(call, at::relu(in(call, 0))); }
HEITU_KERNEL(graph_Tanh) { out(call, at::tanh(in(call, 0))); }
HEITU_KERNEL(graph_Equal) { out(call, in(call, 0) == in(call, 1)); }
HEITU_KERNEL(graph_NotEqual) { out(call, in(call, 0) != in(call, 1)); }
HEITU_KERNEL(graph_Greater) { out(call, in(call, 0) > in(call, 1)); }
HEITU_KERNEL(graph_GreaterEqual) { out(call, in(call, 0) >= in(call, 1)); }
HEITU_KERNEL(graph_Less) { out(call, in(call, 0) < in(call, 1)); }
HEITU_KERNEL(graph_LessEqual) { out(call, in(call, 0) <= in(call, 1)); }

HEITU_KERNEL(graph_ReduceSum) {
  out(call, in(call, 0).sum(numbers(in(call, 1)), call.flag(call.index("keep_dims"))));
}

HEITU_KERNEL(graph_SoftmaxV2) {
  const auto axes = call.ints(call.index("axes"));
  out(call, at::softmax(in(call, 0), axes.at(0)));
}

HEITU_KERNEL(graph_ArgMaxWithValue) {
  const auto [values, indices] = at::max(in(call, 0), call.integer(call.index("dimension")),
                                         call.flag(call.index("keep_dims")));
  out(call, indices);
  out(call, values, 1);
}

HEITU_KERNEL(graph_ArgMinWithValue) {
  const auto [values, indices] = at::min(in(call, 0), call.integer(call.index("dimension")),
                                         call.flag(call.index("keep_dims")));
  out(call, indices);
  out(call, values, 1);
}

HEITU_KERNEL(graph_RotaryMul) {
  const auto x = in(call, 0);
  const auto halves = x.chunk(2, -1);
  out(call, x * in(call, 1) + at::cat({-halves[1], halves[0]}, -1) * in(call, 2));
}

HEITU_KERNEL(graph_ConfusionTransposeD) {
  const auto order = call.ints(call.index("perm")), shape = call.ints(call.index("shape"));
  const auto x = in(call, 0);
  const bool first = call.flag(call.index("transpose_first"));
  out(call, first ? x.permute(order).reshape(shape) : x.reshape(shape).permute(order));
}

}  // namespace heitu::cann
