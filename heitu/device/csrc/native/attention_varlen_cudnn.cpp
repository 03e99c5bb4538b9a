// cuDNN's attention below scaled_dot_product_attention: dense arguments are [B, H, S, D], packed
// ones [total, H, D] with cumulative sequence lengths.
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward.h>
#include <ATen/ops/empty.h>
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
  const SequenceBatch batch(q, k, host.view(bounds_q), host.view(bounds_k), Tensor());
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
  const SequenceBatch batch(q, k, host.view(bounds_q), host.view(bounds_k), Tensor());
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

HEITU_KERNELS(attention_varlen_cudnn) {
  m.impl("_cudnn_attention_forward", cudnn_attention);
  m.impl("_cudnn_attention_backward", cudnn_attention_backward);
}

}  // namespace
}  // namespace heitu
