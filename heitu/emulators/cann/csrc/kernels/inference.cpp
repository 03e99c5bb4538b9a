// What engines that serve models call besides: caches of keys and values, norms with quantization.
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {
namespace {

at::Tensor named_input(const Call& call, const char* name) {
  const size_t index = call.index(name);
  return call.has(index) ? call.tensor(index) : at::Tensor();
}

at::Tensor wide_input(const Call& call, const char* name) {
  const auto x = named_input(call, name);
  return x.defined() ? x.to(at::kFloat) : x;
}

at::Tensor rms_normal(const at::Tensor& x, const at::Tensor& gamma, double epsilon) {
  return x * at::rsqrt(at::square(x).mean(-1, true) + epsilon) * gamma;
}

void put_named(const Call& call, const char* name, const at::Tensor& value) {
  const size_t index = call.index(name);
  if (call.has(index) && call.tensor(index).numel() > 0) call.put(index, value);
}

}  // namespace

// Rows of keys and values into the slots of a paged cache; a negative slot is none.
HEITU_KERNEL(scatter_paged_cache) {
  for (const char* name : {"compress_lens", "compress_offsets", "seq_lens"}) {
    if (named_input(call, name).defined())
      throw std::runtime_error(std::string(name) + " is not emulated");
  }
  const auto slots = named_input(call, "slots").to(at::kLong).flatten();
  const auto used = slots.ge(0).nonzero().flatten();
  const auto fill = [&](const char* rows, const char* cache) {
    const auto from = named_input(call, rows);
    if (!from.defined()) return;
    auto pages = named_input(call, cache);
    if (pages.dim() != from.dim() + 1)
      throw std::runtime_error("this layout of a cache is not emulated");
    pages.flatten(0, 1).index_copy_(0, slots.index_select(0, used), from.index_select(0, used));
  };
  fill("key", "key_cache");
  fill("value", "value_cache");
}

// Positions (T), or (3, T) with a section of the dimensions for each row; the cache has cosines,
// then sines.
HEITU_KERNEL(rope_with_cache) {
  const auto mode = call.index("cache_mode");
  if (call.has(mode) && call.integer(mode) != 0) {
    throw std::runtime_error("interleaved sections are not emulated");
  }
  const auto positions = named_input(call, "positions").to(at::kLong);
  const auto cache = wide_input(call, "cache");
  const int64_t width = call.integer(call.index("head_size")), turned = cache.size(-1);
  const bool halves = call.flag(call.index("neox"));
  auto table = cache.index_select(0, positions.flatten());
  if (positions.dim() == 2) {
    const auto sections = call.ints(call.index("sections"));
    table = table.view({positions.size(0), positions.size(1), 2, -1});
    std::vector<at::Tensor> parts;
    int64_t begin = 0;
    for (size_t i = 0; i < sections.size(); ++i) {
      parts.push_back(table[static_cast<int64_t>(i)].narrow(-1, begin, sections[i]));
      begin += sections[i];
    }
    table = at::cat(parts, -1).flatten(1);
  }
  const auto cos = table.narrow(-1, 0, turned / 2).unsqueeze(1);
  const auto sin = table.narrow(-1, turned / 2, turned / 2).unsqueeze(1);
  const auto rotate = [&](const char* from, const char* to) {
    const auto x = wide_input(call, from).reshape({table.size(0), -1, width});
    const auto head = x.narrow(-1, 0, turned), rest = x.narrow(-1, turned, width - turned);
    const auto a = halves ? head.narrow(-1, 0, turned / 2) : head.slice(-1, 0, std::nullopt, 2);
    const auto b =
        halves ? head.narrow(-1, turned / 2, turned / 2) : head.slice(-1, 1, std::nullopt, 2);
    const auto first = a * cos - b * sin, second = b * cos + a * sin;
    const auto both =
        halves ? at::cat({first, second}, -1) : at::stack({first, second}, -1).flatten(-2);
    call.put(call.index(to), at::cat({both, rest}, -1));
  };
  rotate("query", "query_out");
  rotate("key", "key_out");
}

HEITU_KERNEL(add_rms_norm_quant) {
  const auto sum = wide_input(call, "x1") + wide_input(call, "x2");
  auto normal = rms_normal(sum, wide_input(call, "gamma"), call.real(call.index("epsilon")));
  if (named_input(call, "beta").defined()) normal = normal + wide_input(call, "beta");
  put_named(call, "x", sum);
  put_named(call, "normal", normal);
  const bool divides = call.flag(call.index("div_mode"));
  const auto quantize = [&](const char* scale, const char* zero, const char* out) {
    const auto steps = wide_input(call, scale);
    if (!steps.defined()) return;
    auto y = divides ? normal / steps : normal * steps;
    if (named_input(call, zero).defined()) y = y + wide_input(call, zero);
    put_named(call, out, at::round(y).clamp(-128, 127));
  };
  quantize("scales1", "zeros1", "y1");
  quantize("scales2", "zeros2", "y2");
}

// The sum replaces the second and the norm the first of what is added.
HEITU_KERNEL(add_rms_norm_in_place) {
  const auto sum = call.tensor(0).to(at::kFloat) + call.tensor(1).to(at::kFloat);
  const auto rstd = at::rsqrt(at::square(sum).mean(-1, true) + call.real(3));
  call.put(0, sum * rstd * call.tensor(2).to(at::kFloat));
  call.put(1, sum);
  call.put(4, rstd);
}

HEITU_KERNEL(deep_norm) {
  const auto sum = wide_input(call, "x") * call.real(call.index("alpha")) + wide_input(call, "gx");
  const auto gamma = wide_input(call, "gamma");
  const auto [y, mean, rstd] = at::native_layer_norm(
      sum, gamma.sizes(), gamma, wide_input(call, "beta"), call.real(call.index("epsilon")));
  put_named(call, "y", y);
  put_named(call, "mean", mean);
  put_named(call, "rstd", rstd);
}

HEITU_KERNEL(deep_norm_backward) {
  const double alpha = call.real(call.index("alpha"));
  const auto x = wide_input(call, "x"), gamma = wide_input(call, "gamma");
  const auto sum = x * alpha + wide_input(call, "gx");
  const auto [to_sum, to_gamma, to_beta] = at::native_layer_norm_backward(
      wide_input(call, "dy"), sum, gamma.sizes(), wide_input(call, "mean"),
      wide_input(call, "rstd"), gamma, gamma, {true, true, true});
  put_named(call, "dx", to_sum * alpha);
  put_named(call, "dgx", to_sum);
  put_named(call, "dbeta", to_beta);
  put_named(call, "dgamma", to_gamma);
}

HEITU_KERNEL(fused_matmul) {
  auto y = at::matmul(wide_input(call, "x"), wide_input(call, "x2"));
  if (named_input(call, "bias").defined()) y = y + wide_input(call, "bias");
  const auto kind = call.text(call.index("kind"));
  if (kind == "add") {
    y = y + wide_input(call, "x3");
  } else if (kind == "mul") {
    y = y * wide_input(call, "x3");
  } else if (kind == "relu") {
    y = at::relu(y);
  } else if (kind == "gelu_erf" || kind == "gelu_tanh") {
    y = at::gelu(y, kind == "gelu_tanh" ? "tanh" : "none");
  } else if (!kind.empty() && kind != "16cast32") {
    throw std::runtime_error("fusing " + kind + " is not emulated");
  }
  call.put(call.index("out"), y);
}

HEITU_KERNEL(group_norm_swish) {
  const auto x = wide_input(call, "input"), weight = wide_input(call, "weight"),
             bias = wide_input(call, "bias");
  const int64_t groups = call.integer(call.index("groups"));
  const double epsilon = call.real(call.index("eps"));
  const int64_t n = x.size(0), c = x.size(1);
  const auto [normal, mean, rstd] =
      at::native_group_norm(x, weight, bias, n, c, x.numel() / (n * c), groups, epsilon);
  put_named(call, "out", normal * at::sigmoid(normal * call.real(call.index("swish_scale"))));
  put_named(call, "mean", mean);
  put_named(call, "rstd", rstd);
}

}  // namespace heitu::cann
