#include "attention.h"

#include <limits>
#include <stdexcept>

namespace heitu::cann {

at::Tensor dropout_bits(const at::Tensor& mask, int64_t count);

namespace {

enum SparseMode : int64_t {
  kMaskAndBand = 0,
  kWholeMask = 1,
  kCausalFromStart = 2,
  kCausalFromEnd = 3,
  kBand = 4,
};

at::Tensor to_heads_first(const at::Tensor& x, const std::string& layout, int64_t width) {
  if (layout == "BNSD") return x;
  if (layout == "BSND") return x.transpose(1, 2);
  const bool batch_first = layout == "BSH";
  if (!batch_first && layout != "SBH")
    throw std::runtime_error("layout " + layout + " is not emulated");
  const auto split = x.reshape({x.size(0), x.size(1), x.size(2) / width, width});
  return batch_first ? split.transpose(1, 2) : split.permute({1, 2, 0, 3});
}

at::Tensor from_heads_first(const at::Tensor& x, const std::string& layout) {
  if (layout == "BNSD") return x;
  if (layout == "BSND") return x.transpose(1, 2);
  const auto joined = layout == "BSH" ? x.transpose(1, 2) : x.permute({2, 0, 1, 3});
  return joined.reshape({joined.size(0), joined.size(1), joined.size(2) * joined.size(3)});
}

at::Tensor masked_of(const Attention& a, int64_t rows, int64_t columns) {
  const auto i = at::arange(rows).unsqueeze(1), j = at::arange(columns).unsqueeze(0);
  const int64_t shift = columns - rows;
  at::Tensor masked;
  switch (a.sparse_mode) {
    case kMaskAndBand:
      if (!a.mask.defined()) return {};
      masked = at::logical_or(j > i + a.after, j < i - a.before);
      break;
    case kWholeMask:
      if (!a.mask.defined()) return {};
      masked = at::zeros({rows, columns}, at::kBool);
      break;
    case kCausalFromStart:
      return j > i;
    case kCausalFromEnd:
      return j > i + shift;
    case kBand:
      return at::logical_or(j > i + shift + a.after, j < i + shift - a.before);
    default:
      throw std::runtime_error("sparse mode " + std::to_string(a.sparse_mode) + " is not emulated");
  }
  return at::logical_or(masked, a.mask.to(at::kBool));
}

// Query (B, N, S, D), key and value (B, N', S', D) of float32; `offset` numbers the first dropout
// bit.
Attended attend_heads(const Attention& a, const at::Tensor& query, at::Tensor key, at::Tensor value,
                      const at::Tensor& bias, const at::Tensor& kept) {
  const int64_t group = query.size(1) / key.size(1);
  if (group > 1) {
    key = key.repeat_interleave(group, 1);
    value = value.repeat_interleave(group, 1);
  }
  auto scores = at::matmul(query, key.transpose(-2, -1));
  if (bias.defined() && a.bias_mode == 0) scores = scores + bias;
  scores = scores * a.scale;
  if (bias.defined() && a.bias_mode != 0) scores = scores + bias;
  const auto masked = masked_of(a, scores.size(-2), scores.size(-1));
  if (masked.defined()) {
    scores = scores.masked_fill(masked, -std::numeric_limits<float>::infinity());
  }
  // A row with nothing to attend to gives zero and not NaN.
  auto maximum = scores.detach().amax(-1, true);
  maximum = at::where(at::isinf(maximum), at::zeros_like(maximum), maximum);
  if (a.sink.defined()) {
    const auto sink = a.sink.to(at::kFloat).reshape({1, -1, 1, 1});
    maximum = at::maximum(maximum, sink.expand_as(maximum));
  }
  auto weights = at::exp(scores - maximum);
  auto sum = weights.sum(-1, true);
  if (a.sink.defined()) {
    sum = sum + at::exp(a.sink.to(at::kFloat).reshape({1, -1, 1, 1}) - maximum);
  }
  weights = weights / at::where(sum == 0, at::ones_like(sum), sum);
  if (kept.defined()) weights = weights * kept.view(weights.sizes()) / a.keep;
  return {at::matmul(weights, value), maximum, sum.detach()};
}

at::Tensor between(const at::Tensor& x, int64_t begin, int64_t end) {
  return x.slice(0, begin, end).transpose(0, 1).unsqueeze(0);  // (T, N, D) to (1, N, S, D)
}

Attended attend_packed(const Attention& a, const at::Tensor& query, const at::Tensor& key,
                       const at::Tensor& value) {
  Attention each = a;
  std::vector<at::Tensor> out, maximum, sum;
  int64_t q = 0, k = 0, bits = 0;
  for (size_t i = 0; i < a.query_ends.size(); ++i) {
    const int64_t q_end = a.query_ends[i], k_end = a.key_ends[i];
    at::Tensor kept;
    if (a.dropped.defined()) {
      const int64_t count = query.size(1) * (q_end - q) * (k_end - k);
      kept = dropout_bits(a.dropped, bits + count).slice(0, bits);
      bits += count;
    }
    if (a.mask.defined() && a.mask.dim() == 2 && a.sparse_mode <= kWholeMask) {
      each.mask = a.mask.slice(0, 0, q_end - q).slice(1, 0, k_end - k);
    }
    const auto part = attend_heads(each, between(query, q, q_end), between(key, k, k_end),
                                   between(value, k, k_end), {}, kept);
    out.push_back(part.out.squeeze(0).transpose(0, 1));
    maximum.push_back(part.maximum.squeeze(0).transpose(0, 1));
    sum.push_back(part.sum.squeeze(0).transpose(0, 1));
    q = q_end;
    k = k_end;
  }
  return {at::cat(out), at::cat(maximum), at::cat(sum)};
}

}  // namespace

Attended attend(const Attention& a, const at::Tensor& query, const at::Tensor& key,
                const at::Tensor& value, const at::Tensor& bias) {
  const auto q = query.to(at::kFloat), k = key.to(at::kFloat), v = value.to(at::kFloat);
  if (a.layout == "TND") return attend_packed(a, q, k, v);
  const bool flat = a.layout == "BSH" || a.layout == "SBH";
  const int64_t width = flat ? q.size(2) / a.heads : q.size(-1);
  const auto heads_first = [&](const at::Tensor& x) { return to_heads_first(x, a.layout, width); };
  const auto qh = heads_first(q), kh = heads_first(k);
  auto vh = heads_first(v);
  if (flat && vh.size(1) != kh.size(1)) {  // values of another width
    vh = to_heads_first(v, a.layout, v.size(2) / kh.size(1));
  }
  at::Tensor kept;
  if (a.dropped.defined()) {
    kept = dropout_bits(a.dropped, qh.size(0) * qh.size(1) * qh.size(2) * kh.size(2));
  }
  auto result = attend_heads(a, qh, kh, vh, bias.defined() ? bias.to(at::kFloat) : bias, kept);
  result.out = from_heads_first(result.out, a.layout);
  return result;
}

}  // namespace heitu::cann
