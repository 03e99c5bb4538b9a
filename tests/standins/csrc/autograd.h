// Derivatives of the plugin's own, on the device's autograd key: operators that PyTorch would
// compose of others, and formulas that replace PyTorch's.
#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include "kernels.h"

namespace standin {

// The derivative of any operator: the operator again, on copies of its saved arguments on the host.
class VendorBackward final : public torch::autograd::Node {
 public:
  VendorBackward(const c10::OperatorHandle& op, Stack arguments, at::Tensor random_state)
      : op_(op), arguments_(std::move(arguments)), random_state_(std::move(random_state)) {
    for (auto& value : arguments_) {
      if (value.isTensor()) {
        save(value.toTensor());
      } else if (value.isTensorList()) {
        for (const auto& tensor : value.toTensorVector()) save(tensor);
      } else {
        continue;
      }
      value = value.isTensor() ? c10::IValue(int64_t{-1})
                               : c10::IValue(static_cast<int64_t>(value.toListRef().size()));
      tensors_.push_back(&value - arguments_.data());
    }
  }

  std::string name() const override {
    return "Vendor" + op_.operator_name().name.substr(op_.operator_name().name.find("::") + 2) +
           "Backward0";
  }
  void release_variables() override {
    for (auto& saved : saved_) saved.reset_data();
    released_ = true;
  }

  std::vector<bool> differentiable;  // of the results, in order

  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    TORCH_CHECK(!released_, torch::autograd::ERR_BACKWARD_TWICE);
    TORCH_CHECK_NOT_IMPLEMENTED(!c10::GradMode::is_enabled(), "the stand-in's derivative of ",
                                call_name(op_), " cannot be differentiated again");
    std::vector<at::Tensor> inputs;
    for (auto& saved : saved_) inputs.push_back(host_copy(saved.unpack(nullptr)));
    auto results = rerun(inputs);
    std::vector<at::Tensor> outputs, given;
    for (size_t i = 0; i < results.size() && i < gradients.size(); ++i) {
      if (!gradients[i].defined() || !results[i].requires_grad()) continue;
      outputs.push_back(results[i]);
      given.push_back(host_copy(gradients[i]));
    }
    std::vector<at::Tensor> wanted;
    for (const auto& input : inputs)
      if (input.defined() && input.requires_grad()) wanted.push_back(input);
    torch::autograd::variable_list made(saved_.size());
    if (outputs.empty() || wanted.empty()) return made;
    auto found = torch::autograd::grad(outputs, wanted, given, false, false, true);
    size_t next = 0;
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].defined() && inputs[i].requires_grad()) {
        auto& gradient = found[next++];
        if (gradient.defined()) made[i] = to_device(gradient, devices_[i]);
      }
    calls.count(call_name(op_) + "_backward");
    return made;
  }

 private:
  void save(const at::Tensor& tensor) {
    saved_.emplace_back(tensor, false);
    devices_.push_back(tensor.defined() ? tensor.device() : c10::Device(c10::kCPU));
    needs_.push_back(tensor.defined() && tensor.requires_grad());
  }

  static at::Tensor host_copy(const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    c10::impl::ExcludeDispatchKeyGuard below(kBelow);
    return on_host(tensor).clone();
  }
  static at::Tensor to_device(const at::Tensor& tensor, c10::Device device) {
    c10::impl::ExcludeDispatchKeyGuard below(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
    if (!device.is_privateuseone()) return tensor;
    const auto dense = tensor.contiguous();
    auto made =
        empty(dense.sizes(), dense.scalar_type(), std::nullopt, device, std::nullopt, std::nullopt);
    on_host(made).copy_(dense);
    return made;
  }

  // The results that can be differentiated, in the CPU's own graph.
  std::vector<at::Tensor> rerun(std::vector<at::Tensor>& inputs) {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].defined() && needs_[i]) inputs[i].requires_grad_(true);
    Stack stack = arguments_;
    size_t next = 0;
    for (const auto place : tensors_) {
      const auto count = stack[place].toInt();
      if (count < 0) {
        stack[place] = inputs[next++];
      } else {
        stack[place] =
            std::vector<at::Tensor>(inputs.begin() + next, inputs.begin() + next + count);
        next += count;
      }
    }
    const at::AutoGradMode enabled(true);
    std::optional<SeededScope> seeded;
    if (random_state_.defined()) {
      auto again = at::make_generator<Generator>(current_device);
      again.set_state(random_state_);
      seeded.emplace(current_device, c10::IValue(again));
      const int generator = generator_argument(op_);
      if (generator >= 0) stack[generator] = seeded->generator();
    }
    op_.callBoxed(stack);
    return differentiable_results(stack);
  }

 public:
  static std::vector<at::Tensor> differentiable_results(const Stack& stack) {
    std::vector<at::Tensor> found;
    const auto take = [&](const at::Tensor& tensor) {
      if (tensor.defined() && torch::autograd::isDifferentiableType(tensor.scalar_type()))
        found.push_back(tensor);
    };
    for (const auto& value : stack) {
      if (value.isTensor()) take(value.toTensor());
      if (value.isTensorList())
        for (const auto& tensor : value.toTensorVector()) take(tensor);
    }
    return found;
  }

 private:
  c10::OperatorHandle op_;
  Stack arguments_;              // numbers in the place of tensors: -1, or the length of a list
  std::vector<size_t> tensors_;  // where those are
  at::Tensor random_state_;
  std::vector<torch::autograd::SavedVariable> saved_;
  std::vector<c10::Device> devices_;
  std::vector<bool> needs_;
  bool released_ = false;
};

inline void autograd_kernel(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  torch::autograd::variable_list tensors;
  for (const auto& value : arguments) {
    if (value.isTensor()) tensors.push_back(value.toTensor());
    if (value.isTensorList())
      for (const auto& tensor : value.toTensorVector()) tensors.push_back(tensor);
  }
  c10::intrusive_ptr<VendorBackward> node;
  if (torch::autograd::compute_requires_grad(tensors)) {
    at::Tensor state;
    if (is_random(op) || generator_argument(op) >= 0)
      state = default_generator(current_device).get_state();
    node =
        c10::make_intrusive<VendorBackward>(op, Stack(arguments.begin(), arguments.end()), state);
    node->set_next_edges(torch::autograd::collect_next_edges(tensors));
  }
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    op.redispatchBoxed(keys & c10::after_autograd_keyset, stack);
  }
  if (!node) return;
  for (auto& result : VendorBackward::differentiable_results(*stack))
    torch::autograd::set_history(result, node);
}

}  // namespace standin
