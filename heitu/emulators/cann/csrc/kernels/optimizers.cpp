// Optimizer steps in one kernel.
#include <ATen/ATen.h>

#include <cmath>

#include "operators.h"

namespace heitu::cann {
namespace {

struct Adam {
  double lr, beta1, beta2, weight_decay, epsilon;
  bool maximize;
};

// One step of AdamW; `most` is undefined unless amsgrad is on. Decay is decoupled from the
// gradient.
void adamw_step(at::Tensor param, at::Tensor mean, at::Tensor square, at::Tensor most,
                const at::Tensor& gradient, double step, const Adam& a) {
  const auto g = (a.maximize ? -gradient : gradient).to(mean.scalar_type());
  auto value = param.to(mean.scalar_type());
  value = value * (1 - a.lr * a.weight_decay);
  mean.mul_(a.beta1).add_(g, 1 - a.beta1);
  square.mul_(a.beta2).addcmul_(g, g, 1 - a.beta2);
  const double correction1 = 1 - std::pow(a.beta1, step);
  const double correction2 = std::sqrt(1 - std::pow(a.beta2, step));
  auto second = square;
  if (most.defined()) {
    most.copy_(at::maximum(most, square));
    second = most;
  }
  const auto denominator = second.sqrt().div_(correction2).add_(a.epsilon);
  param.copy_(value.addcdiv_(mean, denominator, -a.lr / correction1));
}

}  // namespace

HEITU_KERNEL(adamw_v2) {
  const Adam adam{call.real(6), call.real(7),  call.real(8),
                  call.real(9), call.real(10), call.flag(12)};
  // The plugin passes the number of steps before this one.
  const double step = call.tensor(5).item<double>() + 1;
  adamw_step(call.tensor(0), call.tensor(1), call.tensor(2),
             call.flag(11) ? call.tensor(3) : at::Tensor(), call.tensor(4), step, adam);
}

HEITU_KERNEL(adamw) {
  const auto number = [&](size_t index) { return call.tensor(index).item<double>(); };
  auto param = call.tensor(0), mean = call.tensor(1), square = call.tensor(2);
  const double power1 = number(3), power2 = number(4), lr = number(5), decay = number(6),
               beta1 = number(7), beta2 = number(8), epsilon = number(9);
  auto gradient = call.tensor(10);
  if (call.flag(13)) gradient = -gradient;
  param.mul_(1 - lr * decay);
  mean.mul_(beta1).add_(gradient, 1 - beta1);
  square.mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
  auto second = square;
  if (call.flag(12) && call.has(11)) {
    auto most = call.tensor(11);
    most.copy_(at::maximum(most, square));
    second = most;
  }
  const auto denominator = (second / (1 - power2 * beta2)).sqrt_().add_(epsilon);
  param.addcdiv_(mean / (1 - power1 * beta1), denominator, -lr);
}

HEITU_KERNEL(adam) {
  const auto number = [&](size_t index) { return call.tensor(index).item<double>(); };
  auto param = call.tensor(0), mean = call.tensor(1), square = call.tensor(2);
  const double power1 = number(3), power2 = number(4), beta1 = number(6), beta2 = number(7),
               epsilon = number(8);
  const double lr = number(5) * std::sqrt(1 - power2) / (1 - power1);
  const auto gradient = call.tensor(9);
  mean.mul_(beta1).add_(gradient, 1 - beta1);
  square.mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
  const auto ahead = call.flag(11) ? mean * beta1 + gradient * (1 - beta1) : mean;
  param.addcdiv_(ahead, square.sqrt().add_(epsilon), -lr);
}

HEITU_KERNEL(sgd) {
  const auto params = call.tensors(0), gradients = call.tensors(1), buffers = call.tensors(2);
  const double decay = call.real(4), momentum = call.real(5), lr = call.real(6),
               dampening = call.real(7);
  const bool nesterov = call.flag(8), maximize = call.flag(9), first = call.flag(10);
  for (size_t i = 0; i < params.size(); ++i) {
    auto param = params[i];
    auto gradient = call.has(3) ? gradients[i] / call.tensor(3) : gradients[i];
    if (maximize) gradient = -gradient;
    gradient = gradient.add(param, decay);
    if (momentum != 0 && i < buffers.size() && buffers[i].defined()) {
      auto buffer = buffers[i];
      if (first) {
        buffer.copy_(gradient);
      } else {
        buffer.mul_(momentum).add_(gradient, 1 - dampening);
      }
      gradient = nesterov ? gradient.add(buffer, momentum) : buffer;
    }
    param.add_(gradient, -lr);
  }
}

}  // namespace heitu::cann
