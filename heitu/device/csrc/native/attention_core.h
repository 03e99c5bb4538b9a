// Attention on the host: what all of CUDA's fused attention operators compute.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <optional>

#include "../philox.h"

namespace heitu {

// Which random numbers make a dropout mask: those of efficient attention all come from the thread
// 0, one after the other; those of flash attention from many threads, `words_per_thread` of each,
// so that the generator need not move on by the size of the mask.
struct MaskNumbers {
  PhiloxState state;
  int64_t words_per_thread = 0;  // 0: one thread
  int64_t first = 0;             // number of the mask's first element; a multiple of 4
};

constexpr int64_t kFlashWordsPerThread = 32;

// q [B, H, Sq, D], k [B, Hk, Sk, D] and v [B, Hk, Sk, Dv], where Hk divides H.
struct AttentionRule {
  double scale = 1;
  double dropout = 0;
  MaskNumbers random;
  at::Tensor bias;  // added to the scaled scores, broadcast to [B, H, Sq, Sk]; may be undefined
  // Query i sees keys i + shift - left ... i + shift + right; shift is Sk - Sq if bottom_right.
  std::optional<int64_t> left, right;
  bool bottom_right = false;
};

struct AttentionResult {
  at::Tensor output;     // [B, H, Sq, Dv] in the type of q
  at::Tensor logsumexp;  // [B, H, Sq] float, contiguous; infinite where a query sees no key
};

struct AttentionGrads {
  at::Tensor query, key, value, bias;
};

AttentionResult attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const AttentionRule& rule);

AttentionGrads attention_backward(const at::Tensor& grad, const at::Tensor& q, const at::Tensor& k,
                                  const at::Tensor& v, const at::Tensor& output,
                                  const at::Tensor& logsumexp, const AttentionRule& rule,
                                  bool bias_grad);

// [B, H, Sq, Sk]: the probabilities, negative where dropout removed them.
at::Tensor attention_debug_mask(const at::Tensor& q, const at::Tensor& k,
                                const AttentionRule& rule);

// Where the device's default generator stands before it moves on by `increment`; not without
// dropout.
PhiloxState draw_dropout(const at::Tensor& query, double dropout, int64_t increment);

// Uniform numbers in (0, 1] in the order of a contiguous mask [B, H, Sq, Sk]: an element is kept if
// its number is above the dropout probability.
void fill_dropout_uniform(float* values, int64_t count, const MaskNumbers& numbers);

inline double attention_scale(const at::Tensor& query, std::optional<double> scale) {
  return scale.has_value() ? *scale : 1.0 / std::sqrt(static_cast<double>(query.size(-1)));
}

}  // namespace heitu
