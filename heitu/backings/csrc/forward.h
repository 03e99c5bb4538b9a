// An operator's passage from CUDA tensors to the plugin's kernel and back.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "labels.h"

namespace heitu {

using Stack = torch::jit::Stack;

// Turns what a call carries into the plugin's terms, and what it returns into cuda's.
class Passage {
 public:
  // A tensor's shadow; `make` makes it where no earlier argument is the same tensor.
  template <class Make>
  at::Tensor take(const at::Tensor& tensor, const Make& make) {
    if (!tensor.defined() || !tensor.is_cuda()) return tensor;
    for (const auto& pair : pairs_)
      if (pair.cuda.is_same(tensor)) return pair.plugin;
    pairs_.push_back({tensor, make(tensor)});
    return pairs_.back().plugin;
  }

  template <class Make>
  void take(c10::IValue& value, const Make& make) {
    if (value.isTensor()) {
      if (value.toTensor().defined() && value.toTensor().is_cuda())
        value = take(value.toTensor(), make);
    } else if (value.isTensorList()) {
      auto tensors = value.toTensorVector();
      for (auto& tensor : tensors) tensor = take(tensor, make);
      value = std::move(tensors);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> taken;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList())
        taken.push_back(tensor ? std::make_optional(take(*tensor, make)) : std::nullopt);
      value = std::move(taken);
    } else if (!value.isNone()) {
      take_other(value);
    }
  }

  // The CUDA tensor for a result. `make` wraps one that is not an argument.
  template <class Make>
  at::Tensor give(const at::Tensor& result, const Make& make) {
    if (!is_plugin(result)) return result;
    for (const auto& pair : pairs_)
      if (pair.plugin.is_same(result)) return pair.cuda;
    return make(result);
  }

  template <class Make>
  void give(c10::IValue& value, const Make& make) {
    if (value.isTensor()) {
      if (is_plugin(value.toTensor())) value = give(value.toTensor(), make);
    } else if (value.isTensorList()) {
      auto tensors = value.toTensorVector();
      for (auto& tensor : tensors) tensor = give(tensor, make);
      value = std::move(tensors);
    } else if (value.isGenericDict() || value.isList()) {
      give_containers(value);
    }
  }

  // What a kernel did to the form of an argument that it writes.
  void write_back(const at::Tensor& cuda) const;

 private:
  struct Pair {
    at::Tensor cuda;
    at::Tensor plugin;
  };

  void take_other(c10::IValue& value) const;
  void give_containers(c10::IValue& value);

  c10::SmallVector<Pair, 8> pairs_;
};

// What must not run again below the device: autograd and autocast have had their turn.
constexpr c10::DispatchKeySet kBelowDevice =
    c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset;

// Registers, for every operator that the plugin has now, a kernel on the CUDA keys; returns how
// many.
int install_kernels();

// The kernel on AutogradCUDA for operators whose backward pass is the plugin's own. To be made
// before the operator has a kernel on CUDA.
c10::KernelFunction bridge(const c10::OperatorHandle& op);

}  // namespace heitu
