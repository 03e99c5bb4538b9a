// Operators for which the CPU has a kernel, but one that refuses or orders what CUDA does not.
#include <ATen/ops/_fft_c2c.h>
#include <ATen/ops/_fft_c2r.h>
#include <ATen/ops/_fft_r2c.h>
#include <ATen/ops/_log_softmax.h>
#include <ATen/ops/_log_softmax_backward_data.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/_unique.h>
#include <ATen/ops/_unique2.h>
#include <ATen/ops/histc.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/min.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <numeric>

#include "../prelude.h"
#include "../registry.h"
#include "on_host.h"

namespace heitu {
namespace {

using at::IntArrayRef;
using at::Scalar;
using at::ScalarType;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// ---- softmax: half in, float out ----

void check_half_to_float(const Tensor& self, bool half_to_float) {
  TORCH_CHECK(!half_to_float || self.scalar_type() == at::kHalf,
              "conversion is supported for Half type only");
}

template <Tensor (*forward)(const Tensor&, int64_t, bool)>
Tensor softmax(const Tensor& self, int64_t dim, bool half_to_float) {
  check_half_to_float(self, half_to_float);
  const OnHost host(self);
  const Tensor input = host.view(self);
  return host.result(forward(half_to_float ? input.to(at::kFloat) : input, dim, false));
}

template <Tensor (*forward)(const Tensor&, int64_t, bool)>
Tensor& softmax_out(const Tensor& self, int64_t dim, bool half_to_float, Tensor& out) {
  const Tensor result = softmax<forward>(self, dim, half_to_float);
  TORCH_CHECK(out.scalar_type() == result.scalar_type(), "Expected out tensor to have dtype ",
              result.scalar_type(), ", but got ", out.scalar_type(), " instead");
  out.resize_(result.sizes());
  return out.copy_(result);
}

template <Tensor (*backward)(const Tensor&, const Tensor&, int64_t, ScalarType)>
Tensor softmax_backward(const Tensor& grad, const Tensor& output, int64_t dim, ScalarType type) {
  const bool converted = grad.scalar_type() != type;
  TORCH_CHECK(!converted || (grad.scalar_type() == at::kFloat && type == at::kHalf),
              "expected input and grad types to match, or input to be at::Half and grad to be "
              "at::Float");
  const OnHost host(grad);
  const Tensor result =
      backward(host.view(grad), host.view(output), dim, converted ? at::kFloat : type);
  return host.result(result.to(type));
}

// ---- unique: CUDA sorts in any case ----

std::tuple<Tensor, Tensor> unique(const Tensor& self, bool /*sorted*/, bool return_inverse) {
  const OnHost host(self);
  auto [values, inverse] = at::_unique(host.view(self), true, return_inverse);
  return {host.result(values), host.result(inverse)};
}

std::tuple<Tensor, Tensor, Tensor> unique2(const Tensor& self, bool /*sorted*/, bool return_inverse,
                                           bool return_counts) {
  const OnHost host(self);
  auto [values, inverse, counts] =
      at::_unique2(host.view(self), true, return_inverse, return_counts);
  return {host.result(values), host.result(inverse), host.result(counts)};
}

// ---- histc: integers too, counted in their own type ----

// Bins as CUDA computes them, in integer arithmetic.
template <class T>
Tensor count_integers(const Tensor& values, int64_t bins, T low, T high) {
  const Tensor counts = at::zeros({bins}, values.options());
  T* out = counts.data_ptr<T>();
  const T* in = values.data_ptr<T>();
  const int64_t span = int64_t{high} - low;
  for (int64_t i = 0; i < values.numel(); ++i) {
    if (in[i] < low || in[i] > high) continue;
    const int64_t bin = (int64_t{in[i]} - low) * bins / span;
    ++out[std::min(bin, bins - 1)];
  }
  return counts;
}

Tensor histogram(const Tensor& self, int64_t bins, const Scalar& min, const Scalar& max) {
  if (c10::isFloatingType(self.scalar_type())) {
    at::globalContext().alertNotDeterministic("_histc_cuda with floating point input");
    const OnHost host(self);
    return host.result(at::histc(host.view(self), bins, min, max));
  }
  TORCH_CHECK(c10::isIntegralType(self.scalar_type(), false), "\"histc\" not implemented for '",
              self.scalar_type(), "'");
  TORCH_CHECK(bins > 0, "bins must be > 0");
  const OnHost host(self);
  const Tensor values = host.view(self).contiguous();
  const auto run = [&]<class T>(T) {
    T low = min.to<T>(), high = max.to<T>();
    if (low == high && values.numel() > 0) {
      low = at::min(values).item<T>();
      high = at::max(values).item<T>();
    }
    if (low == high) {
      --low;
      ++high;
    }
    TORCH_CHECK(low < high, "max must be larger than min");
    return host.result(count_integers<T>(values, bins, low, high));
  };
  switch (self.scalar_type()) {
    case at::kByte:
      return run(uint8_t{});
    case at::kChar:
      return run(int8_t{});
    case at::kShort:
      return run(int16_t{});
    case at::kInt:
      return run(int32_t{});
    default:
      return run(int64_t{});
  }
}

Tensor& histogram_out(const Tensor& self, int64_t bins, const Scalar& min, const Scalar& max,
                      Tensor& out) {
  const Tensor result = histogram(self, bins, min, max);
  out.resize_(result.sizes());
  return out.copy_(result);
}

// ---- FFT: half precision for powers of two ----

ScalarType real_of(ScalarType type) { return c10::toRealValueType(type); }

bool is_half_precision(const Tensor& t) { return real_of(t.scalar_type()) == at::kHalf; }

Tensor in_single_precision(const Tensor& t) {
  return t.to(t.is_complex() ? at::kComplexFloat : at::kFloat);
}

void check_powers_of_two(const Tensor& self, IntArrayRef dims, std::optional<int64_t> last) {
  std::vector<int64_t> sizes;
  for (const int64_t dim : dims) sizes.push_back(self.size(dim));
  if (last.has_value()) sizes.back() = *last;
  for (const int64_t size : sizes) {
    TORCH_CHECK(
        (size & (size - 1)) == 0,
        "cuFFT only supports dimensions whose sizes are powers of two when computing in half "
        "precision, but got a signal size of",
        IntArrayRef(sizes));
  }
}

Tensor r2c(const Tensor& self, IntArrayRef dims, int64_t norm, bool onesided) {
  const OnHost host(self);
  const Tensor input = host.view(self);
  if (!is_half_precision(self)) return host.result(at::_fft_r2c(input, dims, norm, onesided));
  check_powers_of_two(self, dims, std::nullopt);
  return host.result(
      at::_fft_r2c(in_single_precision(input), dims, norm, onesided).to(at::kComplexHalf));
}

Tensor c2r(const Tensor& self, IntArrayRef dims, int64_t norm, int64_t last) {
  const OnHost host(self);
  const Tensor input = host.view(self);
  if (!is_half_precision(self)) return host.result(at::_fft_c2r(input, dims, norm, last));
  check_powers_of_two(self, dims, last);
  return host.result(at::_fft_c2r(in_single_precision(input), dims, norm, last).to(at::kHalf));
}

Tensor c2c(const Tensor& self, IntArrayRef dims, int64_t norm, bool forward) {
  const OnHost host(self);
  const Tensor input = host.view(self);
  if (dims.empty()) return self.clone();
  if (!is_half_precision(self)) return host.result(at::_fft_c2c(input, dims, norm, forward));
  check_powers_of_two(self, dims, std::nullopt);
  return host.result(
      at::_fft_c2c(in_single_precision(input), dims, norm, forward).to(at::kComplexHalf));
}

Tensor& r2c_out(const Tensor& self, IntArrayRef dims, int64_t norm, bool onesided, Tensor& out) {
  const Tensor result = r2c(self, dims, norm, onesided);
  out.resize_(result.sizes());
  return out.copy_(result);
}

Tensor& c2r_out(const Tensor& self, IntArrayRef dims, int64_t norm, int64_t last, Tensor& out) {
  const Tensor result = c2r(self, dims, norm, last);
  out.resize_(result.sizes());
  return out.copy_(result);
}

Tensor& c2c_out(const Tensor& self, IntArrayRef dims, int64_t norm, bool forward, Tensor& out) {
  const Tensor result = c2c(self, dims, norm, forward);
  out.resize_(result.sizes());
  return out.copy_(result);
}

// ---- rms_norm's fused backward ----

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& grad_out, const Tensor& input,
                                             IntArrayRef shape, const Tensor& rstd,
                                             const OptionalTensor& weight,
                                             std::array<bool, 2> mask) {
  const OnHost host(input);
  const ScalarType type = input.scalar_type(), acc = accumulate_type(type);
  const Tensor grad = host.view(grad_out).to(acc), scale = host.view(rstd).to(acc);
  const Tensor normal = host.view(input).to(acc) * scale;
  const Tensor factor = host.view(weight);
  std::vector<int64_t> inner(shape.size()), outer(input.dim() - shape.size());
  std::iota(inner.begin(), inner.end(), outer.size());
  std::iota(outer.begin(), outer.end(), 0);
  Tensor grad_input, grad_weight;
  if (mask[0]) {
    const Tensor weighted = factor.defined() ? grad * factor.to(acc) : grad;
    grad_input =
        (weighted - normal * at::mean(weighted * normal, inner, true)).mul_(scale).to(type);
  }
  if (mask[1] && factor.defined()) {
    grad_weight = grad * normal;
    if (!outer.empty()) grad_weight = at::sum(grad_weight, outer);
    grad_weight = grad_weight.to(factor.scalar_type());
  }
  return {host.result(grad_input), host.result(grad_weight)};
}

HEITU_KERNELS(differing) {
  m.impl("_softmax", softmax<at::_softmax>);
  m.impl("_softmax.out", softmax_out<at::_softmax>);
  m.impl("_softmax_backward_data", softmax_backward<at::_softmax_backward_data>);
  m.impl("_log_softmax", softmax<at::_log_softmax>);
  m.impl("_log_softmax.out", softmax_out<at::_log_softmax>);
  m.impl("_log_softmax_backward_data", softmax_backward<at::_log_softmax_backward_data>);
  m.impl("_unique", unique);
  m.impl("_unique2", unique2);
  m.impl("histc", histogram);
  m.impl("histc.out", histogram_out);
  m.impl("_fft_r2c", r2c);
  m.impl("_fft_r2c.out", r2c_out);
  m.impl("_fft_c2r", c2r);
  m.impl("_fft_c2r.out", c2r_out);
  m.impl("_fft_c2c", c2c);
  m.impl("_fft_c2c.out", c2c_out);
  m.impl("_fused_rms_norm_backward", rms_norm_backward);
}

}  // namespace
}  // namespace heitu
