// The fused operators behind scaled_dot_product_attention: flash, efficient and cuDNN attention.
// query [B, H, Sq, D], key [B, Hk, Sk, D], value [B, Hk, Sk, Dv].
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>

#include "../prelude.h"
#include "../registry.h"
#include "attention_core.h"
#include "on_host.h"

namespace heitu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Flash and cuDNN attention lay their output out in memory as the query is, and each gradient as
// what it is of.
Tensor laid_out_as(const Tensor& output, const Tensor& query) {
  const Tensor wanted = at::empty_like(query.size(-1) == output.size(-1) ? query : output);
  return wanted.strides() == output.strides() ? output : wanted.copy_(output);
}

std::tuple<Tensor, Tensor, Tensor> laid_out_as(const AttentionGrads& grads, const Tensor& query,
                                               const Tensor& key, const Tensor& value,
                                               const OnHost& host) {
  return {host.result(laid_out_as(grads.query, query)), host.result(laid_out_as(grads.key, key)),
          host.result(laid_out_as(grads.value, value))};
}

// Efficient attention always as [B, S, H, D], its gradients too.
Tensor laid_out_by_rows(const Tensor& output) {
  const Tensor rows = output.transpose(1, 2);
  return rows.is_contiguous() ? output : rows.contiguous().transpose(1, 2);
}

// Tensors that hold seed and offset lie on the device, as they do while CUDA captures a graph.
Tensor scalar_of(uint64_t value, const Tensor& like) {
  const Tensor result = at::empty({}, like.options().dtype(at::kLong));
  *static_cast<int64_t*>(result.data_ptr()) = static_cast<int64_t>(value);
  return result;
}

uint64_t scalar_value(const Tensor& t) {
  return t.defined() && t.numel() > 0 ? *static_cast<const uint64_t*>(t.data_ptr()) : 0;
}

int64_t mask_numel(const Tensor& query, const Tensor& key) {
  return query.size(0) * query.size(1) * query.size(2) * key.size(2);
}

void check_same_dtype(const char* name, const Tensor& q, const Tensor& k, const Tensor& v) {
  TORCH_CHECK(q.scalar_type() == k.scalar_type(), name, ": query and key must have the same dtype");
  TORCH_CHECK(q.scalar_type() == v.scalar_type(), name,
              ": query and value must have the same dtype");
}

// ---- flash ----

// [seed, offset] of the dropout mask.
Tensor flash_rng_state(PhiloxState random, const Tensor& like) {
  const Tensor state = at::empty({2}, like.options().dtype(at::kUInt64));
  static_cast<uint64_t*>(state.data_ptr())[0] = random.seed;
  static_cast<uint64_t*>(state.data_ptr())[1] = random.offset;
  return state;
}

PhiloxState flash_random(const Tensor& state) {
  if (!state.defined() || state.numel() < 2) return {};
  const uint64_t* words = static_cast<const uint64_t*>(state.data_ptr());
  return {words[0], words[1]};
}

AttentionRule flash_rule(const Tensor& query, double dropout, bool causal,
                         std::optional<double> scale) {
  AttentionRule rule;
  rule.scale = attention_scale(query, scale);
  rule.dropout = dropout;
  rule.bottom_right = true;
  if (causal) rule.right = 0;
  return rule;
}

void check_flash(const Tensor& q, const Tensor& k, const Tensor& v) {
  TORCH_CHECK(is_reduced_float(q.scalar_type()),
              "FlashAttention only support fp16 and bf16 data type");
  check_same_dtype("FlashAttention", q, k, v);
  TORCH_CHECK(q.stride(-1) == 1 && k.stride(-1) == 1 && v.stride(-1) == 1,
              "Input tensor must have contiguous last dimension");
  TORCH_CHECK(q.size(-1) % 8 == 0, "FlashAttention requires head dim to be a multiple of 8, got ",
              q.size(-1));
  TORCH_CHECK(q.size(-1) <= 256, "FlashAttention forward only supports head dimension at most 256");
  TORCH_CHECK(q.size(1) % k.size(1) == 0,
              "Number of heads in key/value must divide number of heads in query");
}

using FlashResult =
    std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>;

FlashResult flash(const Tensor& query, const Tensor& key, const Tensor& value, double dropout,
                  bool causal, bool return_debug_mask, std::optional<double> scale) {
  check_flash(query, key, value);
  TORCH_CHECK(!return_debug_mask || dropout > 0,
              "return_softmax is only supported when p_dropout > 0.0");
  const OnHost host(query);
  AttentionRule rule = flash_rule(query, dropout, causal, scale);
  rule.random = {draw_dropout(query, dropout, query.size(0) * query.size(1) * 32),
                 kFlashWordsPerThread};
  const Tensor q = host.view(query), k = host.view(key);
  const AttentionResult result = attention_forward(q, k, host.view(value), rule);
  const Tensor debug =
      return_debug_mask ? attention_debug_mask(q, k, rule) : at::empty({0}, q.options());
  return {host.result(laid_out_as(result.output, q)),
          host.result(result.logsumexp),
          Tensor(),
          Tensor(),
          query.size(2),
          key.size(2),
          flash_rng_state(rule.random.state, query),
          at::empty({}, query.options().dtype(at::kUInt64)),
          host.result(debug)};
}

std::tuple<Tensor, Tensor, Tensor> flash_backward(
    const Tensor& grad_out, const Tensor& query, const Tensor& key, const Tensor& value,
    const Tensor& out, const Tensor& logsumexp, const Tensor& /*cum_seq_q*/,
    const Tensor& /*cum_seq_k*/, int64_t /*max_q*/, int64_t /*max_k*/, double dropout, bool causal,
    const Tensor& rng_state, const Tensor& /*unused*/, std::optional<double> scale) {
  if (!grad_out.defined()) return {};
  const OnHost host(query);
  AttentionRule rule = flash_rule(query, dropout, causal, scale);
  rule.random = {flash_random(rng_state), kFlashWordsPerThread};
  const Tensor q = host.view(query), k = host.view(key), v = host.view(value);
  const AttentionGrads grads = attention_backward(host.view(grad_out), q, k, v, host.view(out),
                                                  host.view(logsumexp), rule, false);
  return laid_out_as(grads, q, k, v, host);
}

// ---- memory efficient ----

constexpr int64_t kLogsumexpAlignment = 32;

AttentionRule top_left_rule(const Tensor& query, const Tensor& bias, double dropout, bool causal,
                            std::optional<double> scale) {
  AttentionRule rule;
  rule.scale = attention_scale(query, scale);
  rule.dropout = dropout;
  rule.bias = bias;
  if (causal) rule.right = 0;
  return rule;
}

void check_efficient(const Tensor& q, const Tensor& k, const Tensor& v) {
  const auto type = q.scalar_type();
  TORCH_CHECK(is_reduced_float(type) || type == at::kFloat, "cutlassF: no kernel found to launch!");
  check_same_dtype("Efficient attention", q, k, v);
  TORCH_CHECK(q.stride(-1) == 1 && k.stride(-1) == 1 && v.stride(-1) == 1,
              "Efficient attention: query, key and value must be contiguous in the last dimension");
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient(const Tensor& query, const Tensor& key,
                                                     const Tensor& value,
                                                     const OptionalTensor& attn_bias,
                                                     bool compute_logsumexp, double dropout,
                                                     bool causal, std::optional<double> scale) {
  check_efficient(query, key, value);
  const OnHost host(query);
  AttentionRule rule = top_left_rule(query, host.view(attn_bias), dropout, causal, scale);
  rule.random.state = draw_dropout(query, dropout, mask_numel(query, key));
  const AttentionResult result =
      attention_forward(host.view(query), host.view(key), host.view(value), rule);
  const int64_t rows = query.size(2);
  const int64_t padded = compute_logsumexp ? (rows + kLogsumexpAlignment - 1) /
                                                 kLogsumexpAlignment * kLogsumexpAlignment
                                           : 0;
  Tensor lse = result.logsumexp;
  if (padded != rows) {
    lse = at::full({query.size(0), query.size(1), padded}, std::numeric_limits<float>::infinity(),
                   lse.options());
    if (padded > 0) lse.narrow(2, 0, rows).copy_(result.logsumexp);
  }
  return {host.result(laid_out_by_rows(result.output)), host.result(lse),
          scalar_of(rule.random.state.seed, query), scalar_of(rule.random.state.offset, query)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient_backward(
    const Tensor& grad_out, const Tensor& query, const Tensor& key, const Tensor& value,
    const Tensor& attn_bias, const Tensor& out, const Tensor& logsumexp, const Tensor& seed,
    const Tensor& offset, double dropout, std::array<bool, 4> mask, bool causal,
    std::optional<double> scale) {
  if (!grad_out.defined()) return {};
  const OnHost host(query);
  TORCH_CHECK(logsumexp.size(2) >= query.size(2),
              "Efficient attention: the forward pass did not compute the logsumexp");
  AttentionRule rule = top_left_rule(query, host.view(attn_bias), dropout, causal, scale);
  rule.random.state = {scalar_value(seed), scalar_value(offset)};
  const AttentionGrads grads = attention_backward(
      host.view(grad_out), host.view(query), host.view(key), host.view(value), host.view(out),
      host.view(logsumexp).narrow(2, 0, query.size(2)).contiguous(), rule,
      attn_bias.defined() && mask[3]);
  return {host.result(laid_out_by_rows(grads.query)), host.result(laid_out_by_rows(grads.key)),
          host.result(laid_out_by_rows(grads.value)), host.result(grads.bias)};
}

// ---- cuDNN ----

using CudnnResult = FlashResult;

CudnnResult cudnn(const Tensor& query, const Tensor& key, const Tensor& value,
                  const OptionalTensor& attn_bias, bool compute_logsumexp, double dropout,
                  bool causal, bool /*return_debug_mask*/, std::optional<double> scale) {
  TORCH_CHECK(is_reduced_float(query.scalar_type()), "cuDNN SDPA only supports fp16 and bf16, got ",
              query.scalar_type());
  check_same_dtype("cuDNN SDPA", query, key, value);
  const OnHost host(query);
  AttentionRule rule = top_left_rule(query, host.view(attn_bias), dropout, causal, scale);
  rule.random.state = draw_dropout(query, dropout, mask_numel(query, key));
  const Tensor q = host.view(query);
  const AttentionResult result = attention_forward(q, host.view(key), host.view(value), rule);
  Tensor lse = result.logsumexp.unsqueeze_(-1);
  if (!compute_logsumexp) lse = at::empty({0}, lse.options());
  return {host.result(laid_out_as(result.output, q)),
          host.result(lse),
          Tensor(),
          Tensor(),
          query.size(2),
          key.size(2),
          scalar_of(rule.random.state.seed, query),
          scalar_of(rule.random.state.offset, query),
          Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> cudnn_backward(
    const Tensor& grad_out, const Tensor& query, const Tensor& key, const Tensor& value,
    const Tensor& out, const Tensor& logsumexp, const Tensor& seed, const Tensor& offset,
    const Tensor& attn_bias, const Tensor& /*cum_seq_q*/, const Tensor& /*cum_seq_k*/,
    int64_t /*max_q*/, int64_t /*max_k*/, double dropout, bool causal,
    std::optional<double> scale) {
  if (!grad_out.defined()) return {};
  const OnHost host(query);
  AttentionRule rule = top_left_rule(query, host.view(attn_bias), dropout, causal, scale);
  rule.random.state = {scalar_value(seed), scalar_value(offset)};
  const Tensor q = host.view(query), k = host.view(key), v = host.view(value);
  const AttentionGrads grads = attention_backward(host.view(grad_out), q, k, v, host.view(out),
                                                  host.view(logsumexp).squeeze(-1), rule, false);
  return laid_out_as(grads, q, k, v, host);
}

HEITU_KERNELS(attention) {
  m.impl("_scaled_dot_product_flash_attention", flash);
  m.impl("_scaled_dot_product_flash_attention_backward", flash_backward);
  m.impl("_scaled_dot_product_efficient_attention", efficient);
  m.impl("_scaled_dot_product_efficient_attention_backward", efficient_backward);
  m.impl("_scaled_dot_product_cudnn_attention", cudnn);
  m.impl("_scaled_dot_product_cudnn_attention_backward", cudnn_backward);
}

}  // namespace
}  // namespace heitu
