// Batch normalisation in the parts SyncBatchNorm is made of, and cuDNN's whole.
// input [N, C, ...]; statistics [C], or [W, C] of W processes, in the accumulate type.
#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/var_mean.h>

#include "../prelude.h"
#include "../registry.h"
#include "on_host.h"

namespace heitu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

std::vector<int64_t> all_but_channels(const Tensor& input) {
  TORCH_CHECK(input.dim() >= 2, "batch norm: expected at least 2 dimensions, got ", input.dim());
  std::vector<int64_t> dims{0};
  for (int64_t d = 2; d < input.dim(); ++d) dims.push_back(d);
  return dims;
}

// [C] to the shape that broadcasts over the channels of `input`.
Tensor over_channels(const Tensor& t, const Tensor& input) {
  std::vector<int64_t> shape(input.dim(), 1);
  shape[1] = input.size(1);
  return t.view(shape);
}

std::tuple<Tensor, Tensor> stats(const Tensor& input, double eps) {
  const OnHost host(input);
  const Tensor x = host.view(input).to(accumulate_type(input.scalar_type()));
  auto [variance, mean] = at::var_mean(x, all_but_channels(x), /*correction=*/0);
  return {host.result(mean), host.result(variance.add_(eps).rsqrt_())};
}

// (input - mean) * invstd * weight + bias, as one multiplication and one addition an element.
Tensor normalise(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& mean,
                 const Tensor& invstd) {
  const auto acc = accumulate_type(x.scalar_type());
  const Tensor scale = weight.defined() ? invstd.to(acc) * weight : invstd.to(acc);
  Tensor shift = mean.to(acc).mul(scale).neg_();
  if (bias.defined()) shift.add_(bias);
  return at::addcmul(over_channels(shift, x), x.to(acc), over_channels(scale, x))
      .to(x.scalar_type());
}

Tensor elemt(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
             const Tensor& mean, const Tensor& invstd, double /*eps*/) {
  const OnHost host(input);
  return host.result(normalise(host.view(input), host.view(weight), host.view(bias),
                               host.view(mean), host.view(invstd)));
}

Tensor& elemt_out(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
                  const Tensor& mean, const Tensor& invstd, double eps, Tensor& out) {
  out.resize_(input.sizes());
  return out.copy_(elemt(input, weight, bias, mean, invstd, eps));
}

// The statistics of all processes' elements together; the running ones move towards them.
std::tuple<Tensor, Tensor> gather(const Tensor& input, const Tensor& mean, const Tensor& invstd,
                                  const OptionalTensor& running_mean,
                                  const OptionalTensor& running_var, double momentum, double eps,
                                  const Tensor& counts) {
  const OnHost host(input);
  const auto acc = accumulate_type(mean.scalar_type());
  const Tensor means = host.view(mean).to(acc), scales = host.view(invstd).to(acc);
  const Tensor n = host.view(counts).to(at::kDouble).view({-1, 1});
  const double total = n.sum().item<double>();
  const Tensor weights = n / total;
  const Tensor average = at::sum(means * weights, 0);
  const Tensor variances = scales.pow(-2).sub_(eps).add_((means - average).square_());
  const Tensor variance = at::sum(variances * weights, 0);
  const Tensor old_mean = host.view(running_mean), old_var = host.view(running_var);
  if (old_mean.defined())
    old_mean.mul_(1 - momentum).add_(average.to(old_mean.scalar_type()), momentum);
  if (old_var.defined()) {
    const Tensor unbiased = variance * (total / (total - 1));
    old_var.mul_(1 - momentum).add_(unbiased.to(old_var.scalar_type()), momentum);
  }
  return {host.result(average.to(acc)), host.result(at::rsqrt(variance + eps).to(acc))};
}

std::tuple<Tensor, Tensor> gather_equal(const Tensor& input, const Tensor& mean,
                                        const Tensor& invstd, const OptionalTensor& running_mean,
                                        const OptionalTensor& running_var, double momentum,
                                        double eps, int64_t count) {
  const Tensor counts =
      at::full({mean.size(0)}, static_cast<double>(count), mean.options().dtype(at::kFloat));
  return gather(input, mean, invstd, running_mean, running_var, momentum, eps, counts);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward_reduce(
    const Tensor& grad_out, const Tensor& input, const Tensor& mean, const Tensor& invstd,
    const OptionalTensor& weight, bool input_grad, bool weight_grad, bool bias_grad) {
  const OnHost host(input);
  const auto acc = accumulate_type(input.scalar_type());
  const Tensor x = host.view(input).to(acc), grad = host.view(grad_out).to(acc);
  const auto dims = all_but_channels(x);
  const Tensor centred = x - over_channels(host.view(mean).to(acc), x);
  const Tensor sum_dy = at::sum(grad, dims);
  const Tensor sum_dy_xmu = at::sum(grad * centred, dims);
  const auto type =
      weight.has_value() && weight->defined() ? weight->scalar_type() : input.scalar_type();
  Tensor grad_weight, grad_bias;
  if (weight_grad) grad_weight = at::mul(sum_dy_xmu, host.view(invstd).to(acc)).to(type);
  if (bias_grad) grad_bias = sum_dy.to(type, /*non_blocking=*/false, /*copy=*/true);
  return {input_grad ? host.result(sum_dy) : Tensor(),
          input_grad ? host.result(sum_dy_xmu) : Tensor(), host.result(grad_weight),
          host.result(grad_bias)};
}

Tensor backward_elemt(const Tensor& grad_out, const Tensor& input, const Tensor& mean,
                      const Tensor& invstd, const OptionalTensor& weight, const Tensor& sum_dy,
                      const Tensor& sum_dy_xmu, const Tensor& count) {
  const OnHost host(input);
  const auto acc = accumulate_type(input.scalar_type());
  const Tensor x = host.view(input).to(acc), grad = host.view(grad_out).to(acc);
  const double total = host.view(count).sum().item<double>();
  const Tensor scale = host.view(invstd).to(acc), centre = host.view(mean).to(acc);
  const Tensor factor = weight.has_value() && weight->defined() ? scale * host.view(weight) : scale;
  // grad * factor + x * slope + shift
  const Tensor slope =
      (scale.square() * host.view(sum_dy_xmu).to(acc)).mul_(factor).mul_(-1 / total);
  const Tensor shift =
      at::mul(host.view(sum_dy).to(acc), factor).mul_(-1 / total).sub_(centre * slope);
  const Tensor result = at::addcmul(over_channels(shift, x), x, over_channels(slope, x))
                            .addcmul_(grad, over_channels(factor, x));
  return host.result(result.to(input.scalar_type()));
}

// ---- cuDNN's: statistics in float, and a reserve space, empty here ----

std::tuple<Tensor, Tensor, Tensor, Tensor> cudnn_norm(const Tensor& input, const Tensor& weight,
                                                      const OptionalTensor& bias,
                                                      const OptionalTensor& running_mean,
                                                      const OptionalTensor& running_var,
                                                      bool training, double momentum, double eps) {
  const OnHost host(input);
  const auto optional = [&](const OptionalTensor& t) -> OptionalTensor {
    return t.has_value() && t->defined() ? OptionalTensor(host.view(t)) : std::nullopt;
  };
  auto [output, mean, invstd] =
      at::native_batch_norm(host.view(input), host.view(weight), optional(bias),
                            optional(running_mean), optional(running_var), training, momentum, eps);
  const Tensor reserve = at::empty({0}, output.options().dtype(at::kByte));
  return {host.result(output), host.result(mean), host.result(invstd), host.result(reserve)};
}

std::tuple<Tensor, Tensor, Tensor> cudnn_norm_backward(
    const Tensor& input, const Tensor& grad_output, const Tensor& weight,
    const OptionalTensor& running_mean, const OptionalTensor& running_var,
    const OptionalTensor& save_mean, const OptionalTensor& save_invstd, double eps,
    const Tensor& /*reserve*/) {
  const OnHost host(input);
  auto [grad_input, grad_weight, grad_bias] = at::native_batch_norm_backward(
      host.view(grad_output), host.view(input), host.view(weight), host.view(running_mean),
      host.view(running_var), host.view(save_mean), host.view(save_invstd), /*train=*/true, eps,
      {true, true, true});
  return {host.result(grad_input), host.result(grad_weight), host.result(grad_bias)};
}

HEITU_KERNELS(batch_norm) {
  m.impl("batch_norm_stats", stats);
  m.impl("batch_norm_elemt", elemt);
  m.impl("batch_norm_elemt.out", elemt_out);
  m.impl("batch_norm_gather_stats", gather_equal);
  m.impl("batch_norm_gather_stats_with_counts", gather);
  m.impl("batch_norm_backward_reduce", backward_reduce);
  m.impl("batch_norm_backward_elemt", backward_elemt);
  m.impl("cudnn_batch_norm", cudnn_norm);
  m.impl("cudnn_batch_norm_backward", cudnn_norm_backward);
}

}  // namespace
}  // namespace heitu
