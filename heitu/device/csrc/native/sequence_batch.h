// The sequences of an attention operator whose layout is [B, S, H, D], or [total, H, D] with
// cumulative sequence lengths.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace heitu {

// One sequence of a batch: its rows in the arguments.
struct Sequence {
  int64_t query_start, query_length, key_start, key_length;
};

// A batch of sequences, dense or packed. `query` and `key` give [1, H, S, D] of the n-th.
class SequenceBatch {
 public:
  SequenceBatch(const at::Tensor& query, const at::Tensor& key, const at::Tensor& query_bounds,
                const at::Tensor& key_bounds, const at::Tensor& key_lengths)
      : packed_(query_bounds.defined()), key_packed_(key_bounds.defined()) {
    const int64_t count = packed_ ? query_bounds.numel() - 1 : query.size(0);
    const auto bound = [](const at::Tensor& t, int64_t i) { return t[i].item<int64_t>(); };
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
  at::Tensor query(const at::Tensor& t, int64_t n) const {
    return part(t, packed_, n, sequences_[n].query_start, sequences_[n].query_length);
  }
  at::Tensor key(const at::Tensor& t, int64_t n) const {
    return part(t, key_packed_, n, sequences_[n].key_start, sequences_[n].key_length);
  }

 private:
  // `t` is [total, H, D], [1, total, H, D] or [B, S, H, D].
  static at::Tensor part(const at::Tensor& t, bool packed, int64_t n, int64_t start,
                         int64_t length) {
    const at::Tensor sequence = t.dim() == 3 ? t : t.select(0, packed ? 0 : n);
    return sequence.narrow(0, start, length).transpose(0, 1).unsqueeze(0);
  }

  bool packed_, key_packed_;
  std::vector<Sequence> sequences_;
};

}  // namespace heitu
