#include "attention_core.h"

#include <ATen/ExpandUtils.h>
#include <ATen/Parallel.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gt.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/softmax.h>

#include <limits>

#include "../generator.h"
#include "../narrow_products.h"
#include "../prelude.h"
#include "on_host.h"

namespace heitu {

using at::Tensor;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

int64_t diagonal_shift(const Tensor& q, const Tensor& k, const AttentionRule& rule) {
  return rule.bottom_right ? k.size(2) - q.size(2) : 0;
}

// The CPU's flash kernel knows equal head sizes, and causality from the top left corner.
bool cpu_kernel_serves(const Tensor& q, const Tensor& k, const Tensor& v,
                       const AttentionRule& rule) {
  const bool causal = rule.right.has_value();
  return rule.dropout == 0 && !rule.left.has_value() && q.size(3) == v.size(3) &&
         (!causal || (*rule.right == 0 && diagonal_shift(q, k, rule) == 0)) && q.numel() > 0 &&
         k.numel() > 0 && (!rule.bias.defined() || rule.bias.scalar_type() == q.scalar_type());
}

// Each key head serves a group of query heads.
Tensor expand_heads(const Tensor& t, int64_t heads) {
  if (t.size(1) == heads) return t;
  const int64_t group = heads / t.size(1);
  return t.unsqueeze(2)
      .expand({t.size(0), t.size(1), group, t.size(2), t.size(3)})
      .reshape({t.size(0), heads, t.size(2), t.size(3)});
}

Tensor sum_heads(const Tensor& grad, int64_t heads) {
  if (grad.size(1) == heads) return grad;
  return grad.reshape({grad.size(0), heads, grad.size(1) / heads, grad.size(2), grad.size(3)})
      .sum(2);
}

Tensor dense_last_dim(const Tensor& t) { return t.stride(-1) == 1 ? t : t.contiguous(); }

Tensor expand_bias(const Tensor& bias, const Tensor& q, const Tensor& k) {
  if (!bias.defined()) return bias;
  return bias.expand({q.size(0), q.size(1), q.size(2), k.size(2)});
}

// Both factors take their share of the scale, as in the composite that PyTorch falls back to.
struct Shares {
  double query, key;
};

Shares shares_of(double scale) {
  const double root = std::sqrt(std::abs(scale));
  return {std::copysign(root, scale), root};
}

// Scaled, biased and masked scores, in the accumulate type; fresh.
Tensor scores(const Tensor& q, const Tensor& k, const AttentionRule& rule) {
  const auto acc = accumulate_type(q.scalar_type());
  const Shares share = shares_of(rule.scale);
  Tensor result = at::matmul(q.to(acc) * share.query, k.to(acc).transpose(-2, -1) * share.key);
  if (rule.bias.defined()) result.add_(rule.bias);
  if (rule.left.has_value() || rule.right.has_value()) {
    const auto options = q.options().dtype(at::kLong);
    const Tensor distance = at::arange(k.size(2), options) -
                            at::arange(q.size(2), options).unsqueeze(1) -
                            diagonal_shift(q, k, rule);
    if (rule.left.has_value()) result.masked_fill_(distance < -*rule.left, -kInfinity);
    if (rule.right.has_value()) result.masked_fill_(distance > *rule.right, -kInfinity);
  }
  return result;
}

// 1 where kept, 0 where dropped.
Tensor dropout_mask(const Tensor& probabilities, const AttentionRule& rule) {
  const Tensor uniform =
      at::empty(probabilities.sizes(), probabilities.options().dtype(at::kFloat));
  fill_dropout_uniform(uniform.data_ptr<float>(), uniform.numel(), rule.random);
  return at::gt(uniform, rule.dropout).to(probabilities.scalar_type());
}

// Infinite, as CUDA's kernels have it, where a mask hides every key.
Tensor row_logsumexp(const Tensor& s) {
  Tensor lse = s.size(-1) > 0 ? at::logsumexp(s, -1)
                              : at::full(s.sizes().slice(0, 3), -kInfinity, s.options());
  return lse.masked_fill_(lse == -kInfinity, kInfinity);
}

// Softmax, and zero where a query sees no key. exp(scores - logsumexp) would lose digits of large
// scores.
Tensor probabilities(const Tensor& s, const Tensor& logsumexp) {
  return at::softmax(s, -1).masked_fill_((logsumexp == kInfinity).unsqueeze(-1), 0);
}

// What the CPU's kernel is to compute in.
at::ScalarType work_type(const Tensor& q) {
  return slow_on_host(q.scalar_type()) ? at::kFloat : q.scalar_type();
}

}  // namespace

AttentionResult attention_forward(const Tensor& q, const Tensor& k_in, const Tensor& v_in,
                                  const AttentionRule& rule) {
  const Tensor k = expand_heads(k_in, q.size(1)), v = expand_heads(v_in, q.size(1));
  if (cpu_kernel_serves(q, k, v, rule)) {
    const Tensor bias = expand_bias(rule.bias, q, k);
    const auto work = work_type(q);
    auto [output, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
        dense_last_dim(q.to(work)), dense_last_dim(k.to(work)), dense_last_dim(v.to(work)), 0.0,
        rule.right.has_value(), bias.defined() ? std::make_optional(bias.to(work)) : std::nullopt,
        rule.scale);
    return {output.to(q.scalar_type()), lse.to(at::kFloat).contiguous()};
  }
  const Tensor s = scores(q, k, rule);
  const Tensor lse = row_logsumexp(s);
  Tensor p = probabilities(s, lse);
  if (rule.dropout > 0) p.mul_(dropout_mask(p, rule)).div_(1 - rule.dropout);
  const Tensor output = at::matmul(p, v.to(p.scalar_type()));
  return {output.to(q.scalar_type()), lse.to(at::kFloat)};
}

AttentionGrads attention_backward(const Tensor& grad, const Tensor& q, const Tensor& k_in,
                                  const Tensor& v_in, const Tensor& output, const Tensor& logsumexp,
                                  const AttentionRule& rule, bool bias_grad) {
  const int64_t key_heads = k_in.size(1);
  const Tensor k = expand_heads(k_in, q.size(1)), v = expand_heads(v_in, q.size(1));
  if (!bias_grad && cpu_kernel_serves(q, k, v, rule)) {
    const Tensor bias = expand_bias(rule.bias, q, k);
    const auto type = q.scalar_type(), work = work_type(q);
    auto [grad_q, grad_k, grad_v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        dense_last_dim(grad.to(work)), dense_last_dim(q.to(work)), dense_last_dim(k.to(work)),
        dense_last_dim(v.to(work)), output.to(work),
        logsumexp.to(type == at::kDouble ? at::kDouble : at::kFloat), 0.0, rule.right.has_value(),
        bias.defined() ? std::make_optional(bias.to(work)) : std::nullopt, rule.scale);
    return {grad_q.to(type), sum_heads(grad_k, key_heads).to(type),
            sum_heads(grad_v, key_heads).to(type), Tensor()};
  }
  const auto type = q.scalar_type(), acc = accumulate_type(type);
  const Tensor p = probabilities(scores(q, k, rule), logsumexp);
  const Tensor grad_out = grad.to(acc);
  Tensor grad_p = at::matmul(grad_out, v.to(acc).transpose(-2, -1));
  Tensor grad_v;
  if (rule.dropout > 0) {
    const Tensor kept = dropout_mask(p, rule).div_(1 - rule.dropout);
    grad_p.mul_(kept);
    grad_v = at::matmul(at::mul(p, kept).transpose(-2, -1), grad_out);
  } else {
    grad_v = at::matmul(p.transpose(-2, -1), grad_out);
  }
  const Tensor grad_s = at::_softmax_backward_data(grad_p, p, -1, acc);
  Tensor grad_bias;
  if (bias_grad) grad_bias = at::sum_to(grad_s, rule.bias.sizes()).to(rule.bias.scalar_type());
  const Shares share = shares_of(rule.scale);
  const Tensor grad_q = at::matmul(grad_s, k.to(acc) * share.key).mul_(share.query);
  const Tensor grad_k =
      at::matmul(grad_s.transpose(-2, -1), q.to(acc) * share.query).mul_(share.key);
  return {grad_q.to(type), sum_heads(grad_k, key_heads).to(type),
          sum_heads(grad_v, key_heads).to(type), grad_bias};
}

Tensor attention_debug_mask(const Tensor& q, const Tensor& k_in, const AttentionRule& rule) {
  const Tensor k = expand_heads(k_in, q.size(1));
  const Tensor s = scores(q, k, rule);
  Tensor p = probabilities(s, row_logsumexp(s));
  return p.mul_(dropout_mask(p, rule).mul_(2).sub_(1)).to(q.scalar_type());
}

PhiloxState draw_dropout(const Tensor& query, double dropout, int64_t increment) {
  if (dropout <= 0) return {};
  return draw(generator_or_default(std::nullopt, query.device().index()),
              static_cast<uint64_t>(increment));
}

void fill_dropout_uniform(float* values, int64_t count, const MaskNumbers& numbers) {
  constexpr int64_t kWords = 4, kGrain = 8192;
  const int64_t per_thread = numbers.words_per_thread / kWords;
  at::parallel_for(0, (count + kWords - 1) / kWords, kGrain, [&](int64_t from, int64_t to) {
    for (int64_t n = from; n < to; ++n) {
      const int64_t call = numbers.first / kWords + n;
      const int64_t thread = per_thread > 0 ? call / per_thread : 0;
      const philox::Words words = philox::words(
          numbers.state.seed, numbers.state.offset / kWords + (call - thread * per_thread), thread);
      const int64_t first = n * kWords;
      for (int64_t i = 0; i < std::min(kWords, count - first); ++i) {
        values[first + i] = philox::uniform(words[i]);
      }
    }
  });
}

}  // namespace heitu
