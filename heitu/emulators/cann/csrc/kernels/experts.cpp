// Mixtures of experts: which expert gets which token, and products of groups of rows.
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {
namespace {

at::Tensor whole(const at::Tensor& x) { return x.to(at::kLong); }

// The places of a permutation: where each element went.
at::Tensor places_of(const at::Tensor& order) {
  return at::empty_like(order).scatter_(0, order, at::arange(order.numel(), order.options()));
}

std::pair<at::Tensor, at::Tensor> sorted(const at::Tensor& experts) {
  const auto [values, order] = at::sort(whole(experts).flatten(), /*stable=*/true, 0, false);
  return {values, order};
}

at::Tensor token_counts(const at::Tensor& experts, int64_t count) {
  return at::bincount(whole(experts).flatten(), {}, count);
}

}  // namespace

HEITU_KERNEL(gating_top_k_softmax) {
  const auto x = call.tensor(0).to(at::kFloat);
  const int64_t k = call.integer(2);
  auto [weights, experts] = at::topk(at::softmax(x, -1), k, -1);
  if (call.has(1)) experts = experts.masked_fill(call.tensor(1).unsqueeze(-1), x.size(-1));
  call.put(3, weights);
  call.put(4, experts);
  const int64_t rows = x.numel() / x.size(-1);
  const auto places = at::arange(rows).unsqueeze(1) + at::arange(k).unsqueeze(0) * rows;
  call.put(5, places.view(experts.sizes()));
}

HEITU_KERNEL(gating_top_k_softmax_v2) {
  const auto x = call.tensor(0).to(at::kFloat);
  const bool normalized_after = call.integer(3) != 0;
  const auto all = at::softmax(x, -1);
  auto [weights, experts] = at::topk(normalized_after ? x : all, call.integer(2), -1);
  if (normalized_after) weights = at::softmax(weights, -1);
  if (call.has(1)) experts = experts.masked_fill(call.tensor(1).unsqueeze(-1), x.size(-1));
  call.put(5, weights);
  call.put(6, experts);
  if (call.flag(4) && call.has(7)) call.put(7, all);
}

HEITU_KERNEL(gating_top_k) {
  const auto name = [&](const char* parameter) { return call.index(parameter); };
  const auto x = call.tensor(0).to(at::kFloat);
  const bool sigmoid = call.integer(name("norm_type")) == 1;
  const auto scores = sigmoid ? at::sigmoid(x) : at::softmax(x, -1);
  auto choice = call.has(1) ? scores + call.tensor(1).to(at::kFloat) : scores;
  const int64_t groups = call.integer(name("group_count")), kept = call.integer(name("k_group"));
  if (groups > 1 && kept < groups) {
    const auto grouped = choice.unflatten(-1, {groups, -1});
    const auto merit = call.integer(name("group_mode")) == 0
                           ? grouped.amax(-1)
                           : std::get<0>(grouped.topk(2, -1)).sum(-1);
    const auto best = std::get<1>(merit.topk(kept, -1));
    const auto open = at::zeros_like(merit).scatter_(-1, best, 1.0).to(at::kBool);
    choice = grouped.masked_fill(open.logical_not().unsqueeze(-1), -INFINITY).flatten(-2);
  }
  const auto experts = std::get<1>(choice.topk(call.integer(name("k")), -1));
  auto weights = scores.gather(-1, experts);
  if (sigmoid) weights = weights / (weights.sum(-1, true) + call.real(name("eps")));
  call.put(name("y"), weights * call.real(name("scaling")));
  call.put(name("expert_idx"), experts);
  if (call.flag(name("out_flag"))) call.put(name("out"), scores);
}

HEITU_KERNEL(init_routing) {
  const auto x = call.tensor(0);
  const auto [experts, order] = sorted(call.tensor(2));
  const auto source = whole(call.tensor(1)).flatten().index_select(0, order);
  const int64_t active = call.tensor(4).size(0);
  call.put(4, x.index_select(0, at::remainder(source, x.size(0)).slice(0, 0, active)));
  call.put(5, places_of(source));
  call.put(6, experts);
}

namespace {

// Rows of `x` in the order of their experts, none dropped. Returns that order of the (row, choice)
// pairs.
at::Tensor route(const Call& call, const at::Tensor& experts) {
  if (call.integer(call.index("drop_pad_mode")) != 0) {
    throw std::runtime_error("routing with a capacity is not emulated");
  }
  const auto x = call.tensor(0);
  const auto order = sorted(experts).second;
  const auto out = call.index("expanded_x");
  const auto rows = at::div(order, experts.size(1), "floor").slice(0, 0, call.tensor(out).size(0));
  call.put(out, x.index_select(0, rows));
  return order;
}

}  // namespace

HEITU_KERNEL(init_routing_v2) {
  const auto experts = call.tensor(1);
  const auto order = route(call, experts);
  call.put(call.index("row_idx"), places_of(order));
  const auto counts = call.index("counts");
  if (!call.has(counts) || call.tensor(counts).numel() == 0) return;
  const auto each = token_counts(experts, call.integer(4));
  call.put(counts, call.integer(call.index("count_mode")) == 1 ? each.cumsum(0) : each);
}

HEITU_KERNEL(init_routing_v3) {
  const auto experts = call.tensor(1);
  if (call.integer(call.index("quant_mode")) != -1) {
    throw std::runtime_error("routing with quantization is not emulated");
  }
  const int64_t total = call.integer(call.index("expert_num"));
  const auto range = call.ints(call.index("expert_range"));
  if (!range.empty() && (range[0] != 0 || range[1] != total)) {
    throw std::runtime_error("routing to a part of the experts is not emulated");
  }
  const auto order = route(call, experts);
  call.put(call.index("row_idx"),
           call.integer(call.index("row_idx_type")) == 0 ? places_of(order) : order);
  const auto each = token_counts(experts, total);
  const int64_t mode = call.integer(call.index("count_mode"));
  const auto counts = call.index("counts");
  if (call.flag(call.index("count_flag")) &&
      mode == 2) {  // pairs of expert and count, of those with tokens
    const auto used = each.nonzero().flatten();
    auto place = call.tensor(counts);
    place.zero_();
    place.slice(0, 0, used.numel()).copy_(at::stack({used, each.index_select(0, used)}, 1));
  } else if (call.flag(call.index("count_flag"))) {
    call.put(counts, mode == 0 ? each.cumsum(0) : each);
  }
  if (call.has(2)) {
    const auto rows = at::div(order, experts.size(1), "floor");
    const auto scales = call.index("expanded_scale");
    call.put(scales, call.tensor(2).index_select(0, rows.slice(0, 0, call.tensor(scales).size(0))));
  }
}

HEITU_KERNEL(expert_tokens) {
  call.put(2, token_counts(call.tensor(0), call.integer(1)).cumsum(0));
}

HEITU_KERNEL(finalize_routing) {
  const auto name = [&](const char* parameter) {
    const auto index = call.index(parameter);
    return call.has(index) ? call.tensor(index) : at::Tensor();
  };
  const auto rows = name("rows").reshape({-1, name("rows").size(-1)}).to(at::kFloat);
  const auto places = whole(name("row_idx")), scales = name("scales"), experts = name("expert_idx");
  const auto out = name("out");
  const int64_t tokens = out.size(0), k = places.numel() / tokens;
  const auto mode = call.index("mode");
  const bool by_token = call.has(mode) && call.integer(mode) >= 2;
  const auto order = by_token ? places.view({tokens, k}) : places.view({k, tokens}).t();
  const auto present = order.ge(0).logical_and(order.lt(rows.size(0)));
  auto picked = rows.index_select(0, order.clamp(0, rows.size(0) - 1).flatten());
  picked = picked.view({tokens, k, -1}) * present.unsqueeze(-1);
  if (name("bias").defined() && experts.defined()) {
    const auto bias = name("bias").to(at::kFloat).index_select(0, whole(experts).flatten());
    picked = picked + bias.view({tokens, k, -1});
  }
  if (scales.defined()) picked = picked * scales.to(at::kFloat).unsqueeze(-1);
  auto sum = picked.sum(1);
  for (const auto* skip : {"skip1", "skip2"}) {
    if (name(skip).defined()) sum = sum + name(skip).to(at::kFloat);
  }
  call.put(call.index("out"), sum);
}

HEITU_KERNEL(token_permute) {
  const auto tokens = call.tensor(0), indices = call.tensor(1);
  const auto order = sorted(indices).second;
  const int64_t k = indices.dim() == 1 ? 1 : indices.size(1);
  const auto rows = at::div(order, k, "floor").slice(0, 0, call.tensor(4).size(0));
  call.put(4, tokens.index_select(0, rows));
  call.put(5, places_of(order));
}

HEITU_KERNEL(token_permute_backward) {
  const auto grad = call.tensor(0).to(at::kFloat);
  const auto places = whole(call.tensor(1)).view({-1, call.integer(2)});
  const auto present = places.lt(grad.size(0));
  const auto picked = grad.index_select(0, places.clamp_max(grad.size(0) - 1).flatten());
  call.put(4, (picked.view({places.size(0), places.size(1), -1}) * present.unsqueeze(-1)).sum(1));
}

namespace {

struct Choices {
  at::Tensor rows;     // of each token and choice
  at::Tensor present;  // 1 where a row is there
  at::Tensor weights;
};

Choices choices(const Call& call, size_t places, size_t probabilities, int64_t rows) {
  const auto all = whole(call.tensor(places));
  const auto weights =
      call.has(probabilities) ? call.tensor(probabilities).to(at::kFloat) : at::Tensor();
  const auto table = all.view({-1, weights.defined() ? weights.size(1) : 1});
  return {table.clamp_max(rows - 1), table.lt(rows).to(at::kFloat),
          weights.defined() ? weights : at::ones(table.sizes(), at::kFloat)};
}

}  // namespace

HEITU_KERNEL(token_unpermute) {
  const auto rows = call.tensor(0).to(at::kFloat);
  const auto c = choices(call, 1, 2, rows.size(0));
  const auto picked =
      rows.index_select(0, c.rows.flatten()).view({c.rows.size(0), c.rows.size(1), -1});
  call.put(5, (picked * (c.weights * c.present).unsqueeze(-1)).sum(1));
}

HEITU_KERNEL(token_unpermute_backward) {
  const auto grad = call.tensor(1).to(at::kFloat);
  const auto out = call.tensor(6);
  const auto c = choices(call, 2, 3, out.size(0));
  const auto spread = grad.unsqueeze(1) * (c.weights * c.present).unsqueeze(-1);
  auto to_rows = at::zeros(out.sizes(), at::kFloat);
  to_rows.index_add_(0, c.rows.flatten(), spread.flatten(0, 1));
  call.put(6, to_rows);
  if (!call.has(7) || !call.has(3) || !call.has(0)) return;
  const auto rows = call.tensor(0).to(at::kFloat).index_select(0, c.rows.flatten());
  const auto picked = rows.view({c.rows.size(0), c.rows.size(1), -1});
  call.put(7, (picked * grad.unsqueeze(1)).sum(-1) * c.present);
}

namespace {

at::Tensor activated(const at::Tensor& x, int64_t kind) {
  switch (kind) {
    case 0:
      return x;
    case 1:
      return at::relu(x);
    case 2:
      return at::gelu(x, "tanh");
    case 4:
      return x * at::sigmoid(x * 1.702);
    case 5:
      return at::silu(x);
    default:
      throw std::runtime_error("activation " + std::to_string(kind) + " is not emulated");
  }
}

// Products in float32; whole numbers are scaled afterwards.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight) {
  return at::matmul(x.to(at::kFloat), weight.to(at::kFloat));
}

std::vector<int64_t> group_ends(const Call& call) {
  const auto index = call.index("group_list");
  std::vector<int64_t> ends;
  if (!call.has(index)) return ends;
  auto list = std::holds_alternative<Tensor>(call.argument(index))
                  ? whole(call.tensor(index))
                  : at::tensor(call.ints(index), at::kLong);
  const auto type = call.index("group_list_type");
  if (call.has(type) && call.integer(type) == 1) list = list.cumsum(0);
  for (int64_t i = 0; i < list.numel(); ++i) ends.push_back(list[i].item<int64_t>());
  return ends;
}

}  // namespace

HEITU_KERNEL(grouped_matmul) {
  const auto list = [&](const char* parameter) {
    const auto index = call.index(parameter);
    return call.has(index) ? call.tensors(index) : std::vector<at::Tensor>();
  };
  for (const auto* parameter : {"offset", "antiquant_scale", "antiquant_offset"}) {
    for (const auto& each : list(parameter)) {
      if (each.defined() && each.numel() > 0) {
        throw std::runtime_error(std::string(parameter) + " is not emulated");
      }
    }
  }
  const auto x = list("x"), weights = list("weight"), biases = list("bias"), scales = list("scale"),
             token_scales = list("per_token_scale");
  const auto ends = group_ends(call);
  const auto number = [&](const char* parameter, int64_t otherwise) {
    const auto index = call.index(parameter);
    return call.has(index) ? call.integer(index) : otherwise;
  };
  const int64_t type = number("group_type", -1), activation = number("act_type", 0);
  const size_t groups = ends.empty() ? std::max(x.size(), weights.size()) : ends.size();
  const auto of = [](const std::vector<at::Tensor>& all, size_t i) {
    if (all.empty()) return at::Tensor();
    const auto one = all.size() > 1 ? all[i] : all[0];
    return all.size() == 1 && one.numel() == 0 ? at::Tensor() : one;
  };
  std::vector<at::Tensor> results;
  int64_t begin = 0;
  for (size_t i = 0; i < groups; ++i) {
    const auto group = static_cast<int64_t>(i);
    const int64_t end = ends.empty() ? 0 : ends[i];
    const bool by_rows = type == 0 && x.size() == 1, by_depth = type == 2;
    auto left = by_rows ? x[0].slice(0, begin, end) : x.size() > 1 ? x[i] : x[0];
    auto right = weights.size() > 1 ? weights[i] : weights[0];
    if (by_depth && x.size() == 1) left = left.slice(1, begin, end);
    if (by_depth && weights.size() == 1) right = right.slice(0, begin, end);
    if (!by_depth && right.dim() == 3) right = right[group];
    auto y = product(left, right);
    const auto in_group = [&](const at::Tensor& per) { return per.dim() == 2 ? per[group] : per; };
    const auto bias = of(biases, i), scale = of(scales, i), token_scale = of(token_scales, i);
    if (bias.defined() && bias.scalar_type() == at::kInt) y = y + in_group(bias);
    if (scale.defined()) y = y * in_group(scale).to(at::kFloat);
    if (token_scale.defined()) {
      y = y *
          (by_rows ? token_scale.slice(0, begin, end) : token_scale).to(at::kFloat).unsqueeze(-1);
    }
    if (bias.defined() && bias.scalar_type() != at::kInt) y = y + in_group(bias).to(at::kFloat);
    results.push_back(activated(y, activation));
    begin = end;
  }
  const auto out = call.index("out");
  const auto places = call.tensors(out);
  if (places.size() > 1) {
    call.put(out, results);
    return;
  }
  auto all = type == 2 ? at::stack(results) : at::cat(results);
  auto place = places[0];
  if (all.sizes() == place.sizes()) {
    call.put(out, std::vector<at::Tensor>{all});
  } else {  // rows behind the last group stay what they are
    place.narrow(0, 0, all.size(0)).copy_(all);
  }
}

}  // namespace heitu::cann
