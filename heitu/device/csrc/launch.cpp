#include "launch.h"

#include <ATen/EmptyTensor.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "properties.h"

namespace heitu {
namespace {

using philox::kBlock;

union Values {
  uint32_t words32[4][kBlock];
  uint64_t words64[2][kBlock];
  float floats[4][kBlock];
  double doubles[2][kBlock];

  void* row(Sample sample, int lane) {
    return unroll(sample) == 4 ? static_cast<void*>(words32[lane])
                               : static_cast<void*>(words64[lane]);
  }
};

// The call at `counter` of the threads from `thread` on; only the first `lanes` rows are needed.
void produce(Sample sample, uint64_t seed, uint64_t counter, uint32_t thread, int count, int lanes,
             Values& out) {
  uint32_t words[4][kBlock];
  philox::block_words(seed, counter, thread, count,
                      sample == Sample::words32 ? out.words32 : words);
  switch (sample) {
    case Sample::words32:
      break;
    case Sample::words64:
      for (int lane = 0; lane < lanes; ++lane) {
        for (int i = 0; i < count; ++i) {
          out.words64[lane][i] = uint64_t{words[2 * lane][i]} << 32 | words[2 * lane + 1][i];
        }
      }
      break;
    case Sample::uniform:
      for (int lane = 0; lane < lanes; ++lane) {
        philox::block_uniform(words[lane], count, out.floats[lane]);
      }
      break;
    case Sample::uniform_double:
      for (int lane = 0; lane < lanes; ++lane) {
        philox::block_uniform(words[2 * lane], words[2 * lane + 1], count, out.doubles[lane]);
      }
      break;
    case Sample::normal:
      for (int lane = 0; lane < lanes; lane += 2) {
        philox::block_normal(words[lane], words[lane + 1], count, out.floats[lane],
                             out.floats[lane + 1]);
      }
      break;
    case Sample::normal_double:
      philox::block_normal(words, count, out.doubles[0], out.doubles[1]);
      break;
  }
}

template <class T>
void scatter(const void* row, int count, const std::array<char*, kBlock>& to) {
  for (int i = 0; i < count; ++i) std::memcpy(to[i], static_cast<const T*>(row) + i, sizeof(T));
}

}  // namespace

void parallel_tasks(int64_t tasks, int64_t grain, c10::function_ref<void(int64_t, int64_t)> work) {
  if (tasks <= grain) return work(0, tasks);
  // An iterator over the numbers of the tasks: it splits them over torch's threads.
  const at::TensorBase numbers = at::detail::empty_cpu({tasks}, at::kLong, std::nullopt,
                                                       std::nullopt, std::nullopt, std::nullopt);
  auto* first = numbers.mutable_data_ptr<int64_t>();
  std::iota(first, first + tasks, int64_t{0});
  auto iter = at::TensorIterator::borrowing_nullary_op(numbers);
  iter.for_each(
      [&](char** data, const int64_t*, int64_t count) {
        const int64_t from = *reinterpret_cast<const int64_t*>(data[0]);
        work(from, from + count);
      },
      grain);
}

Launch grid_stride_launch(int64_t numel, int unroll, c10::DeviceIndex device) {
  const DeviceProperties& gpu = properties(device);
  const int64_t most_blocks =
      int64_t{gpu.multi_processor_count} * (gpu.max_threads_per_multi_processor / kBlock);
  const int64_t threads = std::min(most_blocks, (numel + kBlock - 1) / kBlock) * kBlock;
  return {threads, static_cast<uint64_t>((numel - 1) / (threads * unroll) + 1) * 4};
}

void grid_stride(Sample sample, int64_t numel, int64_t threads, PhiloxState state,
                 c10::function_ref<void(int64_t, int, void*)> consume) {
  const int64_t per_call = threads * unroll(sample);
  const int64_t blocks = threads / kBlock;
  const int64_t tasks = ((numel - 1) / per_call + 1) * blocks;
  parallel_tasks(tasks, kCallsPerTask / kBlock, [&](int64_t from, int64_t to) {
    Values values;
    for (int64_t task = from; task < to; ++task) {
      const int64_t call = task / blocks;
      const int64_t thread = task % blocks * kBlock;
      const int64_t element = call * per_call + thread;
      if (element >= numel) continue;
      const int64_t left = numel - element;
      const int count = static_cast<int>(std::min<int64_t>(kBlock, left));
      const int lanes =
          static_cast<int>(std::min<int64_t>(unroll(sample), (left - 1) / threads + 1));
      produce(sample, state.seed, state.offset / 4 + call, static_cast<uint32_t>(thread), count,
              lanes, values);
      for (int lane = 0; lane < lanes; ++lane) {
        const int64_t first = element + lane * threads;
        consume(first, static_cast<int>(std::min<int64_t>(count, numel - first)),
                values.row(sample, lane));
      }
    }
  });
}

void fill_rows(at::TensorIteratorBase& iter, PhiloxGenerator* generator, Sample sample,
               c10::function_ref<void(void*, int, void*)> transform) {
  const int64_t numel = iter.numel();
  if (numel == 0) return;
  const Launch launch = grid_stride_launch(numel, unroll(sample), iter.device(0).index());
  const PhiloxState state = draw(generator, launch.increment);
  if (!iter.can_use_32bit_indexing()) {
    // As on CUDA, the parts draw anew, after the whole has drawn.
    for (auto& part : iter.with_32bit_indexing()) fill_rows(part, generator, sample, transform);
    return;
  }
  const auto element_size = static_cast<int64_t>(iter.element_size(0));
  if (iter.is_contiguous()) {
    auto* out = static_cast<char*>(iter.data_ptr(0));
    grid_stride(sample, numel, launch.threads, state, [&](int64_t first, int count, void* values) {
      transform(values, count, out + first * element_size);
    });
    return;
  }
  const Layout layout(iter);
  grid_stride(sample, numel, launch.threads, state, [&](int64_t first, int count, void* values) {
    alignas(16) char row[kBlock * sizeof(double)];
    Layout::Addresses at;
    transform(values, count, row);
    layout.addresses(first, count, at);
    switch (element_size) {
      case 1:
        return scatter<uint8_t>(row, count, at[0]);
      case 2:
        return scatter<uint16_t>(row, count, at[0]);
      case 4:
        return scatter<uint32_t>(row, count, at[0]);
      default:
        return scatter<uint64_t>(row, count, at[0]);
    }
  });
}

Layout::Layout(const at::TensorIteratorBase& iter)
    : operands_(iter.ntensors()), sizes_(iter.shape().begin(), iter.shape().end()) {
  TORCH_INTERNAL_ASSERT(operands_ <= kOperands);
  for (int t = 0; t < operands_; ++t) {
    strides_[t].assign(iter.strides(t).begin(), iter.strides(t).end());
    data_[t] = static_cast<char*>(iter.data_ptr(t));
  }
}

Layout Layout::logical(at::TensorList tensors) {
  Layout layout;
  layout.operands_ = static_cast<int>(tensors.size());
  TORCH_INTERNAL_ASSERT(layout.operands_ <= kOperands);
  layout.sizes_.assign(tensors[0].sizes().rbegin(), tensors[0].sizes().rend());
  for (int t = 0; t < layout.operands_; ++t) {
    const at::Tensor& tensor = tensors[t];
    for (int64_t d = tensor.dim() - 1; d >= 0; --d) {
      layout.strides_[t].push_back(tensor.stride(d) * static_cast<int64_t>(tensor.element_size()));
    }
    layout.data_[t] = static_cast<char*>(tensor.data_ptr());
  }
  return layout;
}

Layout Layout::pointwise(at::TensorList tensors) {
  // From the outermost dimension inwards, strides counted in elements.
  const at::IntArrayRef shape = tensors[0].sizes();
  const auto dims = static_cast<int64_t>(shape.size());
  c10::DimVector order(dims);
  for (int64_t d = 0; d < dims; ++d) order[d] = d;
  for (int64_t i = 0; i + 1 < dims; ++i) {
    if (shape[order[i]] == 1) continue;
    for (int64_t j = i + 1; j < dims; ++j) {
      if (shape[order[j]] == 1) continue;
      bool grows = false, shrinks = false;
      for (const at::Tensor& tensor : tensors) {
        grows |= tensor.stride(order[i]) < tensor.stride(order[j]);
        shrinks |= tensor.stride(order[i]) > tensor.stride(order[j]);
      }
      if (grows && !shrinks) std::swap(order[i], order[j]);
    }
  }
  std::vector<at::Tensor> permuted;
  for (const at::Tensor& tensor : tensors) permuted.push_back(tensor.permute(order));
  return logical(permuted);
}

void Layout::addresses(int64_t first, int count, Addresses& out) const {
  const size_t dims = sizes_.size();
  c10::DimVector index(dims, 0);
  std::array<char*, kOperands> at = data_;
  int64_t rest = first;
  for (size_t d = 0; d < dims; ++d) {
    index[d] = rest % sizes_[d];
    rest /= sizes_[d];
    for (int t = 0; t < operands_; ++t) at[t] += index[d] * strides_[t][d];
  }
  for (int i = 0; i < count; ++i) {
    for (int t = 0; t < operands_; ++t) out[t][i] = at[t];
    for (size_t d = 0; d < dims; ++d) {
      for (int t = 0; t < operands_; ++t) at[t] += strides_[t][d];
      if (++index[d] < sizes_[d]) break;
      for (int t = 0; t < operands_; ++t) at[t] -= sizes_[d] * strides_[t][d];
      index[d] = 0;
    }
  }
}

}  // namespace heitu
