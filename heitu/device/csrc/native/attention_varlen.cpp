// The attention operators below scaled_dot_product_attention, whose layout is [B, S, H, D], or
// [total, H, D] with cumulative sequence lengths; also called directly by varlen_attn and xFormers.
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "../prelude.h"
#include "../registry.h"
#include "attention_core.h"
#include "on_host.h"

namespace heitu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// One sequence of a batch: rows of the query and of the key, [1, H, S, D] views of the arguments.
struct Sequence {
  int64_t query_start, query_length, key_start, key_length;
};

// A batch of sequences, dense or packed. `rows` gives [1, H, S, D] of the n-th sequence.
class Batch {
 public:
  Batch(const Tensor& query, const Tensor& key, const Tensor& query_bounds,
        const Tensor& key_bounds, const Tensor& key_lengths)
      : packed_(query_bounds.defined()), key_packed_(key_bounds.defined()) {
    const int64_t count = packed_ ? query_bounds.numel() - 1 : query.size(0);
    const auto bound = [](const Tensor& t, int64_t i) { return t[i].item<int64_t>(); };
    for (int64_t i = 0; i < count; ++i) {
      Sequence s{0, query.size(1), 0, key.size(1)};
      if (packed_) {
        s.query_start = bound(query_bounds, i);
        s.query_length = bound(query_bounds, i + 1) - s.query_start;
      }
      if (key_packed_) {
        s.key_start = bound(key_bounds, i);
        s.key_length = bound(key_bounds, i + 1) - s.key_start;
      }
      if (key_lengths.defined()) s.key_length = bound(key_lengths, i);
      sequences_.push_back(s);
    }
  }

  int64_t size() const { return static_cast<int64_t>(sequences_.size()); }
  const Sequence& operator[](int64_t n) const { return sequences_[n]; }
  Tensor query(const Tensor& t, int64_t n) const {
    return part(t, packed_, n, sequences_[n].query_start, sequences_[n].query_length);
  }
  Tensor key(const Tensor& t, int64_t n) const {
    return part(t, key_packed_, n, sequences_[n].key_start, sequences_[n].key_length);
  }

 private:
  // `t` is [total, H, D], [1, total, H, D] or [B, S, H, D].
  static Tensor part(const Tensor& t, bool packed, int64_t n, int64_t start, int64_t length) {
    const Tensor sequence = t.dim() == 3 ? t : t.select(0, packed ? 0 : n);
    return sequence.narrow(0, start, length).transpose(0, 1).unsqueeze(0);
  }

  bool packed_, key_packed_;
  std::vector<Sequence> sequences_;
};

// [B, Smax, H, D] of a cache of pages [pages, page, H, D].
Tensor gather_pages(const Tensor& cache, const Tensor& table) {
  const Tensor pages = cache.index_select(0, table.reshape({-1}).to(at::kLong));
  return pages.view({table.size(0), -1, cache.size(-2), cache.size(-1)});
}

// -slope * |distance to the key|, [B or 1, H, Sq, Sk].
Tensor alibi_bias(const Tensor& slopes, int64_t n, int64_t queries, int64_t keys) {
  const Tensor slope = (slopes.dim() == 2 ? slopes[n] : slopes).view({1, -1, 1, 1});
  const auto options = slopes.options().dtype(at::kFloat);
  const Tensor distance =
      at::arange(keys, options) - at::arange(queries, options).unsqueeze(1) - (keys - queries);
  return distance.abs_().mul(slope).neg_();
}

std::optional<int64_t> window(std::optional<int64_t> size) {
  return size.has_value() && *size >= 0 ? size : std::nullopt;
}

// ---- flash ----

struct FlashCall {
  AttentionRule rule;
  Tensor slopes;

  FlashCall(const Tensor& query, double dropout, bool causal, std::optional<double> scale,
            std::optional<int64_t> left, std::optional<int64_t> right) {
    rule.scale = attention_scale(query, scale);
    rule.dropout = dropout;
    rule.random.words_per_thread = kFlashWordsPerThread;
    rule.bottom_right = true;
    rule.left = window(left);
    rule.right = causal ? 0 : window(right);
  }

  // Each sequence takes its own stretch of the random numbers.
  AttentionRule of(const Batch& batch, int64_t n, int64_t heads, at::ScalarType type) const {
    AttentionRule result = rule;
    const int64_t queries = batch[n].query_length, keys = batch[n].key_length;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t used = heads * batch[i].query_length * batch[i].key_length;
      result.random.first += (used + 3) / 4 * 4;
    }
    if (slopes.defined()) result.bias = alibi_bias(slopes, n, queries, keys).to(type);
    return result;
  }
};

struct FlashOutput {
  Tensor output, logsumexp, rng_state, unused, debug;
};

// Writes into `output` [like query].
Tensor flash_into(Tensor output, const Tensor& q, const Tensor& k, const Tensor& v,
                  const Batch& batch, const FlashCall& call, bool packed) {
  const int64_t heads = q.size(-2);
  const auto options = q.options().dtype(at::kFloat);
  Tensor lse = packed ? at::empty({heads, q.size(0)}, options)
                      : at::empty({batch.size(), heads, q.size(1)}, options);
  for (int64_t n = 0; n < batch.size(); ++n) {
    const Sequence& s = batch[n];
    if (s.query_length == 0) continue;
    const AttentionResult result =
        attention_forward(batch.query(q, n), batch.key(k, n), batch.key(v, n),
                          call.of(batch, n, heads, q.scalar_type()));
    batch.query(output, n).copy_(result.output);
    (packed ? lse.narrow(1, s.query_start, s.query_length) : lse[n]).copy_(result.logsumexp[0]);
  }
  return lse;
}

void check_flash(const Tensor& q, const Tensor& k, const Tensor& v, bool packed) {
  TORCH_CHECK(is_reduced_float(q.scalar_type()),
              "FlashAttention only support fp16 and bf16 data type");
  TORCH_CHECK(q.scalar_type() == k.scalar_type(), "query and key must have the same dtype");
  TORCH_CHECK(q.scalar_type() == v.scalar_type(), "query and value must have the same dtype");
  TORCH_CHECK(q.stride(-1) == 1 && k.stride(-1) == 1 && v.stride(-1) == 1,
              "Input tensor must have contiguous last dimension");
  TORCH_CHECK(q.dim() == (packed ? 3 : 4), "FlashAttention: query must have ", packed ? 3 : 4,
              " dimensions, got ", q.dim());
  TORCH_CHECK(q.size(-1) <= 256, "FlashAttention forward only supports head dimension at most 256");
  TORCH_CHECK(q.size(-2) % k.size(-2) == 0,
              "Number of heads in key/value must divide number of heads in query");
}

FlashOutput varlen_flash(const Tensor& query, const Tensor& key, const Tensor& value,
                         const OptionalTensor& cum_seq_q, const OptionalTensor& cum_seq_k,
                         double dropout, bool causal, bool return_debug_mask,
                         std::optional<double> scale, std::optional<int64_t> left,
                         std::optional<int64_t> right, const OptionalTensor& seqused_k,
                         const OptionalTensor& alibi, const OptionalTensor& block_table,
                         OptionalTensor into) {
  const bool packed = cum_seq_q.has_value() && cum_seq_q->defined();
  check_flash(query, key, value, packed);
  const OnHost host(query);
  const Tensor q = host.view(query);
  Tensor k = host.view(key), v = host.view(value), key_bounds = host.view(cum_seq_k);
  if (block_table.has_value() && block_table->defined()) {
    TORCH_CHECK(seqused_k.has_value() && seqused_k->defined(),
                "FlashAttention: block_table needs seqused_k");
    k = gather_pages(k, host.view(block_table));
    v = gather_pages(v, host.view(block_table));
    key_bounds = Tensor();
  }
  const Batch batch(q, k, host.view(cum_seq_q), key_bounds, host.view(seqused_k));
  FlashCall call(query, dropout, causal, scale, left, right);
  call.rule.random.state = draw_dropout(query, dropout, batch.size() * query.size(-2) * 32);
  call.slopes = host.view(alibi);
  const Tensor output = into.has_value() ? host.view(*into) : at::empty_like(q);
  FlashOutput result;
  result.logsumexp = host.result(flash_into(output, q, k, v, batch, call, packed));
  Tensor debug = at::empty({0}, q.options());
  if (return_debug_mask && dropout > 0 && !packed) {
    debug = attention_debug_mask(q.transpose(1, 2), k.transpose(1, 2),
                                 call.of(batch, 0, q.size(-2), q.scalar_type()));
  }
  result.debug = host.result(debug);
  result.output = into.has_value() ? *into : host.result(output);
  result.rng_state = at::empty({2}, query.options().dtype(at::kUInt64));
  uint64_t* words = static_cast<uint64_t*>(result.rng_state.data_ptr());
  words[0] = call.rule.random.state.seed;
  words[1] = call.rule.random.state.offset;
  result.unused = at::empty({}, query.options().dtype(at::kUInt64));
  return result;
}

using FlashTuple = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

FlashTuple flash_forward(const Tensor& query, const Tensor& key, const Tensor& value,
                         const OptionalTensor& cum_seq_q, const OptionalTensor& cum_seq_k,
                         int64_t /*max_q*/, int64_t /*max_k*/, double dropout, bool causal,
                         bool return_debug_mask, std::optional<double> scale,
                         std::optional<int64_t> left, std::optional<int64_t> right,
                         const OptionalTensor& seqused_k, const OptionalTensor& alibi,
                         const OptionalTensor& block_table, std::optional<int64_t> /*num_splits*/) {
  FlashOutput r =
      varlen_flash(query, key, value, cum_seq_q, cum_seq_k, dropout, causal, return_debug_mask,
                   scale, left, right, seqused_k, alibi, block_table, std::nullopt);
  return {r.output, r.logsumexp, r.rng_state, r.unused, r.debug};
}

// As the operator is before it knows paged caches.
FlashTuple flash_forward_unpaged(const Tensor& query, const Tensor& key, const Tensor& value,
                                 const OptionalTensor& cum_seq_q, const OptionalTensor& cum_seq_k,
                                 int64_t max_q, int64_t max_k, double dropout, bool causal,
                                 bool return_debug_mask, std::optional<double> scale,
                                 std::optional<int64_t> left, std::optional<int64_t> right,
                                 const OptionalTensor& seqused_k, const OptionalTensor& alibi) {
  return flash_forward(query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, dropout, causal,
                       return_debug_mask, scale, left, right, seqused_k, alibi, std::nullopt,
                       std::nullopt);
}

Tensor flash_forward_into(Tensor& out, const Tensor& query, const Tensor& key, const Tensor& value,
                          const OptionalTensor& cum_seq_q, const OptionalTensor& cum_seq_k,
                          int64_t /*max_q*/, int64_t /*max_k*/, double dropout, bool causal,
                          bool /*return_debug_mask*/, std::optional<double> scale,
                          std::optional<int64_t> left, std::optional<int64_t> right,
                          const OptionalTensor& seqused_k, const OptionalTensor& alibi,
                          const OptionalTensor& block_table,
                          std::optional<int64_t> /*num_splits*/) {
  TORCH_CHECK(dropout == 0, "_flash_attention_forward_no_dropout_inplace does not support dropout");
  return varlen_flash(query, key, value, cum_seq_q, cum_seq_k, dropout, causal, false, scale, left,
                      right, seqused_k, alibi, block_table, out)
      .logsumexp;
}

std::tuple<Tensor, Tensor, Tensor> varlen_flash_backward(
    const Tensor& grad_out, const Tensor& query, const Tensor& key, const Tensor& value,
    const Tensor& out, const Tensor& logsumexp, const Tensor& cum_seq_q, const Tensor& cum_seq_k,
    int64_t /*max_q*/, int64_t /*max_k*/, double dropout, bool causal, const Tensor& rng_state,
    const Tensor& /*unused*/, std::optional<double> scale, std::optional<int64_t> left,
    std::optional<int64_t> right) {
  if (!grad_out.defined()) return {};
  const OnHost host(query);
  const Tensor q = host.view(query), k = host.view(key), v = host.view(value);
  const Tensor grad = host.view(grad_out), output = host.view(out), lse = host.view(logsumexp);
  const bool packed = cum_seq_q.defined();
  const Batch batch(q, k, host.view(cum_seq_q), host.view(cum_seq_k), Tensor());
  FlashCall call(query, dropout, causal, scale, left, right);
  if (dropout > 0) {
    const uint64_t* words = static_cast<const uint64_t*>(rng_state.data_ptr());
    call.rule.random.state = {words[0], words[1]};
  }
  const Tensor grad_q = at::zeros_like(q), grad_k = at::zeros_like(k), grad_v = at::zeros_like(v);
  for (int64_t n = 0; n < batch.size(); ++n) {
    const Sequence& s = batch[n];
    if (s.query_length == 0 || s.key_length == 0) continue;
    const Tensor part = packed ? lse.narrow(1, s.query_start, s.query_length) : lse[n];
    const AttentionGrads grads =
        attention_backward(batch.query(grad, n), batch.query(q, n), batch.key(k, n),
                           batch.key(v, n), batch.query(output, n), part.unsqueeze(0).contiguous(),
                           call.of(batch, n, q.size(-2), q.scalar_type()), false);
    batch.query(grad_q, n).copy_(grads.query);
    batch.key(grad_k, n).copy_(grads.key);
    batch.key(grad_v, n).copy_(grads.value);
  }
  return {host.result(grad_q), host.result(grad_k), host.result(grad_v)};
}

// ---- memory efficient ----

enum CustomMask : int64_t { kNone = 0, kTopLeft = 1, kBottomRight = 2 };
constexpr int64_t kVarlenAlignment = 32;

AttentionRule efficient_rule(const Tensor& query, double dropout, int64_t mask_type,
                             std::optional<double> scale, std::optional<int64_t> window_size) {
  TORCH_CHECK(mask_type >= kNone && mask_type <= kBottomRight,
              "invalid value for `custom_mask_type`: ", mask_type);
  AttentionRule rule;
  rule.scale = attention_scale(query, scale);
  rule.dropout = dropout;
  rule.bottom_right = mask_type == kBottomRight;
  if (mask_type != kNone) rule.right = 0;
  if (window_size.has_value() && *window_size > 0) {
    TORCH_CHECK(mask_type != kNone, "window_size needs a causal custom_mask_type");
    rule.left = *window_size - 1;
  }
  return rule;
}

// The rule of the n-th sequence: its part of the bias and of the dropout's numbers.
AttentionRule efficient_rule_of(AttentionRule rule, const Tensor& bias, const Batch& batch,
                                int64_t n, int64_t heads, int64_t max_q, int64_t max_k) {
  rule.random.first = (n * heads * max_q * max_k + 3) / 4 * 4;
  if (bias.defined()) {
    rule.bias = bias.narrow(0, bias.size(0) == 1 ? 0 : n, 1)
                    .narrow(2, 0, batch[n].query_length)
                    .narrow(3, 0, batch[n].key_length);
  }
  return rule;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt> efficient_forward(
    const Tensor& query, const Tensor& key, const Tensor& value, const OptionalTensor& bias,
    const OptionalTensor& bounds_q, const OptionalTensor& bounds_k,
    std::optional<int64_t> max_seqlen_q, std::optional<int64_t> max_seqlen_k, double dropout,
    int64_t mask_type, bool compute_logsumexp, std::optional<double> scale,
    const OptionalTensor& seqlen_k, std::optional<int64_t> window_size) {
  TORCH_CHECK(query.dim() == 4 && key.dim() == 4 && value.dim() == 4,
              "Efficient attention: query, key and value must have 4 dimensions");
  TORCH_CHECK(query.scalar_type() == at::kFloat || is_reduced_float(query.scalar_type()),
              "cutlassF: no kernel found to launch!");
  const bool packed = bounds_q.has_value() && bounds_q->defined();
  TORCH_CHECK(packed == (bounds_k.has_value() && bounds_k->defined()),
              "Efficient attention: cu_seqlens_q and cu_seqlens_k go together");
  TORCH_CHECK(!packed || query.size(0) == 1, "cu_seqlen only supports batch_size=1");
  TORCH_CHECK(!packed || max_seqlen_q.has_value(), "cu_seqlens_q needs max_seqlen_q");
  const OnHost host(query);
  const Tensor q = host.view(query), k = host.view(key), v = host.view(value);
  const Batch batch(q, k, host.view(bounds_q), host.view(bounds_k), host.view(seqlen_k));
  const int64_t max_q = packed ? *max_seqlen_q : query.size(1);
  const int64_t max_k = packed ? max_seqlen_k.value_or(key.size(1)) : key.size(1);
  const int64_t heads = query.size(2);
  AttentionRule rule = efficient_rule(query, dropout, mask_type, scale, window_size);
  rule.random.state = draw_dropout(query, dropout, batch.size() * heads * max_q * max_k);
  const int64_t rows =
      compute_logsumexp ? (max_q + kVarlenAlignment - 1) / kVarlenAlignment * kVarlenAlignment : 0;
  const Tensor output = at::empty({q.size(0), q.size(1), heads, v.size(3)}, q.options());
  const Tensor lse = at::full({batch.size(), heads, rows}, std::numeric_limits<float>::infinity(),
                              q.options().dtype(at::kFloat));
  for (int64_t n = 0; n < batch.size(); ++n) {
    if (batch[n].query_length == 0) continue;
    const AttentionResult result =
        attention_forward(batch.query(q, n), batch.key(k, n), batch.key(v, n),
                          efficient_rule_of(rule, host.view(bias), batch, n, heads, max_q, max_k));
    batch.query(output, n).copy_(result.output);
    if (rows > 0) lse[n].narrow(1, 0, batch[n].query_length).copy_(result.logsumexp[0]);
  }
  const Tensor state = at::empty({2}, query.options().dtype(at::kLong));
  uint64_t* words = static_cast<uint64_t*>(state.data_ptr());
  words[0] = rule.random.state.seed;
  words[1] = rule.random.state.offset;
  return {host.result(output),
          host.result(lse),
          state.select(0, 0).clone(),
          state.select(0, 1).clone(),
          max_q,
          max_k};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> varlen_efficient_backward(
    const Tensor& grad_out, const Tensor& query, const Tensor& key, const Tensor& value,
    const OptionalTensor& bias_in, const Tensor& out, const OptionalTensor& bounds_q,
    const OptionalTensor& bounds_k, int64_t max_q, int64_t max_k, const Tensor& logsumexp,
    double dropout, const Tensor& seed, const Tensor& offset, int64_t mask_type,
    bool bias_requires_grad, std::optional<double> scale, std::optional<int64_t> /*num_splits_key*/,
    std::optional<int64_t> window_size, bool shared_storage) {
  if (!grad_out.defined()) return {};
  const OnHost host(query);
  const Tensor q = host.view(query), k = host.view(key), v = host.view(value);
  const Tensor grad = host.view(grad_out), output = host.view(out), lse = host.view(logsumexp);
  const Tensor bias = host.view(bias_in);
  const Batch batch(q, k, host.view(bounds_q), host.view(bounds_k), Tensor());
  AttentionRule rule = efficient_rule(query, dropout, mask_type, scale, window_size);
  if (dropout > 0) {
    rule.random.state = {*static_cast<const uint64_t*>(seed.data_ptr()),
                         *static_cast<const uint64_t*>(offset.data_ptr())};
  }
  const bool want_bias = bias.defined() && bias_requires_grad;
  const Tensor grad_q = at::zeros_like(q), grad_k = at::zeros_like(k), grad_v = at::zeros_like(v);
  const Tensor grad_bias = want_bias ? at::zeros(bias.sizes(), bias.options()) : Tensor();
  for (int64_t n = 0; n < batch.size(); ++n) {
    const Sequence& s = batch[n];
    if (s.query_length == 0 || s.key_length == 0) continue;
    const AttentionGrads grads = attention_backward(
        batch.query(grad, n), batch.query(q, n), batch.key(k, n), batch.key(v, n),
        batch.query(output, n), lse[n].narrow(1, 0, s.query_length).unsqueeze(0).contiguous(),
        efficient_rule_of(rule, bias, batch, n, q.size(2), max_q, max_k), want_bias);
    batch.query(grad_q, n).copy_(grads.query);
    batch.key(grad_k, n).copy_(grads.key);
    batch.key(grad_v, n).copy_(grads.value);
    if (want_bias) {
      grad_bias.narrow(0, bias.size(0) == 1 ? 0 : n, 1)
          .narrow(2, 0, s.query_length)
          .narrow(3, 0, s.key_length)
          .add_(grads.bias);
    }
  }
  if (shared_storage) {
    TORCH_CHECK(query.size(1) == key.size(1), "seqlen must match for `shared_storage_dqdkdv");
    TORCH_CHECK(query.size(3) == key.size(3),
                "embedding dim must match for `shared_storage_dqdkdv");
    const Tensor chunk = host.result(at::stack({grad_q, grad_k, grad_v}, 2));
    return {chunk.select(2, 0), chunk.select(2, 1), chunk.select(2, 2), host.result(grad_bias)};
  }
  return {host.result(grad_q), host.result(grad_k), host.result(grad_v), host.result(grad_bias)};
}

// ---- cuDNN: dense arguments are [B, H, S, D], packed ones [total, H, D] ----

AttentionRule cudnn_rule(const Tensor& query, bool causal, std::optional<double> scale) {
  AttentionRule rule;
  rule.scale = attention_scale(query, scale);
  if (causal) rule.right = 0;
  return rule;
}

using CudnnTuple =
    std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>;

CudnnTuple cudnn_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                           const OptionalTensor& bias, const OptionalTensor& bounds_q,
                           const OptionalTensor& bounds_k, int64_t max_q, int64_t max_k,
                           bool compute_logsumexp, double dropout, bool causal,
                           bool return_debug_mask, std::optional<double> scale) {
  if (!bounds_q.has_value() || !bounds_q->defined()) {
    return at::_scaled_dot_product_cudnn_attention(query, key, value, bias, compute_logsumexp,
                                                   dropout, causal, return_debug_mask, scale);
  }
  TORCH_CHECK(is_reduced_float(query.scalar_type()), "cuDNN SDPA only supports fp16 and bf16, got ",
              query.scalar_type());
  TORCH_CHECK(dropout == 0, "cuDNN SDPA does not support dropout with packed sequences");
  TORCH_CHECK(!bias.has_value() || !bias->defined(),
              "cuDNN SDPA does not support an attention bias with packed sequences");
  const OnHost host(query);
  const Tensor q = host.view(query), k = host.view(key), v = host.view(value);
  const Batch batch(q, k, host.view(bounds_q), host.view(bounds_k), Tensor());
  const Tensor output = at::empty({q.size(0), q.size(1), v.size(2)}, q.options());
  const Tensor lse = at::empty({q.size(0), q.size(1), 1}, q.options().dtype(at::kFloat));
  for (int64_t n = 0; n < batch.size(); ++n) {
    if (batch[n].query_length == 0) continue;
    const AttentionResult result = attention_forward(
        batch.query(q, n), batch.key(k, n), batch.key(v, n), cudnn_rule(query, causal, scale));
    batch.query(output, n).copy_(result.output);
    batch.query(lse, n).copy_(result.logsumexp.unsqueeze(-1));
  }
  const auto words = query.options().dtype(at::kLong);
  return {host.result(output),
          host.result(lse),
          *bounds_q,
          value_or_undefined(bounds_k),
          max_q,
          max_k,
          at::zeros({}, words),
          at::zeros({}, words),
          Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> cudnn_attention_backward(
    const Tensor& grad_out, const Tensor& query, const Tensor& key, const Tensor& value,
    const Tensor& out, const Tensor& logsumexp, const Tensor& seed, const Tensor& offset,
    const Tensor& bias, const Tensor& bounds_q, const Tensor& bounds_k, int64_t max_q,
    int64_t max_k, double dropout, bool causal, std::optional<double> scale) {
  if (!grad_out.defined()) return {};
  if (!bounds_q.defined()) {
    return at::_scaled_dot_product_cudnn_attention_backward(
        grad_out, query, key, value, out, logsumexp, seed, offset, bias, bounds_q, bounds_k, max_q,
        max_k, dropout, causal, scale);
  }
  const OnHost host(query);
  const Tensor q = host.view(query), k = host.view(key), v = host.view(value);
  const Tensor grad = host.view(grad_out), output = host.view(out), lse = host.view(logsumexp);
  const Batch batch(q, k, host.view(bounds_q), host.view(bounds_k), Tensor());
  const Tensor grad_q = at::zeros_like(q), grad_k = at::zeros_like(k), grad_v = at::zeros_like(v);
  for (int64_t n = 0; n < batch.size(); ++n) {
    if (batch[n].query_length == 0 || batch[n].key_length == 0) continue;
    const AttentionGrads grads = attention_backward(
        batch.query(grad, n), batch.query(q, n), batch.key(k, n), batch.key(v, n),
        batch.query(output, n), batch.query(lse, n).squeeze(-1).contiguous(),
        cudnn_rule(query, causal, scale), false);
    batch.query(grad_q, n).copy_(grads.query);
    batch.key(grad_k, n).copy_(grads.key);
    batch.key(grad_v, n).copy_(grads.value);
  }
  return {host.result(grad_q), host.result(grad_k), host.result(grad_v)};
}

Tensor& fill_dropout_mask(Tensor& self, double /*dropout*/, int64_t seed, int64_t offset) {
  TORCH_CHECK(self.is_contiguous() && self.scalar_type() == at::kFloat,
              "_fill_mem_eff_dropout_mask_: expected a contiguous float tensor");
  fill_dropout_uniform(static_cast<float*>(self.data_ptr()), self.numel(),
                       {{static_cast<uint64_t>(seed), static_cast<uint64_t>(offset)}});
  return self;
}

HEITU_KERNELS(attention_varlen) {
  const auto op = c10::Dispatcher::singleton().findSchema({"aten::_flash_attention_forward", ""});
  constexpr size_t kArgumentsWithPages = 17;
  if (op && op->schema().arguments().size() == kArgumentsWithPages) {
    m.impl("_flash_attention_forward", flash_forward);
  } else {
    m.impl("_flash_attention_forward", flash_forward_unpaged);
  }
  m.impl("_flash_attention_backward", varlen_flash_backward);
  m.impl("_efficient_attention_forward", efficient_forward);
  m.impl("_efficient_attention_backward", varlen_efficient_backward);
  m.impl("_cudnn_attention_forward", cudnn_attention);
  m.impl("_cudnn_attention_backward", cudnn_attention_backward);
  m.impl("_fill_mem_eff_dropout_mask_", fill_dropout_mask);
  m.impl("_flash_attention_forward_no_dropout_inplace", flash_forward_into);
}

}  // namespace
}  // namespace heitu
