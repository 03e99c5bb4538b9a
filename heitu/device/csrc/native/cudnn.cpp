// cuDNN's convolutions, CTC loss and grid sampling, for programs that call them by name.
#include <ATen/ops/_ctc_loss.h>
#include <ATen/ops/_ctc_loss_backward.h>
#include <ATen/ops/affine_grid_generator.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/grid_sampler_2d.h>
#include <ATen/ops/grid_sampler_2d_backward.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>

#include <algorithm>

#include "../prelude.h"
#include "../registry.h"
#include "../rules.h"
#include "on_host.h"

namespace heitu {
namespace {

using at::IntArrayRef;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// ---- convolution ----

Tensor convolve(const OnHost& host, const Tensor& input, const Tensor& weight, const Tensor& bias,
                IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, bool transposed,
                IntArrayRef output_padding, int64_t groups) {
  return at::convolution(host.view(input), host.view(weight),
                         bias.defined() ? OptionalTensor(host.view(bias)) : std::nullopt, stride,
                         padding, dilation, transposed, output_padding, groups);
}

Tensor convolution(const Tensor& self, const Tensor& weight, IntArrayRef padding,
                   IntArrayRef stride, IntArrayRef dilation, int64_t groups, bool /*benchmark*/,
                   bool /*deterministic*/, bool /*allow_tf32*/) {
  const OnHost host(self);
  const std::vector<int64_t> none(padding.size(), 0);
  return host.result(
      convolve(host, self, weight, {}, stride, padding, dilation, false, none, groups));
}

Tensor& convolution_out(const Tensor& self, const Tensor& weight, IntArrayRef padding,
                        IntArrayRef stride, IntArrayRef dilation, int64_t groups, bool benchmark,
                        bool deterministic, bool allow_tf32, Tensor& out) {
  const Tensor result = convolution(self, weight, padding, stride, dilation, groups, benchmark,
                                    deterministic, allow_tf32);
  out.resize_(result.sizes());
  return out.copy_(result);
}

Tensor convolution_transpose(const Tensor& self, const Tensor& weight, IntArrayRef padding,
                             IntArrayRef output_padding, IntArrayRef stride, IntArrayRef dilation,
                             int64_t groups, bool /*benchmark*/, bool /*deterministic*/,
                             bool /*allow_tf32*/) {
  const OnHost host(self);
  return host.result(
      convolve(host, self, weight, {}, stride, padding, dilation, true, output_padding, groups));
}

Tensor convolution_relu(const Tensor& self, const Tensor& weight, const OptionalTensor& bias,
                        IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
                        int64_t groups) {
  const OnHost host(self);
  const std::vector<int64_t> none(padding.size(), 0);
  return host.result(convolve(host, self, weight, value_or_undefined(bias), stride, padding,
                              dilation, false, none, groups)
                         .relu_());
}

Tensor convolution_add_relu(const Tensor& self, const Tensor& weight, const Tensor& z,
                            const std::optional<at::Scalar>& alpha, const OptionalTensor& bias,
                            IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
                            int64_t groups) {
  const OnHost host(self);
  const std::vector<int64_t> none(padding.size(), 0);
  return host.result(convolve(host, self, weight, value_or_undefined(bias), stride, padding,
                              dilation, false, none, groups)
                         .add_(host.view(z), alpha.value_or(1))
                         .relu_());
}

Tensor depthwise(const Tensor& self, const Tensor& weight, IntArrayRef kernel_size,
                 const OptionalTensor& bias, IntArrayRef stride, IntArrayRef padding,
                 IntArrayRef dilation) {
  TORCH_CHECK(weight.dim() >= 3 && weight.size(1) == 1 && self.dim() == weight.dim() &&
                  weight.size(0) % self.size(1) == 0,
              "depthwise convolution: weight ", weight.sizes(), " does not fit an input of ",
              self.sizes());
  TORCH_CHECK(weight.sizes().slice(2) == kernel_size, "depthwise convolution: kernel_size ",
              kernel_size, " is not that of the weight, ", weight.sizes());
  const OnHost host(self);
  const std::vector<int64_t> none(padding.size(), 0);
  return host.result(convolve(host, self, weight, value_or_undefined(bias), stride, padding,
                              dilation, false, none, self.size(1)));
}

const Tensor& depthwise_out(const Tensor& self, const Tensor& weight, IntArrayRef kernel_size,
                            const OptionalTensor& bias, IntArrayRef stride, IntArrayRef padding,
                            IntArrayRef dilation, const Tensor& out) {
  const Tensor result = depthwise(self, weight, kernel_size, bias, stride, padding, dilation);
  out.resize_(result.sizes());
  return out.copy_(result);
}

// ---- CTC ----

// What cuDNN's implementation can do; everything else is left to PyTorch's own. Lengths that are
// known to the host go with targets on the host, and lengths on the device with targets on the
// device.
bool cudnn_serves_ctc(const Tensor& log_probs, const Tensor& targets, at::DeviceType place,
                      IntArrayRef input_lengths, IntArrayRef target_lengths, int64_t blank) {
  if (!has_cudnn()) return false;
  constexpr int64_t kLongestTarget = 255;
  bool usable = at::globalContext().userEnabledCuDNN() && blank == 0 && targets.dim() == 1 &&
                log_probs.dim() == 3 && log_probs.scalar_type() == at::kFloat &&
                targets.scalar_type() == at::kInt && targets.device().type() == place &&
                targets.is_contiguous() && input_lengths.size() == target_lengths.size();
  for (size_t i = 0; usable && i < input_lengths.size(); ++i) {
    usable = target_lengths[i] <= kLongestTarget && target_lengths[i] <= input_lengths[i];
  }
  return usable;
}

bool use_ctc(const Tensor& log_probs, const Tensor& targets, IntArrayRef input_lengths,
             IntArrayRef target_lengths, int64_t blank) {
  return cudnn_serves_ctc(log_probs, targets, at::kCPU, input_lengths, target_lengths, blank) &&
         std::all_of(input_lengths.begin(), input_lengths.end(),
                     [&](int64_t length) { return length == log_probs.size(0); });
}

std::vector<int64_t> lengths_of(const Tensor& t) {
  const Tensor host = t.cpu().to(at::kLong).contiguous();
  return {host.data_ptr<int64_t>(), host.data_ptr<int64_t>() + host.numel()};
}

bool use_ctc_tensor(const Tensor& log_probs, const Tensor& targets, const Tensor& input_lengths,
                    const Tensor& target_lengths, int64_t blank) {
  const auto fits = [](const Tensor& t) {
    return t.device().type() == at::kCUDA && t.scalar_type() == at::kInt;
  };
  return fits(input_lengths) && fits(target_lengths) &&
         cudnn_serves_ctc(log_probs, targets, at::kCUDA, lengths_of(input_lengths),
                          lengths_of(target_lengths), blank);
}

// PyTorch asks this of every CUDA tensor; only a build for AMD says yes.
bool use_miopen_ctc(const Tensor&, const Tensor&, IntArrayRef, IntArrayRef, int64_t) {
  return false;
}

bool use_miopen_ctc_tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, int64_t) {
  return false;
}

// The losses, and the gradient that cuDNN computes along with them.
std::tuple<Tensor, Tensor> ctc(const Tensor& log_probs, const Tensor& targets,
                               IntArrayRef input_lengths, IntArrayRef target_lengths, int64_t blank,
                               bool /*deterministic*/, bool zero_infinity) {
  TORCH_CHECK(blank == 0, "blank must be label 0 for cudnn_ctc_loss");
  const OnHost host(log_probs);
  const Tensor probs = host.view(log_probs), labels = targets.cpu();
  auto [losses, alpha] =
      at::_ctc_loss(probs, labels, input_lengths, target_lengths, blank, zero_infinity);
  const Tensor grad = at::_ctc_loss_backward(at::ones_like(losses), probs, labels, input_lengths,
                                             target_lengths, losses, alpha, blank, zero_infinity);
  return {host.result(losses), host.result(grad)};
}

std::tuple<Tensor, Tensor> ctc_tensor(const Tensor& log_probs, const Tensor& targets,
                                      const Tensor& input_lengths, const Tensor& target_lengths,
                                      int64_t blank, bool deterministic, bool zero_infinity) {
  return ctc(log_probs, targets, lengths_of(input_lengths), lengths_of(target_lengths), blank,
             deterministic, zero_infinity);
}

// ---- spatial transformers: bilinear, zeros outside, corners aligned ----

// CUDA computes 16-bit samples in float32.
Tensor at_least_float(const Tensor& t) { return t.to(accumulate_type(t.scalar_type())); }

Tensor grid_sampler(const Tensor& self, const Tensor& grid) {
  const OnHost host(self);
  const Tensor image = at_least_float(host.view(self)), points = at_least_float(host.view(grid));
  return host.result(at::grid_sampler_2d(image, points, 0, 0, true).to(self.scalar_type()));
}

std::tuple<Tensor, Tensor> grid_sampler_backward(const Tensor& self, const Tensor& grid,
                                                 const Tensor& grad) {
  const OnHost host(self);
  auto [grad_self, grad_grid] =
      at::grid_sampler_2d_backward(at_least_float(host.view(grad)), at_least_float(host.view(self)),
                                   at_least_float(host.view(grid)), 0, 0, true, {true, true});
  return {host.result(grad_self.to(self.scalar_type())),
          host.result(grad_grid.to(grid.scalar_type()))};
}

Tensor affine_grid(const Tensor& theta, int64_t n, int64_t c, int64_t h, int64_t w) {
  const OnHost host(theta);
  return host.result(at::affine_grid_generator(host.view(theta), {n, c, h, w}, true));
}

// The grid is linear in theta: a grid of unit matrices gives the points it is made of.
Tensor affine_grid_backward(const Tensor& grad, int64_t n, int64_t c, int64_t h, int64_t w) {
  const OnHost host(grad);
  const Tensor g = host.view(grad);
  const Tensor points = at::cat(
      {at::affine_grid_generator(at::eye(2, 3, g.options()).unsqueeze(0), {1, c, h, w}, true)
           .view({h * w, 2}),
       at::ones({h * w, 1}, g.options())},
      1);
  return host.result(at::matmul(g.reshape({n, h * w, 2}).transpose(1, 2), points));
}

HEITU_KERNELS(cudnn) {
  m.impl("cudnn_convolution", convolution);
  m.impl("cudnn_convolution.out", convolution_out);
  m.impl("cudnn_convolution_transpose", convolution_transpose);
  m.impl("cudnn_convolution_relu", convolution_relu);
  m.impl("cudnn_convolution_add_relu", convolution_add_relu);
  m.impl("_conv_depthwise2d", depthwise);
  m.impl("_conv_depthwise2d.out", depthwise_out);
  m.impl("conv_depthwise3d", depthwise);
  m.impl("_use_cudnn_ctc_loss", use_ctc);
  m.impl("_use_cudnn_ctc_loss.Tensor", use_ctc_tensor);
  m.impl("_use_miopen_ctc_loss", use_miopen_ctc);
  m.impl("_use_miopen_ctc_loss.Tensor", use_miopen_ctc_tensor);
  m.impl("_cudnn_ctc_loss", ctc);
  m.impl("_cudnn_ctc_loss.Tensor", ctc_tensor);
  m.impl("cudnn_grid_sampler", grid_sampler);
  m.impl("cudnn_grid_sampler_backward", grid_sampler_backward);
  m.impl("cudnn_affine_grid_generator", affine_grid);
  m.impl("cudnn_affine_grid_generator_backward", affine_grid_backward);
}

}  // namespace
}  // namespace heitu
