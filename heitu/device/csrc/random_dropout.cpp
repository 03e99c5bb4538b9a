// Dropout and randomized leaky ReLU: random masks applied in the kernel that draws them.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros_like.h>

#include "launch.h"
#include "prelude.h"
#include "registry.h"

namespace heitu {
namespace {

using at::Tensor;
using OptionalGenerator = std::optional<at::Generator>;

// ---- dropout ----

// Elements that a thread of CUDA's vectorised kernel loads at once: as many as 16 bytes hold, the
// address is aligned for and the element count is a multiple of; 1 means the other kernel.
int vector_size(const Tensor& input) {
  if (!input.is_non_overlapping_and_dense()) return 1;
  const auto element = static_cast<int64_t>(input.element_size());
  const auto address = reinterpret_cast<uintptr_t>(input.const_data_ptr());
  int size = static_cast<int>(std::min<int64_t>(8, 16 / element));
  while (size > 1 && (address % (size * element) != 0 || input.numel() % size != 0)) size /= 2;
  return size;
}

// Thread t's k-th step serves the `size` neighbours from (k * threads + t) * size on. A step takes
// the words of ceil(size / 4) calls; with size 2 the call's other two words are never used.
// consume(first, count, u): the elements first .. first + count - 1 draw u[0] .. u[count - 1].
void vectorized_uniforms(int64_t numel, int size, int64_t threads, PhiloxState state,
                         c10::function_ref<void(int64_t, int, const float*)> consume) {
  constexpr int kMostSize = 8;
  const int calls = (size + 3) / 4;
  const int lanes = std::min(4, size);
  const int64_t vectors = numel / size;
  const int64_t steps = (vectors - 1) / threads + 1;
  const int64_t blocks = threads / philox::kBlock;
  const int64_t grain = std::max<int64_t>(1, kCallsPerTask / philox::kBlock / calls);
  parallel_tasks(steps * blocks, grain, [&](int64_t from, int64_t to) {
    uint32_t words[4][philox::kBlock];
    uint32_t in_order[philox::kBlock * kMostSize];
    float u[philox::kBlock * kMostSize];
    for (int64_t task = from; task < to; ++task) {
      const int64_t step = task / blocks;
      const int64_t thread = task % blocks * philox::kBlock;
      const int64_t vector = step * threads + thread;
      if (vector >= vectors) continue;
      const int count = static_cast<int>(std::min<int64_t>(philox::kBlock, vectors - vector));
      for (int call = 0; call < calls; ++call) {
        philox::block_words(state.seed, state.offset / 4 + step * calls + call,
                            static_cast<uint32_t>(thread), count, words);
        for (int i = 0; i < count; ++i) {
          uint32_t* neighbours = in_order + i * size + call * 4;
          for (int lane = 0; lane < lanes; ++lane) neighbours[lane] = words[lane][i];
        }
      }
      philox::block_uniform(in_order, count * size, u);
      consume(vector * size, count * size, u);
    }
  });
}

// `keep`: the chance to be kept. The mask is of bool or of bytes, which are the same here: 0 and 1.
std::tuple<Tensor, Tensor> dropout(PhiloxGenerator* generator, const Tensor& input, double keep_,
                                   at::ScalarType mask_type) {
  const Tensor mask = at::empty_like(input, input.options().dtype(mask_type));
  if (input.numel() == 0) return {input.clone(), mask};
  const Tensor output = at::empty_like(input);
  const Launch launch = grid_stride_launch(input.numel(), 4, input.device().index());
  const PhiloxState state = draw(generator, launch.increment);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, input.scalar_type(), "fused_dropout", [&] {
        using value_t = at::opmath_type<scalar_t>;
        const auto keep = static_cast<value_t>(keep_);
        const auto scale = static_cast<value_t>(1.0 / keep);
        // Multiplies instead of selecting: infinities that are dropped become NaN, as on CUDA.
        const auto apply = [=](float u, scalar_t in, scalar_t* out, uint8_t* kept) {
          const float factor = u < keep ? 1.0f : 0.0f;
          *out = static_cast<scalar_t>(static_cast<value_t>(in) * factor * scale);
          *kept = u < keep;
        };
        const int size = vector_size(input);
        if (size > 1) {
          const auto* in = input.const_data_ptr<scalar_t>();
          auto* out = output.mutable_data_ptr<scalar_t>();
          auto* kept = static_cast<uint8_t*>(mask.data_ptr());
          vectorized_uniforms(input.numel(), size, launch.threads, state,
                              [&](int64_t first, int count, const float* u) {
                                for (int i = 0; i < count; ++i) {
                                  apply(u[i], in[first + i], out + first + i, kept + first + i);
                                }
                              });
          return;
        }
        const Layout layout = Layout::logical({input, output, mask});
        grid_stride(Sample::uniform, input.numel(), launch.threads, state,
                    [&](int64_t first, int count, void* values) {
                      const auto* u = static_cast<const float*>(values);
                      Layout::Addresses at;
                      layout.addresses(first, count, at);
                      for (int i = 0; i < count; ++i) {
                        apply(u[i], *reinterpret_cast<const scalar_t*>(at[0][i]),
                              reinterpret_cast<scalar_t*>(at[1][i]),
                              reinterpret_cast<uint8_t*>(at[2][i]));
                      }
                    });
      });
  return {output, mask};
}

std::tuple<Tensor, Tensor> native_dropout(const Tensor& input, double p,
                                          std::optional<bool> train) {
  const auto mask_options = input.options().dtype(at::kBool);
  if (train.has_value() && !*train) return {input.clone(), at::ones_like(input, mask_options)};
  if (p == 1) return {at::zeros_like(input), at::zeros_like(input, mask_options)};
  return dropout(generator_or_default(std::nullopt, input.device().index()), input, 1.0 - p,
                 at::kBool);
}

// `p` is the chance to be kept here, unlike in native_dropout.
std::tuple<Tensor, Tensor> fused_dropout(const Tensor& input, double p,
                                         OptionalGenerator generator) {
  return dropout(generator_or_default(generator, input.device().index()), input, p, at::kByte);
}

Tensor masked_scale(const Tensor& grad, const Tensor& mask, double scale_) {
  Tensor result = at::empty_like(grad, grad.suggest_memory_format());
  auto iter = at::TensorIteratorConfig()
                  .check_all_same_dtype(false)
                  .add_output(result)
                  .add_const_input(grad)
                  .add_const_input(mask)
                  .build();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, result.scalar_type(), "masked_scale", [&] {
        using value_t = at::opmath_type<scalar_t>;
        const auto scale = static_cast<value_t>(scale_);
        iter.for_each([=](char** data, const int64_t* strides, int64_t count) {
          for (int64_t i = 0; i < count; ++i) {
            const auto kept =
                static_cast<float>(*reinterpret_cast<const uint8_t*>(data[2] + i * strides[2]));
            const auto value =
                static_cast<value_t>(*reinterpret_cast<const scalar_t*>(data[1] + i * strides[1]));
            *reinterpret_cast<scalar_t*>(data[0] + i * strides[0]) =
                static_cast<scalar_t>(kept * value * scale);
          }
        });
      });
  return result;
}

Tensor native_dropout_backward(const Tensor& grad, const Tensor& mask, double scale) {
  TORCH_CHECK(mask.scalar_type() == at::kBool, "Mask should be Bool Scalar Type",
              mask.scalar_type());
  return masked_scale(grad, mask, scale);
}

Tensor masked_scale_byte(const Tensor& self, const Tensor& mask, double scale) {
  TORCH_CHECK(mask.scalar_type() == at::kByte, "mask should be torch.uint8 dtype");
  return masked_scale(self, mask, scale);
}

// ---- randomized leaky ReLU ----

template <class scalar_t>
void rrelu_train(const Tensor& input, const Tensor& noise, const Tensor& output, double lower,
                 double upper, PhiloxGenerator* generator) {
  using value_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
  constexpr Sample sample = Uniform<value_t>::kind;
  const int64_t numel = input.numel();
  const Launch launch = grid_stride_launch(numel, unroll(sample), input.device().index());
  const PhiloxState state = draw(generator, launch.increment);
  const auto* in = input.const_data_ptr<scalar_t>();
  auto* slope = noise.mutable_data_ptr<scalar_t>();
  auto* out = output.mutable_data_ptr<scalar_t>();
  const double range = upper - lower;
  grid_stride(sample, numel, launch.threads, state, [&](int64_t first, int count, void* values) {
    const auto* u = static_cast<const value_t*>(values);
    for (int i = 0; i < count; ++i) {
      const scalar_t value = in[first + i];
      if (value <= 0) {
        const auto drawn = static_cast<double>(static_cast<scalar_t>(u[i]));
        const auto r = static_cast<scalar_t>(std::fma(drawn, range, lower));
        out[first + i] = value * r;
        slope[first + i] = r;
      } else {
        out[first + i] = value;
        slope[first + i] = static_cast<scalar_t>(1);
      }
    }
  });
}

Tensor& rrelu_with_noise_out(const Tensor& self, Tensor& noise, const at::Scalar& lower,
                             const at::Scalar& upper, bool training, OptionalGenerator generator,
                             Tensor& out) {
  at::native::resize_output(out, self.sizes());
  if (self.numel() == 0) return out;
  if (!training) {
    at::leaky_relu_out(out, self, (lower.to<double>() + upper.to<double>()) / 2);
    return out;
  }
  const Tensor input = self.contiguous();
  const Tensor slope = noise.contiguous();
  const Tensor result = out.contiguous();
  auto* drawn_from = generator_or_default(generator, self.device().index());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, self.scalar_type(),
                                  "rrelu_with_noise_out_cuda", [&] {
                                    rrelu_train<scalar_t>(input, slope, result, lower.to<double>(),
                                                          upper.to<double>(), drawn_from);
                                  });
  if (!out.is_contiguous()) out.copy_(result);
  return out;
}

Tensor rrelu_with_noise(const Tensor& self, Tensor& noise, const at::Scalar& lower,
                        const at::Scalar& upper, bool training, OptionalGenerator generator) {
  Tensor out = at::empty_like(self, at::MemoryFormat::Contiguous);
  return rrelu_with_noise_out(self, noise, lower, upper, training, std::move(generator), out);
}

Tensor& rrelu_with_noise_(Tensor& self, Tensor& noise, const at::Scalar& lower,
                          const at::Scalar& upper, bool training, OptionalGenerator generator) {
  return rrelu_with_noise_out(self, noise, lower, upper, training, std::move(generator), self);
}

}  // namespace

HEITU_KERNELS(random_dropout) {
  m.impl("native_dropout", native_dropout);
  m.impl("native_dropout_backward", native_dropout_backward);
  m.impl("_fused_dropout", fused_dropout);
  m.impl("_masked_scale", masked_scale_byte);
  m.impl("rrelu_with_noise", rrelu_with_noise);
  m.impl("rrelu_with_noise_", rrelu_with_noise_);
  m.impl("rrelu_with_noise.out", rrelu_with_noise_out);
}

}  // namespace heitu
