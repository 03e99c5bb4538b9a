// How CUDA spreads the elements of a tensor over threads, and with that which Philox word an
// element gets. Nothing here depends on how many host threads do the work.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/native/TensorIterator.h>
#include <c10/util/FunctionRef.h>

#include <array>
#include <type_traits>

#include "generator.h"
#include "philox_blocks.h"

namespace heitu {

// Host work is handed out in pieces of about this many curand calls.
constexpr int64_t kCallsPerTask = 16384;

// work(from, to) for parts of 0 .. tasks - 1, in parallel where there is more than `grain` to do.
// Uses torch's own threads, which at::parallel_for would only if this library were compiled for
// the OpenMP runtime that torch carries.
void parallel_tasks(int64_t tasks, int64_t grain,
                    c10::function_ref<void(int64_t from, int64_t to)> work);

// ---- what one curand call of a thread yields ----

enum class Sample { words32, words64, uniform, uniform_double, normal, normal_double };

// Elements that a call serves: calls give 16 bytes, so 4 of four bytes or 2 of eight.
constexpr int unroll(Sample sample) {
  return sample == Sample::words32 || sample == Sample::uniform || sample == Sample::normal ? 4 : 2;
}

// The samples as types; `value` is what they consist of.
struct Words32 {
  using value = uint32_t;
  static constexpr Sample kind = Sample::words32;
};
struct Words64 {
  using value = uint64_t;
  static constexpr Sample kind = Sample::words64;
};
template <class T>
struct Uniform {
  using value = T;
  static constexpr Sample kind =
      std::is_same_v<T, double> ? Sample::uniform_double : Sample::uniform;
};
template <class T>
struct Normal {
  using value = T;
  static constexpr Sample kind = std::is_same_v<T, double> ? Sample::normal_double : Sample::normal;
};

// ---- grid-stride kernels: calc_execution_policy of ATen's CUDA distributions ----

struct Launch {
  int64_t threads;     // of the whole grid
  uint64_t increment;  // words of each thread's subsequence that the launch uses up
};

// numel > 0; `unroll`: elements that one curand call of a thread serves.
Launch grid_stride_launch(int64_t numel, int unroll, c10::DeviceIndex device);

// Thread t's k-th call serves the elements k * threads * unroll + j * threads + t, j < unroll.
// consume(first_element, count, values) gets them in rows of at most philox::kBlock; the rows come
// in any order, from several host threads at once. It may overwrite the values.
void grid_stride(Sample sample, int64_t numel, int64_t threads, PhiloxState state,
                 c10::function_ref<void(int64_t first, int count, void* values)> consume);

// Draws for every element of a nullary iterator; transform(values, count, out) writes elements.
void fill_rows(at::TensorIteratorBase& iter, PhiloxGenerator* generator, Sample sample,
               c10::function_ref<void(void* values, int count, void* out)> transform);

template <class scalar_t, class Sampler, class Transform>
void fill(at::TensorIteratorBase& iter, PhiloxGenerator* generator, const Transform& transform) {
  fill_rows(iter, generator, Sampler::kind, [&](void* values, int count, void* out) {
    transform(static_cast<typename Sampler::value*>(values), count, static_cast<scalar_t*>(out));
  });
}

// ---- from an element's number to its address ----

// Shape with one stride (bytes) an operand; dimension 0 runs fastest, as in TensorIterator.
class Layout {
 public:
  static constexpr int kOperands = 3;
  using Addresses = std::array<std::array<char*, philox::kBlock>, kOperands>;

  // TensorIterator's order: by stride of the first operand.
  explicit Layout(const at::TensorIteratorBase& iter);
  // Row by row of the logical shape, whatever the strides.
  static Layout logical(at::TensorList tensors);
  // CUDA_tensor_apply2's order: row by row, after dimensions have changed places where that makes
  // no tensor's strides worse and some better.
  static Layout pointwise(at::TensorList tensors);

  // Of the elements first .. first + count - 1, count <= philox::kBlock.
  void addresses(int64_t first, int count, Addresses& out) const;

 private:
  Layout() = default;

  int operands_ = 0;
  c10::DimVector sizes_;
  std::array<c10::DimVector, kOperands> strides_;
  std::array<char*, kOperands> data_{};
};

}  // namespace heitu
