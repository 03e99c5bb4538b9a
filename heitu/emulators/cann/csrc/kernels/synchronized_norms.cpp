// Batch normalization over several devices, whose pieces PyTorch has on GPUs only, and norms fused
// with more.
#include <ATen/ATen.h>

#include "gradient.h"
#include "operators.h"

namespace heitu::cann {
namespace {

at::Tensor in_single(const at::Tensor& x) { return x.defined() ? x.to(at::kFloat) : x; }

std::vector<int64_t> all_but_channels(const at::Tensor& x) {
  std::vector<int64_t> dims{0};
  for (int64_t dim = 2; dim < x.dim(); ++dim) dims.push_back(dim);
  return dims;
}

at::Tensor per_channel(const at::Tensor& values, const at::Tensor& like) {
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  shape[1] = -1;
  return values.to(at::kFloat).reshape(shape);
}

void update_running(const Call& call, const char* mean_name, const char* variance_name,
                    const at::Tensor& mean, const at::Tensor& variance, double momentum,
                    double count) {
  const auto blend = [&](const char* name, const at::Tensor& fresh) {
    const auto index = call.index(name);
    if (!call.has(index)) return;
    auto running = call.tensor(index);
    running.mul_(1 - momentum).add_(fresh.to(running.scalar_type()), momentum);
  };
  blend(mean_name, mean);
  blend(variance_name, variance * (count / std::max(count - 1, 1.0)));
}

}  // namespace

HEITU_KERNEL(batch_norm_stats) {
  const auto x = in_single(call.tensor(0));
  const auto dims = all_but_channels(x);
  call.put(2, x.mean(dims));
  call.put(3, at::rsqrt(x.var(dims, false) + call.real(1)));
}

HEITU_KERNEL(batch_norm_gather) {
  const auto means = in_single(call.tensor(1)), invstds = in_single(call.tensor(2));
  const double momentum = call.real(5), epsilon = call.real(6);
  const auto counts = in_single(call.tensor(7)).reshape({-1, 1});
  const auto total = counts.sum();
  const auto mean = (means * counts).sum(0) / total;
  const auto variances = at::reciprocal(invstds * invstds) - epsilon;
  const auto variance = ((variances + at::square(means - mean)) * counts).sum(0) / total;
  call.put(8, mean);
  call.put(9, at::rsqrt(variance + epsilon));
  update_running(call, "running_mean", "running_var", mean, variance, momentum,
                 total.item<double>());
}

HEITU_KERNEL(batch_norm_sums) {
  const auto x = in_single(call.tensor(0));
  const auto dims = all_but_channels(x);
  call.put(1, x.sum(dims));
  call.put(2, at::square(x).sum(dims));
}

HEITU_KERNEL(batch_norm_from_sums) {
  const auto sums = in_single(call.tensor(0)), squares = in_single(call.tensor(1));
  const auto counts = in_single(call.tensor(2)).reshape({-1});
  const auto total = counts.sum();
  const auto mean = sums.reshape({-1, sums.size(-1)}).sum(0) / total;
  const auto variance = squares.reshape({-1, squares.size(-1)}).sum(0) / total - mean * mean;
  call.put(7, mean);
  call.put(8, at::rsqrt(variance + call.real(6)));
  update_running(call, "running_mean", "running_var", mean, variance, call.real(5),
                 total.item<double>());
}

HEITU_KERNEL(batch_norm_backward_sums) {
  const auto grad = in_single(call.tensor(0)), x = in_single(call.tensor(1));
  const auto dims = all_but_channels(x);
  const auto centred = x - per_channel(call.tensor(2), x);
  const auto sum = grad.sum(dims), weighted = (grad * centred).sum(dims);
  if (call.flag(5)) {
    call.put(8, sum);
    call.put(9, weighted);
  }
  if (call.flag(6)) call.put(10, weighted * in_single(call.tensor(3)));
  if (call.flag(7)) call.put(11, sum);
}

HEITU_KERNEL(batch_norm_backward_elements) {
  const auto grad = in_single(call.tensor(0)), x = in_single(call.tensor(1));
  const auto invstd = per_channel(call.tensor(3), x);
  const double count = call.tensor(7).sum().item<double>();
  const auto mean_dy = per_channel(call.tensor(5), x) / count;
  const auto mean_dy_xmu = per_channel(call.tensor(6), x) / count;
  const auto centred = x - per_channel(call.tensor(2), x);
  auto out = (grad - mean_dy - centred * invstd * invstd * mean_dy_xmu) * invstd;
  if (call.has(4)) out = out * per_channel(call.tensor(4), x);
  call.put(8, out);
}

HEITU_KERNEL(group_norm_silu) {
  const auto x = in_single(call.tensor(0));
  const int64_t n = x.size(0), c = x.size(1);
  const auto [normal, mean, rstd] =
      at::native_group_norm(x, in_single(call.tensor(1)), in_single(call.tensor(2)), n, c,
                            x.numel() / (n * c), call.integer(3), call.real(4));
  call.put(5, at::silu(normal));
  call.put(6, mean);
  call.put(7, rstd);
}

HEITU_KERNEL(add_rms_norm_cast) {
  const auto sum = in_single(call.tensor(0)) + in_single(call.tensor(1));
  const auto gamma = in_single(call.tensor(2));
  const auto rstd = at::rsqrt(at::square(sum).mean(-1, true) + call.real(3));
  const auto y = sum * rstd * gamma;
  call.put(4, y);
  call.put(5, y);
  call.put(6, rstd);
  call.put(7, sum);
}

HEITU_KERNEL(add_layer_norm_backward) {
  const auto sum = in_single(call.tensor(1)) + in_single(call.tensor(2));
  const auto gamma = in_single(call.tensor(5));
  std::vector<int64_t> shape(sum.sizes().begin(), sum.sizes().end() - gamma.dim());
  shape.resize(static_cast<size_t>(sum.dim()), 1);
  const auto [to_input, to_gamma, to_beta] = at::native_layer_norm_backward(
      in_single(call.tensor(0)), sum, gamma.sizes(), in_single(call.tensor(4)).reshape(shape),
      in_single(call.tensor(3)).reshape(shape), gamma, gamma, {true, true, true});
  const auto to_sum = call.has(6) ? to_input + in_single(call.tensor(6)) : to_input;
  call.put(7, to_sum);
  call.put(8, to_gamma);
  call.put(9, to_beta);
}

HEITU_KERNEL(cross_entropy) {
  const auto logits = in_single(call.tensor(0));
  const auto target = call.tensor(1).to(at::kLong);
  const auto weight = in_single(call.tensor(2));
  const std::string how = call.text(3);
  const int64_t reduction = how == "none" ? 0 : how == "mean" ? 1 : 2;
  const auto log_probabilities = at::log_softmax(logits, -1);
  call.put(
      8, at::cross_entropy_loss(logits, target, weight, reduction, call.integer(4), call.real(5)));
  call.put(9, log_probabilities);
  if (call.flag(7)) call.put(11, at::logsumexp(logits, {-1}));
}

HEITU_KERNEL(cross_entropy_backward) {
  const auto log_probabilities = in_single(call.tensor(1));
  const auto target = call.tensor(2).to(at::kLong);
  const auto weight = in_single(call.tensor(3));
  const std::string how = call.text(6);
  const int64_t reduction = how == "none" ? 0 : how == "mean" ? 1 : 2;
  const auto grads = gradients(
      {log_probabilities},  // softmax of these is that of the logits, and so is the gradient
      [&](const Tensors& in) -> Tensors {
        return {at::cross_entropy_loss(in[0], target, weight, reduction, call.integer(7),
                                       call.real(8))};
      },
      {call.tensor(0)});
  call.put(10, grads[0]);
}

HEITU_KERNEL(top_k_top_p) {
  auto logits = in_single(call.tensor(0));
  const auto [values, order] = at::sort(logits, -1, false);
  auto kept = values;
  const int64_t width = values.size(-1);
  if (call.has(2)) {
    const auto threshold = values.gather(-1, (width - call.tensor(2).to(at::kLong)).unsqueeze(-1));
    kept = kept.masked_fill(values < threshold, -INFINITY);
  }
  if (call.has(1)) {
    const auto below = at::softmax(kept, -1).cumsum(-1);
    auto out = below <= (1 - in_single(call.tensor(1))).unsqueeze(-1);
    out.select(-1, width - 1).fill_(false);
    kept = kept.masked_fill(out, -INFINITY);
  }
  call.put(3, at::empty_like(logits).scatter_(-1, order, kept));
}

HEITU_KERNEL(index_add_v2) {
  call.put(6, at::index_add(call.tensor(0), call.integer(1), call.tensor(2).to(at::kLong),
                            call.tensor(3), call.scalar(4)));
}

HEITU_KERNEL(gather_rows) {
  const auto self = call.tensor(0), index = call.tensor(2).to(at::kLong);
  const auto picked = self.index_select(call.integer(1), index.flatten());
  call.put(5, picked.view(call.tensor(5).sizes()));
}

}  // namespace heitu::cann
