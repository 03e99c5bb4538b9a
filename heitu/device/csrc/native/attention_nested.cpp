// Fused attention of nested tensors [B, H, {S}, D]: one sequence after the other.
#include <ATen/NestedTensorImpl.h>
#include <ATen/ops/_nested_tensor_from_tensor_list.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/unbind.h>
#include <ATen/ops/zeros.h>

#include "../prelude.h"
#include "../registry.h"
#include "attention_core.h"
#include "on_host.h"

namespace heitu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// The sequences of a nested or dense tensor as [1, H, S, D]; a single one serves the whole batch.
std::vector<Tensor> sequences(const Tensor& t, size_t batch) {
  std::vector<Tensor> list = at::unbind(t, 0);
  for (Tensor& one : list) one = one.unsqueeze(0);
  if (list.size() == 1 && batch > 1) list.resize(batch, list.front());
  TORCH_CHECK(list.size() == batch, "nested attention: batches of ", batch, " and ", list.size(),
              " sequences do not fit together");
  return list;
}

struct Inputs {
  std::vector<Tensor> query, key, value;

  Inputs(const Tensor& q, const Tensor& k, const Tensor& v) {
    const size_t batch = std::max({q.size(0), k.size(0), v.size(0)});
    query = sequences(q, batch);
    key = sequences(k, batch);
    value = sequences(v, batch);
    for (size_t n = 0; n < batch; ++n) {
      // Heads of which there is one serve all, as in the batch.
      const int64_t heads = std::max(query[n].size(1), key[n].size(1));
      for (Tensor* t : {&query[n], &key[n], &value[n]}) {
        if (t->size(1) == 1) *t = t->expand({1, heads, t->size(2), t->size(3)});
      }
    }
  }
  size_t size() const { return query.size(); }
};

int64_t longest(const std::vector<Tensor>& list) {
  int64_t result = 0;
  for (const Tensor& t : list) result = std::max(result, t.size(2));
  return result;
}

// Offsets of the sequences, int32 [B + 1].
Tensor bounds(const std::vector<Tensor>& list) {
  const Tensor result =
      at::zeros({static_cast<int64_t>(list.size()) + 1}, list[0].options().dtype(at::kInt));
  int32_t* out = result.data_ptr<int32_t>();
  for (size_t n = 0; n < list.size(); ++n)
    out[n + 1] = out[n] + static_cast<int32_t>(list[n].size(2));
  return result;
}

// [B, H, {S}, D] over memory [B, {S}, H, D], as CUDA's kernels leave it.
Tensor nest(const OnHost& host, const std::vector<Tensor>& list) {
  std::vector<Tensor> rows;
  for (const Tensor& t : list) rows.push_back(t[0].transpose(0, 1).contiguous());
  return host.result(at::_nested_tensor_from_tensor_list(rows)).transpose(1, 2);
}

struct Output {
  std::vector<Tensor> sequences;
  Tensor logsumexp;  // [B, H, longest query]
};

// Sequence n's share of the random numbers.
AttentionRule rule_of(AttentionRule rule, const Inputs& in, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    rule.random.first +=
        (in.query[i].size(1) * in.query[i].size(2) * in.key[i].size(2) + 3) / 4 * 4;
  }
  return rule;
}

Output forward(const Inputs& in, const AttentionRule& rule) {
  Output out;
  const int64_t heads = in.query[0].size(1);
  out.logsumexp =
      at::full({static_cast<int64_t>(in.size()), heads, longest(in.query)},
               std::numeric_limits<float>::infinity(), in.query[0].options().dtype(at::kFloat));
  for (size_t n = 0; n < in.size(); ++n) {
    AttentionResult one =
        attention_forward(in.query[n], in.key[n], in.value[n], rule_of(rule, in, n));
    out.logsumexp[n].narrow(1, 0, in.query[n].size(2)).copy_(one.logsumexp[0]);
    out.sequences.push_back(std::move(one.output));
  }
  return out;
}

AttentionRule rule_for(const Tensor& query, double dropout, bool causal, bool bottom_right,
                       std::optional<double> scale) {
  AttentionRule rule;
  rule.scale = attention_scale(query, scale);
  rule.dropout = dropout;
  rule.bottom_right = bottom_right;
  rule.random.words_per_thread = kFlashWordsPerThread;
  if (causal) rule.right = 0;
  return rule;
}

// The generator moves on for B * H threads' worth of words.
int64_t increment(const Inputs& in) {
  return static_cast<int64_t>(in.size()) * in.query[0].size(1) * kFlashWordsPerThread;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>
nested_flash(const Tensor& query, const Tensor& key, const Tensor& value, double dropout,
             bool causal, bool /*return_debug_mask*/, std::optional<double> scale) {
  TORCH_CHECK(is_reduced_float(query.scalar_type()),
              "FlashAttention only support fp16 and bf16 data type");
  const OnHost host(query);
  const Inputs in(host.view(query), host.view(key), host.view(value));
  AttentionRule rule = rule_for(query, dropout, causal, true, scale);
  rule.random.state = draw_dropout(query, dropout, increment(in));
  const Output out = forward(in, rule);
  const Tensor state = at::empty({2}, in.query[0].options().dtype(at::kUInt64));
  static_cast<uint64_t*>(state.data_ptr())[0] = rule.random.state.seed;
  static_cast<uint64_t*>(state.data_ptr())[1] = rule.random.state.offset;
  const auto empty = in.query[0].options();
  return {nest(host, out.sequences),
          host.result(out.logsumexp),
          host.result(bounds(in.query)),
          host.result(bounds(in.key)),
          longest(in.query),
          longest(in.key),
          host.result(state),
          host.result(at::empty({}, empty.dtype(at::kUInt64))),
          host.result(at::empty({0}, empty))};
}

std::tuple<Tensor, Tensor, Tensor> nested_flash_backward(
    const Tensor& grad_out, const Tensor& query, const Tensor& key, const Tensor& value,
    const Tensor& out, const Tensor& logsumexp, const Tensor& /*cum_seq_q*/,
    const Tensor& /*cum_seq_k*/, int64_t /*max_q*/, int64_t /*max_k*/, double dropout, bool causal,
    const Tensor& rng_state, const Tensor& /*unused*/, std::optional<double> scale) {
  if (!grad_out.defined()) return {};
  const OnHost host(query);
  const Inputs in(host.view(query), host.view(key), host.view(value));
  AttentionRule rule = rule_for(query, dropout, causal, true, scale);
  if (dropout > 0) {
    const uint64_t* words = static_cast<const uint64_t*>(rng_state.data_ptr());
    rule.random.state = {words[0], words[1]};
  }
  const auto grads_out = sequences(host.view(grad_out), in.size());
  const auto outputs = sequences(host.view(out), in.size());
  const Tensor lse = host.view(logsumexp);
  std::vector<Tensor> grad_q, grad_k, grad_v;
  for (size_t n = 0; n < in.size(); ++n) {
    AttentionGrads grads =
        attention_backward(grads_out[n], in.query[n], in.key[n], in.value[n], outputs[n],
                           lse[n].narrow(1, 0, in.query[n].size(2)).unsqueeze(0).contiguous(),
                           rule_of(rule, in, n), false);
    grad_q.push_back(grads.query);
    grad_k.push_back(grads.key);
    grad_v.push_back(grads.value);
  }
  return {nest(host, grad_q), nest(host, grad_k), nest(host, grad_v)};
}

// Inference only: CUDA's choice never trains nested tensors with it.
std::tuple<Tensor, Tensor, Tensor, Tensor> nested_efficient(
    const Tensor& query, const Tensor& key, const Tensor& value, const OptionalTensor& attn_bias,
    bool compute_logsumexp, double dropout, bool causal, std::optional<double> scale) {
  TORCH_CHECK(!attn_bias.has_value() || !attn_bias->defined(),
              "Efficient attention of nested tensors takes no attn_mask");
  const OnHost host(query);
  const Inputs in(host.view(query), host.view(key), host.view(value));
  AttentionRule rule = rule_for(query, dropout, causal, false, scale);
  rule.random.state = draw_dropout(query, dropout, increment(in));
  const Output out = forward(in, rule);
  const auto words = in.query[0].options().dtype(at::kLong);
  const auto scalar = [&](uint64_t value) {
    return host.result(at::full({}, static_cast<int64_t>(value), words));
  };
  return {nest(host, out.sequences),
          host.result(compute_logsumexp ? out.logsumexp : at::empty({0}, out.logsumexp.options())),
          scalar(rule.random.state.seed), scalar(rule.random.state.offset)};
}

HEITU_KERNELS(attention_nested) {
  const auto nested = c10::DispatchKey::NestedTensorCUDA;
  m.impl("_scaled_dot_product_flash_attention", nested_flash, nested);
  m.impl("_scaled_dot_product_flash_attention_backward", nested_flash_backward, nested);
  m.impl("_scaled_dot_product_efficient_attention", nested_efficient, nested);
}

}  // namespace
}  // namespace heitu
