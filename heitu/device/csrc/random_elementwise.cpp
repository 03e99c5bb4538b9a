// In-place distributions: every element is one draw of CUDA's grid-stride distribution kernel.
#include <ATen/Dispatch.h>
#include <ATen/Dispatch_v2.h>
#include <ATen/OpMathType.h>
#include <ATen/core/DistributionsHelper.h>
#include <ATen/native/DistributionTemplates.h>

#include "launch.h"
#include "prelude.h"
#include "registry.h"

namespace heitu {
namespace {

namespace templates = at::native::templates;
using OptionalGenerator = std::optional<at::Generator>;
using at::TensorIteratorBase;

// What ATen's CUDA kernels compute in: float for the half types.
template <class scalar_t>
using acc_t = at::opmath_type<scalar_t>;
// And for distributions over any type: float except for double.
template <class scalar_t>
using discrete_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;

// From one value to one element, for transforms with nothing to gain from whole rows.
template <class scalar_t, class Sampler, class Function>
void fill_each(TensorIteratorBase& iter, PhiloxGenerator* generator, const Function& function) {
  fill<scalar_t, Sampler>(iter, generator,
                          [&](const typename Sampler::value* values, int count, scalar_t* out) {
                            for (int i = 0; i < count; ++i) out[i] = function(values[i]);
                          });
}

template <class To, class From>
To convert(From value) {
  // Out of range, C++ leaves the cast undefined; through int64_t it wraps.
  if constexpr (std::is_integral_v<To>) return static_cast<To>(static_cast<int64_t>(value));
  return static_cast<To>(value);
}

// ---- uniform_, normal_, log_normal_ ----

template <class RNG>
struct UniformKernel {
  void operator()(TensorIteratorBase& iter, double from_, double to_, OptionalGenerator gen) const {
    auto* generator = generator_or_default(gen, iter.device(0).index());
    AT_DISPATCH_FLOATING_TYPES_AND2(
        at::kHalf, at::kBFloat16, iter.dtype(), "uniform_kernel_cuda", [&] {
          using value_t = acc_t<scalar_t>;
          const auto from = static_cast<scalar_t>(from_);
          const auto to = static_cast<scalar_t>(to_);
          const auto range = static_cast<value_t>(static_cast<scalar_t>(to - from));
          const auto shift = static_cast<value_t>(from);
          fill<scalar_t, Uniform<value_t>>(iter, generator,
                                           [=](value_t* values, int count, scalar_t* out) {
                                             if (range != 1 || shift != 0)
                                               philox::block_affine(values, count, range, shift);
                                             for (int i = 0; i < count; ++i) {
                                               // (from, to] becomes [from, to).
                                               const auto value = static_cast<scalar_t>(values[i]);
                                               out[i] = value == to ? from : value;
                                             }
                                           });
        });
  }
};

template <class scalar_t, class Finish>
void fill_normal(TensorIteratorBase& iter, double mean_, double std_, PhiloxGenerator* generator,
                 const Finish& finish) {
  using value_t = acc_t<scalar_t>;
  const auto mean = static_cast<value_t>(mean_);
  const auto std = static_cast<value_t>(std_);
  fill<scalar_t, Normal<value_t>>(iter, generator, [=](value_t* values, int count, scalar_t* out) {
    if (mean != 0 || std != 1) {
      philox::block_affine(values, count, std, mean);
    }
    for (int i = 0; i < count; ++i) {
      out[i] = static_cast<scalar_t>(finish(values[i]));
    }
  });
}

template <class RNG>
struct NormalKernel {
  void operator()(const at::TensorBase& self, double mean, double std,
                  OptionalGenerator gen) const {
    auto iter = at::TensorIterator::borrowing_nullary_op(self);
    auto* generator = generator_or_default(gen, self.device().index());
    AT_DISPATCH_FLOATING_TYPES_AND2(
        at::kHalf, at::kBFloat16, iter.dtype(), "normal_kernel_cuda", [&] {
          fill_normal<scalar_t>(iter, mean, std, generator, [](auto value) { return value; });
        });
  }
};

template <class RNG>
struct LogNormalKernel {
  void operator()(TensorIteratorBase& iter, double mean, double std, OptionalGenerator gen) const {
    auto* generator = generator_or_default(gen, iter.device(0).index());
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, iter.dtype(), "log_normal_cuda", [&] {
      fill_normal<scalar_t>(iter, mean, std, generator,
                            [](auto value) { return philox::fast_exp(value); });
    });
  }
};

// ---- exponential_, geometric_, cauchy_, bernoulli_ ----

template <class RNG>
struct ExponentialKernel {
  void operator()(TensorIteratorBase& iter, double lambda_, OptionalGenerator gen) const {
    TORCH_CHECK(at::isFloatingType(iter.dtype()),
                "Exponential distribution is a continuous probability distribution. dtype must be "
                "a floating point but you specified ",
                iter.dtype());
    auto* generator = generator_or_default(gen, iter.device(0).index());
    AT_DISPATCH_FLOATING_TYPES_AND2(
        at::kHalf, at::kBFloat16, iter.dtype(), "exponential_cuda", [&] {
          using value_t = acc_t<scalar_t>;
          const value_t factor = static_cast<value_t>(-1.0) / static_cast<value_t>(lambda_);
          fill_each<scalar_t, Uniform<value_t>>(iter, generator, [=](value_t u) {
            constexpr value_t half_epsilon = std::numeric_limits<value_t>::epsilon() / 2;
            // 1 must not give 0, which the distribution excludes.
            const value_t log = u < 1 - half_epsilon ? philox::fast_log(u) : -half_epsilon;
            return static_cast<scalar_t>(factor * log);
          });
        });
  }
};

template <class RNG>
struct GeometricKernel {
  void operator()(TensorIteratorBase& iter, double p, OptionalGenerator gen) const {
    auto* generator = generator_or_default(gen, iter.device(0).index());
    AT_DISPATCH_ALL_TYPES_AND2(at::kHalf, at::kBFloat16, iter.dtype(), "geometric_cuda", [&] {
      using value_t = discrete_t<scalar_t>;
      // There is no fast log1p for float.
      const value_t log_failure = std::is_same_v<value_t, double>
                                      ? static_cast<value_t>(std::log1p(-p))
                                      : philox::fast_log(1 - static_cast<value_t>(p));
      fill_each<scalar_t, Uniform<value_t>>(iter, generator, [=](value_t u) {
        return convert<scalar_t>(std::ceil(philox::fast_log(u) / log_failure));
      });
    });
  }
};

template <class RNG>
struct CauchyKernel {
  void operator()(TensorIteratorBase& iter, double median_, double sigma_,
                  OptionalGenerator gen) const {
    auto* generator = generator_or_default(gen, iter.device(0).index());
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, iter.dtype(), "cauchy_cuda", [&] {
      using value_t = acc_t<scalar_t>;
      const auto median = static_cast<value_t>(median_);
      const auto sigma = static_cast<value_t>(sigma_);
      fill_each<scalar_t, Uniform<value_t>>(iter, generator, [=](value_t u) {
        if (std::is_same_v<value_t, float>) {  // where CUDA's __tanf overflows at the ends
          constexpr value_t epsilon = std::numeric_limits<value_t>::epsilon();
          u = std::min(std::max(u, epsilon), 1 - epsilon);
        }
        const value_t tangent =
            philox::fast_tan(c10::pi<value_t> * (u - static_cast<value_t>(0.5)));
        return static_cast<scalar_t>(std::fma(sigma, tangent, median));
      });
    });
  }
};

// CUDA_tensor_apply2 with four elements a thread: element e takes word e % 4 of thread e / 4.
template <class scalar_t, class probability_t>
void bernoulli_of_tensor(const at::Tensor& self, const at::Tensor& p, PhiloxState state) {
  constexpr int kThreads = philox::kBlock / 4;
  const Layout layout = Layout::pointwise({self, p});
  const int64_t numel = self.numel();
  const int64_t rows = (numel + philox::kBlock - 1) / philox::kBlock;
  parallel_tasks(rows, kCallsPerTask / kThreads, [&](int64_t from, int64_t to) {
    uint32_t words[4][philox::kBlock];
    float u[4][philox::kBlock];
    Layout::Addresses at;
    for (int64_t row = from; row < to; ++row) {
      philox::block_words(state.seed, state.offset / 4, static_cast<uint32_t>(row * kThreads),
                          kThreads, words);
      for (int j = 0; j < 4; ++j) philox::block_uniform(words[j], kThreads, u[j]);
      const int64_t first = row * philox::kBlock;
      const int count = static_cast<int>(std::min<int64_t>(philox::kBlock, numel - first));
      layout.addresses(first, count, at);
      for (int i = 0; i < count; ++i) {
        const auto chance = *reinterpret_cast<const probability_t*>(at[1][i]);
        // The kernel asserts this on a GPU; the text is what the host then raises.
        TORCH_CHECK(0 <= chance && chance <= 1,
                    "CUDA error: device-side assert triggered\nbernoulli_ expects probabilities in "
                    "[0, 1], but got p=",
                    chance);
        *reinterpret_cast<scalar_t*>(at[0][i]) = static_cast<scalar_t>(u[i % 4][i / 4] <= chance);
      }
    }
  });
}

template <class RNG>
struct BernoulliKernel {
  void operator()(const at::TensorBase& self, double p, OptionalGenerator gen) const {
    auto iter = at::TensorIterator::borrowing_nullary_op(self);
    auto* generator = generator_or_default(gen, self.device().index());
    AT_DISPATCH_ALL_TYPES_AND3(
        at::kHalf, at::kBFloat16, at::kBool, iter.dtype(), "bernoulli_scalar_cuda_", [&] {
          using value_t = discrete_t<scalar_t>;
          const auto chance = static_cast<value_t>(p);
          fill_each<scalar_t, Uniform<value_t>>(iter, generator, [=](value_t u) {
            return static_cast<scalar_t>(static_cast<value_t>(u < chance));
          });
        });
  }

  void operator()(const at::TensorBase& self_, const at::TensorBase& p_,
                  OptionalGenerator gen) const {
    const at::Tensor self(self_), p(p_);
    auto* generator = generator_or_default(gen, self.device().index());
    const PhiloxState state = draw(generator, 10);
    TORCH_CHECK(at::isFloatingType(p.scalar_type()),
                "expected probabilities tensor to have floating type, got ", p.scalar_type());
    const auto type = self.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor chances = p.to(p.options().device(self.device()).dtype(type));
    const at::Tensor expanded = chances.expand(self.sizes());
    if (self.numel() == 0) return;
    AT_DISPATCH_ALL_TYPES_AND3(
        at::kHalf, at::kBFloat16, at::kBool, self.scalar_type(), "bernoulli_tensor_cuda_self_",
        [&] { bernoulli_of_tensor<scalar_t, discrete_t<scalar_t>>(self, expanded, state); });
  }
};

// ---- random_ ----

template <class RNG>
struct RandomFromToKernel {
  void operator()(TensorIteratorBase& iter, uint64_t range, int64_t base,
                  OptionalGenerator gen) const {
    auto* generator = generator_or_default(gen, iter.device(0).index());
    AT_DISPATCH_V2(
        iter.dtype(), "random_from_to_kernel_cuda", AT_WRAP([&] {
          if (range >= uint64_t{1} << 28) {  // above, 32 bits modulo the range would be too skewed
            fill_each<scalar_t, Words64>(iter, generator, [=](uint64_t bits) {
              return static_cast<scalar_t>(
                  static_cast<int64_t>(bits % range + static_cast<uint64_t>(base)));
            });
          } else {
            const auto divisor = static_cast<uint32_t>(range);
            fill_each<scalar_t, Words32>(iter, generator, [=](uint32_t bits) {
              return static_cast<scalar_t>(static_cast<int64_t>(bits % divisor) + base);
            });
          }
        }),
        AT_EXPAND(AT_ALL_TYPES), at::kBool, at::kHalf, at::kBFloat16,
        AT_EXPAND(AT_BAREBONES_UNSIGNED_TYPES));
  }

  // The whole range of int64.
  void operator()(TensorIteratorBase& iter, OptionalGenerator gen) const {
    auto* generator = generator_or_default(gen, iter.device(0).index());
    AT_DISPATCH_ALL_TYPES_AND(
        at::kBFloat16, iter.dtype(), "random_full_64_bits_range_kernel_cuda", [&] {
          if constexpr (std::is_same_v<scalar_t, int64_t> || std::is_same_v<scalar_t, double> ||
                        std::is_same_v<scalar_t, float> || std::is_same_v<scalar_t, at::BFloat16>) {
            fill_each<scalar_t, Words64>(iter, generator, [](uint64_t bits) {
              return static_cast<scalar_t>(static_cast<int64_t>(bits));
            });
          } else {
            TORCH_CHECK(false,
                        "random_full_64_bits_range_kernel_cuda handles only int64, double, float "
                        "and bfloat16");
          }
        });
  }
};

template <class RNG>
struct RandomKernel {
  void operator()(TensorIteratorBase& iter, OptionalGenerator gen) const {
    auto* generator = generator_or_default(gen, iter.device(0).index());
    AT_DISPATCH_ALL_TYPES_AND3(
        at::kHalf, at::kBFloat16, at::kBool, iter.dtype(), "random_kernel_cuda", [&] {
          using Sampler = std::conditional_t<std::is_same_v<scalar_t, double> ||
                                                 std::is_same_v<scalar_t, int64_t>,
                                             Words64, Words32>;
          fill_each<scalar_t, Sampler>(iter, generator, [](typename Sampler::value bits) {
            return at::transformation::uniform_int<scalar_t>(bits);
          });
        });
  }
};

// ---- the operators ----

at::Tensor& uniform_(at::Tensor& self, double from, double to, OptionalGenerator gen) {
  return templates::uniform_impl_<UniformKernel, PhiloxGenerator>(self, from, to, std::move(gen));
}
at::Tensor& normal_(at::Tensor& self, double mean, double std, OptionalGenerator gen) {
  return templates::normal_impl_<NormalKernel, PhiloxGenerator>(self, mean, std, std::move(gen));
}
at::Tensor& log_normal_(at::Tensor& self, double mean, double std, OptionalGenerator gen) {
  return templates::log_normal_impl_<LogNormalKernel, PhiloxGenerator>(self, mean, std,
                                                                       std::move(gen));
}
at::Tensor& exponential_(at::Tensor& self, double lambda, OptionalGenerator gen) {
  return templates::exponential_impl_<ExponentialKernel, PhiloxGenerator>(self, lambda,
                                                                          std::move(gen));
}
at::Tensor& geometric_(at::Tensor& self, double p, OptionalGenerator gen) {
  return templates::geometric_impl_<GeometricKernel, PhiloxGenerator>(self, p, std::move(gen));
}
at::Tensor& cauchy_(at::Tensor& self, double median, double sigma, OptionalGenerator gen) {
  return templates::cauchy_impl_<CauchyKernel, PhiloxGenerator>(self, median, sigma,
                                                                std::move(gen));
}
at::Tensor& bernoulli_float(at::Tensor& self, double p, OptionalGenerator gen) {
  return templates::bernoulli_impl_<BernoulliKernel, PhiloxGenerator>(self, p, std::move(gen));
}
at::Tensor& bernoulli_tensor(at::Tensor& self, const at::Tensor& p, OptionalGenerator gen) {
  return templates::bernoulli_impl_<BernoulliKernel, PhiloxGenerator>(self, p, std::move(gen));
}
at::Tensor& bernoulli_out(const at::Tensor& self, OptionalGenerator gen, at::Tensor& out) {
  return templates::bernoulli_out_impl<BernoulliKernel, PhiloxGenerator>(out, self, std::move(gen));
}
at::Tensor& random_(at::Tensor& self, OptionalGenerator gen) {
  return templates::random_impl<RandomKernel, PhiloxGenerator>(self, std::move(gen));
}
at::Tensor& random_from(at::Tensor& self, int64_t from, std::optional<int64_t> to,
                        OptionalGenerator gen) {
  return templates::random_from_to_impl<RandomFromToKernel, PhiloxGenerator>(self, from, to,
                                                                             std::move(gen));
}
at::Tensor& random_to(at::Tensor& self, int64_t to, OptionalGenerator gen) {
  return random_from(self, 0, to, std::move(gen));
}

template <class Mean, class Std>
at::Tensor normal(Mean mean, Std std, OptionalGenerator gen) {
  return templates::normal_impl<NormalKernel, PhiloxGenerator>(mean, std, std::move(gen));
}
template <class Mean, class Std>
at::Tensor& normal_out(Mean mean, Std std, OptionalGenerator gen, at::Tensor& out) {
  return templates::normal_out_impl<NormalKernel, PhiloxGenerator>(out, mean, std, std::move(gen));
}

}  // namespace

HEITU_KERNELS(random_elementwise) {
  m.impl("uniform_", uniform_);
  m.impl("normal_", normal_);
  m.impl("log_normal_", log_normal_);
  m.impl("exponential_", exponential_);
  m.impl("geometric_", geometric_);
  m.impl("cauchy_", cauchy_);
  m.impl("bernoulli_.float", bernoulli_float);
  m.impl("bernoulli_.Tensor", bernoulli_tensor);
  m.impl("bernoulli.out", bernoulli_out);
  m.impl("random_", random_);
  m.impl("random_.from", random_from);
  m.impl("random_.to", random_to);
  using T = const at::Tensor&;
  m.impl("normal.Tensor_float", normal<T, double>);
  m.impl("normal.float_Tensor", normal<double, T>);
  m.impl("normal.Tensor_Tensor", normal<T, T>);
  m.impl("normal.Tensor_float_out", normal_out<T, double>);
  m.impl("normal.float_Tensor_out", normal_out<double, T>);
  m.impl("normal.Tensor_Tensor_out", normal_out<T, T>);
}

}  // namespace heitu
