// Permutations and draws from categories.
#include <ATen/Dispatch.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/topk.h>

#include <numeric>
#include <vector>

#include "launch.h"
#include "prelude.h"
#include "registry.h"

namespace heitu {
namespace {

using at::Tensor;
using OptionalGenerator = std::optional<at::Generator>;

// ---- randperm: sort random keys, then shuffle what ended up equal ----

// Stable radix sort of 0 .. n-1 by the low `bits` bits of the keys; the keys come out sorted too.
template <class key_t>
std::vector<int64_t> sort_by_low_bits(std::vector<key_t>& keys, int bits) {
  constexpr int kDigit = 11;
  constexpr size_t kBuckets = size_t{1} << kDigit;
  const size_t n = keys.size();
  std::vector<int64_t> order(n), next_order(n);
  std::vector<key_t> next_keys(n);
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int shift = 0; shift < bits; shift += kDigit) {
    const key_t mask = (key_t{1} << std::min(kDigit, bits - shift)) - 1;
    std::vector<size_t> starts(kBuckets + 1, 0);
    for (const key_t key : keys) ++starts[((key >> shift) & mask) + 1];
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    for (size_t i = 0; i < n; ++i) {
      const size_t to = starts[(keys[i] >> shift) & mask]++;
      next_keys[to] = keys[i];
      next_order[to] = order[i];
    }
    keys.swap(next_keys);
    order.swap(next_order);
  }
  return order;
}

// A run of equal keys is shuffled by the thread of its first element: Fisher-Yates from the end.
template <class key_t>
void shuffle_equal_keys(const std::vector<key_t>& keys, int bits, std::vector<int64_t>& order,
                        PhiloxState state) {
  const key_t mask =
      bits >= static_cast<int>(8 * sizeof(key_t)) ? ~key_t{0} : (key_t{1} << bits) - 1;
  const size_t n = keys.size();
  for (size_t first = 0; first < n;) {
    size_t end = first + 1;
    while (end < n && (keys[end] & mask) == (keys[first] & mask)) ++end;
    if (end - first > 1) {
      philox::Stream stream(state, first);
      for (size_t i = end - first - 1; i > 0; --i) {
        const uint32_t r = stream.next() % static_cast<uint32_t>(i + 1);
        std::swap(order[first + i], order[first + r]);
      }
    }
    first = end;
  }
}

template <class key_t, class signed_t>
std::vector<int64_t> permutation(int64_t n, int bits, at::Device device,
                                 const OptionalGenerator& generator) {
  const Tensor keys =
      at::empty({n}, at::TensorOptions(device).dtype(c10::CppTypeToScalarType<signed_t>::value));
  keys.random_(std::numeric_limits<signed_t>::min(), std::numeric_limits<signed_t>::max(),
               generator);
  const auto* data = static_cast<const signed_t*>(keys.const_data_ptr());
  std::vector<key_t> sorted(data, data + n);
  // Signed order, where the sign bit takes part.
  constexpr int width = 8 * sizeof(key_t);
  if (bits == width) {
    for (key_t& key : sorted) key ^= key_t{1} << (width - 1);
  }
  std::vector<int64_t> order = sort_by_low_bits(sorted, bits);
  const PhiloxState state = draw(generator_or_default(generator, device.index()), n);
  shuffle_equal_keys(sorted, bits, order, state);
  return order;
}

Tensor& randperm_out(int64_t n, OptionalGenerator generator, Tensor& result) {
  TORCH_CHECK(n >= 0, "n must be non-negative, got", n);
  at::native::check_supported_max_int_with_precision(n, result);
  result.resize_({n});
  if (n == 0) return result;
  // So many bits that all keys differ with probability 0.9.
  const double nd = static_cast<double>(n);
  const int bits = std::min(
      64, static_cast<int>(std::ceil(std::log2(nd - (6 * nd * nd + 1) / (std::log(0.9) * 12)))));
  const std::vector<int64_t> order =
      bits <= 32 ? permutation<uint32_t, int32_t>(n, bits, result.device(), generator)
                 : permutation<uint64_t, int64_t>(n, bits, result.device(), generator);
  AT_DISPATCH_ALL_TYPES_AND2(at::kHalf, at::kBFloat16, result.scalar_type(), "randperm_out_cuda",
                             [&] {
                               auto* out = result.mutable_data_ptr<scalar_t>();
                               const int64_t stride = result.stride(0);
                               for (int64_t i = 0; i < n; ++i)
                                 out[i * stride] = static_cast<scalar_t>(order[i]);
                             });
  return result;
}

// ---- multinomial ----

// Sum of a row as a CUDA block computes it: each thread its own columns, then a tree over each
// warp, then a tree over the warps.
template <class value_t>
value_t block_sum(const std::vector<value_t>& row, int threads) {
  constexpr int kWarp = 32;
  std::vector<value_t> partial(threads, value_t(0));
  for (size_t column = 0; column < row.size(); ++column) {
    value_t& sum = partial[column % threads];
    sum = sum + row[column];
  }
  const auto tree = [](value_t* lanes) {
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      for (int lane = 0; lane < offset; ++lane) lanes[lane] = lanes[lane] + lanes[lane + offset];
    }
    return lanes[0];
  };
  std::array<value_t, kWarp> warps;
  warps.fill(value_t(0));
  for (int warp = 0; warp < threads / kWarp; ++warp) warps[warp] = tree(&partial[warp * kWarp]);
  return tree(warps.data());
}

// The category whose bucket of the cumulated probabilities holds `u`.
template <class scalar_t>
int64_t find_category(const std::vector<scalar_t>& cumulated, const std::vector<scalar_t>& p,
                      scalar_t u) {
  auto category = std::lower_bound(cumulated.begin(), cumulated.end(), u) - cumulated.begin();
  if (category == static_cast<int64_t>(cumulated.size())) --category;
  while (category >= 1 && p[category] == scalar_t(0)) --category;
  return category;
}

void multinomial_with_replacement(const Tensor& probabilities, int64_t samples, Tensor& result,
                                  PhiloxGenerator* generator) {
  constexpr int64_t kMostRowsOfBlocks = 65535;  // gridDim.y
  constexpr int64_t kThreads = 128;
  const int64_t rows = probabilities.dim() == 1 ? 1 : probabilities.size(0);
  const Tensor p = probabilities.reshape({rows, -1}).contiguous();
  const int64_t categories = p.size(1);
  const int64_t row_blocks = std::min(rows, kMostRowsOfBlocks);
  const int64_t row_threads = ((samples - 1) / kThreads + 1) * kThreads;
  const PhiloxState state = draw(generator, ((rows - 1) / row_blocks + 1) * 4);
  const int threads = static_cast<int>(std::min<int64_t>(1024, (categories + 31) / 32 * 32));
  const Tensor choices = at::empty({rows, samples}, result.options());
  auto* out = choices.mutable_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, p.scalar_type(), "multinomial_kernel_cuda", [&] {
        const auto* data = p.const_data_ptr<scalar_t>();
        parallel_tasks(rows, 1, [&](int64_t from, int64_t to) {
          for (int64_t row = from; row < to; ++row) {
            std::vector<scalar_t> norm(data + row * categories, data + (row + 1) * categories);
            for (const scalar_t value : norm) {
              TORCH_CHECK(!(value < scalar_t(0)),
                          "CUDA error: device-side assert triggered\nprobability tensor contains "
                          "an element < 0");
            }
            const scalar_t sum = block_sum(norm, threads);
            if (sum > scalar_t(0)) {
              for (scalar_t& value : norm) value = value / sum;
            }
            std::vector<scalar_t> cumulated(norm);
            std::partial_sum(cumulated.begin(), cumulated.end(), cumulated.begin());
            TORCH_CHECK(cumulated.back() > scalar_t(0),
                        "CUDA error: device-side assert triggered\ninvalid multinomial "
                        "distribution (sum of probabilities <= 0)");
            const uint64_t counter = state.offset / 4 + row / row_blocks;
            for (int64_t sample = 0; sample < samples; ++sample) {
              const auto words =
                  philox::words(state.seed, counter, row % row_blocks * row_threads + sample);
              out[row * samples + sample] =
                  find_category(cumulated, norm, static_cast<scalar_t>(philox::uniform(words[0])));
            }
          }
        });
      });
  result.copy_(probabilities.dim() == 1 ? choices.squeeze(0) : choices);
}

Tensor& multinomial_out(const Tensor& self, int64_t num_samples, bool replacement,
                        OptionalGenerator gen, Tensor& result) {
  TORCH_CHECK(result.device() == self.device(), "multinomial arguments must have the same device");
  TORCH_CHECK(self.dim() > 0 && self.dim() <= 2, "prob_dist must be 1 or 2 dim");
  TORCH_CHECK(
      at::isFloatingType(self.scalar_type()),
      "multinomial only supports floating-point dtypes for input, got: ", self.scalar_type());
  TORCH_CHECK(result.scalar_type() == at::kLong,
              "multinomial expects Long tensor out, got: ", result.scalar_type());
  TORCH_CHECK(num_samples > 0, "cannot sample n_sample <= 0 samples");
  const int64_t categories = self.size(-1);
  TORCH_CHECK(replacement || num_samples <= categories,
              "cannot sample n_sample > prob_dist.size(-1) samples without replacement");
  constexpr int64_t kMostCategories = int64_t{1} << 24;  // what a float counts exactly
  TORCH_CHECK(categories <= kMostCategories, "number of categories cannot exceed 2^24");
  if (self.dim() == 1)
    result.resize_({num_samples});
  else
    result.resize_({self.size(0), num_samples});
  if (result.numel() == 0) return result;

  if (replacement && num_samples > 1) {
    multinomial_with_replacement(self, num_samples, result,
                                 generator_or_default(gen, self.device().index()));
    return result;
  }
  TORCH_CHECK(((self.max() < INFINITY) & (self.min() >= 0)).item<bool>(),
              "probability tensor contains either `inf`, `nan` or element < 0");
  const bool no_mass =
      self.dim() == 1 ? (self.sum() == 0).item<bool>() : (self.sum(1) == 0).any().item<bool>();
  TORCH_CHECK(!no_mass, "invalid multinomial distribution (sum of probabilities <= 0)");
  // The first arrivals of Poisson processes with rates p come in the order of draws without
  // replacement: the largest p / q with q exponential.
  Tensor q = at::empty_like(self).exponential_(1, std::move(gen));
  at::div_out(q, self, q);
  if (num_samples == 1) {
    at::argmax_out(result, q, -1, true);
  } else {
    Tensor values = at::empty(result.sizes(), self.options());
    at::topk_out(values, result, q, num_samples);
  }
  return result;
}

Tensor multinomial(const Tensor& self, int64_t num_samples, bool replacement,
                   OptionalGenerator generator) {
  Tensor result = at::empty({0}, self.options().dtype(at::kLong));
  return multinomial_out(self, num_samples, replacement, std::move(generator), result);
}

}  // namespace

HEITU_KERNELS(random_sampling) {
  m.impl("randperm.generator_out", randperm_out);
  m.impl("multinomial", multinomial);
  m.impl("multinomial.out", multinomial_out);
}

}  // namespace heitu
