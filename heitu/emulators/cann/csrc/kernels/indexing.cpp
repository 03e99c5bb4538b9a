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

namespace {

// The plugin passes an empty tensor of the indexed type where a dimension is not indexed.
c10::List<std::optional<at::Tensor>> index_list(const Call& call, const at::Tensor& self) {
  c10::List<std::optional<at::Tensor>> list;
  for (const auto& each : call.tensors(1)) {
    const bool placeholder = each.dim() == 1 && each.numel() == 0 && each.dtype() == self.dtype();
    list.push_back(placeholder ? std::nullopt : std::optional(each));
  }
  return list;
}

}  // namespace

HEITU_KERNEL(index) {
  const auto self = call.tensor(0), out = call.tensor(2);
  if (out.numel() > 0) call.put(2, at::index(self, index_list(call, self)));
}

HEITU_KERNEL(index_put) {
  auto self = call.tensor(0);
  const auto list = index_list(call, self);
  const bool nothing = std::all_of(list.begin(), list.end(), [](const auto& each) {
    return !std::optional<at::Tensor>(each).has_value();
  });
  if (!nothing) at::_index_put_impl_(self, list, call.tensor(2), call.flag(3), call.flag(4));
}

HEITU_KERNEL(embedding_bag) {
  const auto weights = call.has(6) ? std::optional(call.tensor(6)) : std::nullopt;
  const auto results =
      at::_embedding_bag(call.tensor(0), call.tensor(1), call.tensor(2), call.flag(3),
                         call.integer(4), call.flag(5), weights, call.flag(7), call.integer(8));
  call.put(9, std::get<0>(results));
  const at::Tensor more[] = {std::get<1>(results), std::get<2>(results), std::get<3>(results)};
  for (size_t i = 0; i < 3; ++i) {
    // Which of these has content depends on the mode, and differs from the CPU's choice.
    if (call.has(10 + i) && call.tensor(10 + i).numel() == more[i].numel())
      call.put(10 + i, more[i]);
  }
}

HEITU_KERNEL(repeat_interleave_backward) {
  const auto grad = call.tensor(0), repeats = call.tensor(1);
  const int64_t dim = call.integer(2);
  const auto source = at::repeat_interleave(repeats.to(at::kLong));
  call.put(3, at::zeros_like(call.tensor(3)).index_add_(dim, source, grad));
}

HEITU_KERNEL(scatter_nd_update) {
  auto self = call.tensor(0);
  const auto indices = call.tensor(1).to(at::kLong);
  c10::List<std::optional<at::Tensor>> list;
  for (int64_t i = 0; i < indices.size(-1); ++i) list.push_back(indices.select(-1, i));
  at::_index_put_impl_(self, list, call.tensor(2).to(self.scalar_type()));
}

HEITU_KERNEL(scatter_update) {
  auto self = call.tensor(0);
  const auto indices = call.tensor(1).to(at::kLong), updates = call.tensor(2);
  const int64_t axis = at::maybe_wrap_dim(call.integer(3), self.dim());
  for (int64_t i = 0; i < indices.size(0); ++i) {
    const auto row = updates.select(0, i);
    const int64_t start =
        indices.dim() == 1 ? indices[i].item<int64_t>() : indices[i][0].item<int64_t>();
    auto place = self.select(0, indices.dim() == 1 ? i : indices[i][0].item<int64_t>());
    const int64_t at_axis = indices.dim() == 1 ? start : indices[i][1].item<int64_t>();
    place.narrow(axis - 1, at_axis, row.size(axis - 1)).copy_(row);
  }
}

}  // namespace heitu::cann
