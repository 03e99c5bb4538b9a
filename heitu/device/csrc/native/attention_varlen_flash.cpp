// Flash attention below scaled_dot_product_attention, [B, S, H, D] or [total, H, D] with cumulative
// sequence lengths; also called directly by varlen_attn.
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include "../prelude.h"
#include "../registry.h"
#include "attention_core.h"
#include "on_host.h"
#include "sequence_batch.h"

namespace heitu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

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
  AttentionRule of(const SequenceBatch& batch, int64_t n, int64_t heads,
                   at::ScalarType type) const {
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
                  const SequenceBatch& batch, const FlashCall& call, bool packed) {
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
  const SequenceBatch batch(q, k, host.view(cum_seq_q), key_bounds, host.view(seqused_k));
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
  const SequenceBatch batch(q, k, host.view(cum_seq_q), host.view(cum_seq_k), Tensor());
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

HEITU_KERNELS(attention_varlen_flash) {
  const auto op = c10::Dispatcher::singleton().findSchema({"aten::_flash_attention_forward", ""});
  constexpr size_t kArgumentsWithPages = 17;
  if (op && op->schema().arguments().size() == kArgumentsWithPages) {
    m.impl("_flash_attention_forward", flash_forward);
  } else {
    m.impl("_flash_attention_forward", flash_forward_unpaged);
  }
  m.impl("_flash_attention_backward", varlen_flash_backward);
  m.impl("_flash_attention_forward_no_dropout_inplace", flash_forward_into);
}

}  // namespace
}  // namespace heitu
