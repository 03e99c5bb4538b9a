// Memory-efficient attention below scaled_dot_product_attention, [B, S, H, D] or [1, total, H, D]
// with cumulative sequence lengths; also called directly by xFormers.
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
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
AttentionRule efficient_rule_of(AttentionRule rule, const Tensor& bias, const SequenceBatch& batch,
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
  const SequenceBatch batch(q, k, host.view(bounds_q), host.view(bounds_k), host.view(seqlen_k));
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
  const SequenceBatch batch(q, k, host.view(bounds_q), host.view(bounds_k), Tensor());
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

Tensor& fill_dropout_mask(Tensor& self, double /*dropout*/, int64_t seed, int64_t offset) {
  TORCH_CHECK(self.is_contiguous() && self.scalar_type() == at::kFloat,
              "_fill_mem_eff_dropout_mask_: expected a contiguous float tensor");
  fill_dropout_uniform(static_cast<float*>(self.data_ptr()), self.numel(),
                       {{static_cast<uint64_t>(seed), static_cast<uint64_t>(offset)}});
  return self;
}

HEITU_KERNELS(attention_varlen_efficient) {
  m.impl("_efficient_attention_forward", efficient_forward);
  m.impl("_efficient_attention_backward", varlen_efficient_backward);
  m.impl("_fill_mem_eff_dropout_mask_", fill_dropout_mask);
}

}  // namespace
}  // namespace heitu
