// Distributions whose kernels draw as many words as they need: Poisson, binomial, gamma, Dirichlet.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/native/Distributions.h>
#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>

#include <vector>

#include "launch.h"
#include "prelude.h"
#include "registry.h"

namespace heitu {
namespace {

using at::Tensor;
using OptionalGenerator = std::optional<at::Generator>;

// One element a thread, in the order of CUDA_tensor_apply2: sample(stream, input) -> output.
template <class scalar_t, class Sample>
void pointwise(const Tensor& output, const Tensor& input, PhiloxState state, const Sample& sample) {
  const Layout layout = Layout::pointwise({output, input});
  const int64_t numel = output.numel();
  const int64_t rows = (numel + philox::kBlock - 1) / philox::kBlock;
  parallel_tasks(rows, 4, [&](int64_t from, int64_t to) {
    Layout::Addresses at;
    for (int64_t row = from; row < to; ++row) {
      const int64_t first = row * philox::kBlock;
      const int count = static_cast<int>(std::min<int64_t>(philox::kBlock, numel - first));
      layout.addresses(first, count, at);
      for (int i = 0; i < count; ++i) {
        philox::Stream stream(state, static_cast<uint64_t>(first + i));
        *reinterpret_cast<scalar_t*>(at[0][i]) =
            sample(stream, *reinterpret_cast<const scalar_t*>(at[1][i]));
      }
    }
  });
}

// ---- Poisson: cuRAND's three methods ----

// A fit of the regularised incomplete gamma function, (1 + exp(alpha (a - x) - beta))^-2, and with
// it an easily inverted envelope of the Poisson distribution.
struct GammaFit {
  float a, alpha, beta;

  explicit GammaFit(float a_)
      : a(a_),
        alpha(std::fma(1.43248035075540910f, inverse_root(a_ - 0.12400979329415655f),
                       0.00025361074907033f)),
        beta(std::fma(0.21096734870196546f, inverse_root(a_ - 1.97381164089999420f),
                      0.94201734077887530f)) {}

  static float inverse_root(float x) { return static_cast<float>(1.0 / std::sqrt(double{x})); }

  float value(float x) const {
    const float t = 1.0f + philox::fast_exp(std::fma(alpha, a - x, -beta));
    return 1.0f / (t * t);
  }
  float inverse(float y) const {
    const float t = beta + philox::fast_log(inverse_root(y) - 1.0f);
    return std::fma(-t, 1.0f / alpha, a);
  }
};

uint32_t poisson_by_rejection(philox::Stream& stream, float lambda) {
  const GammaFit fit(lambda);
  const float log_lambda = philox::fast_log(lambda);
  for (;;) {
    const float x = std::floor(fit.inverse(stream.uniform()));
    const float accept = stream.uniform();
    const float envelope = (fit.value(x + 1.0f) - fit.value(x)) * 1.25f;
    const double log_mass = std::fma(x, log_lambda, -lambda) - std::lgamma(1.0 + x);
    const float mass = philox::fast_exp(static_cast<float>(log_mass));
    if (accept * envelope < mass && envelope >= 1e-20f) return static_cast<uint32_t>(x);
  }
}

uint32_t poisson_by_products(philox::Stream& stream, float lambda) {
  uint32_t count = 0;
  float product = std::exp(lambda);
  do {
    ++count;
    product *= stream.uniform();
  } while (product > 1.0f);
  return count - 1;
}

uint32_t poisson_draw(philox::Stream& stream, double lambda) {
  if (lambda < 64) return poisson_by_products(stream, static_cast<float>(lambda));
  if (!(lambda > 4000)) return poisson_by_rejection(stream, static_cast<float>(lambda));
  const double value = std::fma(std::sqrt(lambda), stream.normal_double(), lambda) + 0.5;
  return value >= 0x1p32 ? ~uint32_t{0} : static_cast<uint32_t>(std::max(value, 0.0));
}

Tensor poisson(const Tensor& lambda, OptionalGenerator generator) {
  const PhiloxState state = draw(generator_or_default(generator, lambda.device().index()), 20);
  Tensor result = at::empty(lambda.sizes(), lambda.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, result.scalar_type(), "poisson_cuda", [&] {
        pointwise<scalar_t>(result, lambda, state, [](philox::Stream& stream, scalar_t rate) {
          return static_cast<scalar_t>(poisson_draw(stream, static_cast<double>(rate)));
        });
      });
  return result;
}

// ---- binomial ----

Tensor binomial(const Tensor& count, const Tensor& probability, OptionalGenerator generator) {
  // Blocks of 128 threads with 8 elements each, which a thread draws one after the other.
  constexpr int64_t kThreads = 128, kElements = 8;
  const PhiloxState state = draw(generator_or_default(generator, count.device().index()), 42);
  Tensor result = at::empty(count.sizes(), count.options());
  auto iter = at::TensorIteratorConfig()
                  .add_output(result)
                  .add_const_input(count)
                  .add_const_input(probability)
                  .build();
  if (iter.numel() == 0) return result;
  const Layout layout(iter);
  const int64_t numel = iter.numel();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, result.scalar_type(), "binomial_cuda", [&] {
        using value_t = at::opmath_type<scalar_t>;
        const int64_t blocks = (numel - 1) / (kThreads * kElements) + 1;
        parallel_tasks(blocks, 1, [&](int64_t from, int64_t to) {
          Layout::Addresses at;
          for (int64_t block = from; block < to; ++block) {
            std::vector<philox::Stream> streams;
            for (int64_t t = 0; t < kThreads; ++t) {
              streams.emplace_back(state, static_cast<uint64_t>(block * kThreads + t));
            }
            const int64_t end = std::min(numel, (block + 1) * kThreads * kElements);
            for (int64_t first = block * kThreads * kElements; first < end; first += kThreads) {
              const int count = static_cast<int>(std::min<int64_t>(kThreads, end - first));
              layout.addresses(first, count, at);
              for (int t = 0; t < count; ++t) {
                const auto uniform = [&stream = streams[t]] {
                  return static_cast<value_t>(static_cast<float>(stream.next() & 0xFFFFFFu) *
                                              0x1p-24f);
                };
                BaseSampler<value_t, decltype(uniform)> sampler(uniform);
                *reinterpret_cast<scalar_t*>(at[0][t]) =
                    sample_binomial<scalar_t, value_t, decltype(uniform)>(
                        *reinterpret_cast<const scalar_t*>(at[1][t]),
                        *reinterpret_cast<const scalar_t*>(at[2][t]), sampler);
              }
            }
          }
        });
      });
  return result;
}

// ---- gamma and Dirichlet ----

template <class scalar_t>
void draw_gamma(const Tensor& result, const Tensor& alpha, PhiloxState state) {
  using value_t = at::opmath_type<scalar_t>;
  pointwise<scalar_t>(result, alpha, state, [](philox::Stream& stream, scalar_t shape) {
    const auto uniform = [&stream] { return static_cast<value_t>(stream.uniform()); };
    const auto normal = [&stream] { return static_cast<value_t>(stream.normal()); };
    BaseSampler<value_t, decltype(uniform)> uniforms(uniform);
    BaseSampler<value_t, decltype(normal)> normals(normal);
    const auto sample = sample_gamma<scalar_t, value_t, decltype(uniform), decltype(normal)>(
        shape, uniforms, normals);
    return std::max(std::numeric_limits<scalar_t>::min(), sample);
  });
}

Tensor standard_gamma(const Tensor& alpha, OptionalGenerator generator) {
  const PhiloxState state = draw(generator_or_default(generator, alpha.device().index()), 10);
  Tensor result = at::empty(alpha.sizes(), alpha.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, result.scalar_type(), "gamma_cuda",
                                  [&] { draw_gamma<scalar_t>(result, alpha, state); });
  return result;
}

Tensor sample_dirichlet(const Tensor& alpha, OptionalGenerator generator) {
  const PhiloxState state = draw(generator_or_default(generator, alpha.device().index()), 10);
  const Tensor gamma = at::empty(alpha.sizes(), alpha.options());
  Tensor result;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, alpha.scalar_type(), "dirichlet", [&] {
    draw_gamma<scalar_t>(gamma, alpha, state);
    const auto least = static_cast<double>(std::numeric_limits<scalar_t>::min());
    const auto most = static_cast<double>(
        1 - static_cast<at::opmath_type<scalar_t>>(std::numeric_limits<scalar_t>::epsilon()));
    result = at::div(gamma, gamma.sum(-1, true)).clamp_(least, most);
  });
  return result;
}

}  // namespace

HEITU_KERNELS(random_counts) {
  m.impl("poisson", poisson);
  m.impl("binomial", binomial);
  m.impl("_standard_gamma", standard_gamma);
  m.impl("_sample_dirichlet", sample_dirichlet);
}

}  // namespace heitu
