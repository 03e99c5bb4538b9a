// Kernels for which no operator of PyTorch's has the same arguments: picking and placing elements.
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {
namespace {

// The place of a result: the last argument where there is one more than `inputs`, else the first.
size_t place_after(const Call& call, size_t inputs) { return call.size() > inputs ? inputs : 0; }

at::Tensor index_of(const std::vector<int64_t>& values) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong));
}

}  // namespace

HEITU_KERNEL(cat) { call.put(2, at::cat(call.tensors(0), call.integer(1))); }

HEITU_KERNEL(index_fill_list) {
  const auto index = index_of(call.ints(2));
  call.put(place_after(call, 4),
           at::index_fill(call.tensor(0), call.integer(1), index, call.scalar(3)));
}

HEITU_KERNEL(masked_fill) {
  const auto value = call.tensor(2);
  auto self = call.tensor(0);
  self.masked_fill_(call.tensor(1), value.dim() == 0 ? value : value.reshape({}));
}

HEITU_WAITING_KERNEL(masked_select) {
  call.put_sized(2, at::masked_select(call.tensor(0), call.tensor(1)));
}
HEITU_WAITING_KERNEL(nonzero) { call.put_sized(1, at::nonzero(call.tensor(0))); }
HEITU_WAITING_KERNEL(nonzero_transposed) { call.put_sized(1, at::nonzero(call.tensor(0)).t()); }

HEITU_KERNEL(scatter) {
  const char* reductions[] = {"", "add", "multiply"};
  const auto self = call.tensor(0), index = call.tensor(2);
  const int64_t dim = call.integer(1), reduction = call.integer(4);
  const bool by_tensor = std::holds_alternative<Tensor>(call.argument(3));
  at::Tensor result;
  if (by_tensor) {
    const auto source = call.tensor(3);
    result = reduction == 0 ? at::scatter(self, dim, index, source)
                            : at::scatter(self, dim, index, source, reductions[reduction]);
  } else {
    const auto value = call.scalar(3);
    result = reduction == 0 ? at::scatter(self, dim, index, value)
                            : at::scatter(self, dim, index, value, reductions[reduction]);
  }
  call.put(place_after(call, 5), result);
}

HEITU_KERNEL(scatter_reduce) {
  const char* reductions[] = {"", "sum", "prod", "amax", "amin", "mean"};
  const auto self = call.tensor(0), index = call.tensor(2), source = call.tensor(3);
  const int64_t dim = call.integer(1), reduction = call.integer(4);
  const auto result = reduction == 0 ? at::scatter(self, dim, index, source)
                                     : at::scatter_reduce(self, dim, index, source,
                                                          reductions[reduction], call.flag(5));
  call.put(place_after(call, 6), result);
}

HEITU_KERNEL(one_hot) {
  const auto self = call.tensor(0), out = call.tensor(5);
  const auto hot = at::eq(self.unsqueeze(call.integer(4)),
                          at::arange(call.integer(1), self.options().dtype(at::kLong)));
  call.put(5, at::where(hot, call.tensor(2), call.tensor(3)).to(out.scalar_type()));
}

HEITU_KERNEL(strided_slice) {
  auto view = call.tensor(0);
  const auto begin = call.ints(1), end = call.ints(2), strides = call.ints(3);
  for (size_t i = 0; i < begin.size(); ++i) {
    const auto dim = static_cast<int64_t>(i);
    const bool open_begin = call.integer(4) >> i & 1, open_end = call.integer(5) >> i & 1;
    view = view.slice(dim, open_begin ? std::nullopt : std::optional(begin[i]),
                      open_end ? std::nullopt : std::optional(end[i]),
                      strides.empty() ? 1 : strides[i]);
  }
  call.put(9, view);
}

HEITU_WAITING_KERNEL(unique) {
  const bool counted = call.size() > 5;
  const auto [values, inverse, counts] = at::_unique2(call.tensor(0), call.flag(1), true, true);
  const size_t first = counted ? 4 : 3;
  call.put_sized(first, values);
  if (call.flag(2)) call.put(first + 1, inverse);
  if (counted && call.flag(3)) call.put_sized(first + 2, counts);
}

HEITU_WAITING_KERNEL(unique_consecutive) {
  constexpr int64_t kFlattened = 1000;  // what the plugin passes for "no dimension"
  const auto dim = call.integer(3);
  const auto [values, inverse, counts] = at::unique_consecutive(
      call.tensor(0), true, true, dim >= kFlattened ? std::nullopt : std::optional(dim));
  call.put_sized(4, values);
  if (call.flag(1)) call.put(5, inverse);
  if (call.flag(2)) call.put_sized(6, counts);
}

HEITU_WAITING_KERNEL(unique_dim) {
  const auto [values, inverse, counts] =
      at::unique_dim(call.tensor(0), call.integer(3), call.flag(1), true, true);
  call.put_sized(4, values);
  if (call.flag(2)) call.put(5, inverse);
  call.put_sized(6, counts);
}

HEITU_KERNEL(confusion_transpose) {
  const auto self = call.tensor(0);
  const auto order = call.ints(1), shape = call.ints(2);
  call.put(4,
           call.flag(3) ? self.permute(order).reshape(shape) : self.reshape(shape).permute(order));
}

}  // namespace heitu::cann
