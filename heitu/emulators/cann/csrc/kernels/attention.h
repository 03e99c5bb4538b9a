// Attention, whatever layout its tensors have: what fused attention kernels compute.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <vector>

namespace heitu::cann {

struct Attention {
  std::string layout;  // of query, key, value and result: "BSH", "SBH", "BNSD", "BSND", "TND"
  int64_t heads = 1;
  double scale = 1;
  double keep = 1;  // of what dropout leaves
  int64_t before = INT32_MAX, after = INT32_MAX;
  int64_t sparse_mode = 0;
  int64_t bias_mode = 1;           // 0: the bias is added before scaling
  at::Tensor bias, dropped, mask;  // mask: true where nothing is attended to
  at::Tensor sink;                 // a logit of each head that takes part in the softmax only
  // Ends of the sequences that "TND" has one after the other; else the lengths that count.
  std::vector<int64_t> query_ends, key_ends;
};

struct Attended {
  at::Tensor out;
  // Of each row's softmax: (B, N, S, 1), or (T, N, 1).
  at::Tensor maximum, sum;
};

// The result is of float32; gradients flow through it.
Attended attend(const Attention& attention, const at::Tensor& query, const at::Tensor& key,
                const at::Tensor& value, const at::Tensor& bias);

}  // namespace heitu::cann
