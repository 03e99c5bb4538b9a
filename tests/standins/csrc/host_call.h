// Runs an operator on the CPU's kernel, over the device's own bytes.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <unordered_map>

#include "generator.h"
#include "tensor.h"

namespace standin {

constexpr c10::DispatchKeySet kBelow =
    c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset;

// What kernels have been called, and on which stream.
class Calls {
 public:
  void count(const std::string& name);
  std::unordered_map<std::string, int64_t> taken() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return counts_;
  }
  void clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    counts_.clear();
    by_stream_.clear();
  }
  std::unordered_map<std::string, int64_t> by_stream() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return by_stream_;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, int64_t> counts_;
  std::unordered_map<std::string, int64_t> by_stream_;
};
inline Calls calls;

// The CPU tensor on the bytes of a tensor of the device.
inline at::Tensor host_view(const at::Tensor& tensor, c10::Storage storage) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(),
                                                    tensor.storage_offset());
  made._set_conj(tensor.is_conj());
  made._set_neg(tensor.is_neg());
  return made;
}

inline c10::Storage host_storage(const VendorStorage& of) {
  return c10::Storage(c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), of.nbytes(),
      c10::DataPtr(host_address(of.data_ptr().get()), c10::Device(c10::kCPU)),
      c10::GetCPUAllocator(), of.resizable()));
}

inline at::Tensor host_view(const at::Tensor& tensor) {
  return host_view(tensor, host_storage(storage_of(tensor)));
}

inline void resize_storage(VendorStorage& storage, size_t bytes) {
  auto grown = make_storage(bytes, storage.device().index());
  const auto kept = std::min(bytes, storage.nbytes());
  if (kept != 0)
    std::memcpy(host_address(grown.data_ptr().get()), host_address(storage.data_ptr().get()), kept);
  storage.set_data_ptr_noswap(
      std::move(grown.unsafeGetStorageImpl()->_mutable_data_ptr_no_checks()));
  storage.set_nbytes(bytes);
}

class HostCall {
 public:
  void lower(c10::IValue& value) {
    if (value.isTensor()) {
      if (value.toTensor().defined()) value = lower(value.toTensor());
    } else if (value.isTensorList()) {
      auto list = value.toTensorVector();
      for (auto& tensor : list) tensor = lower(tensor);
      value = std::move(list);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList())
        list.push_back(tensor && tensor->defined() ? lower(*tensor) : tensor);
      value = std::move(list);
    } else if (value.isDevice()) {
      const auto device = value.toDevice();
      if (device.is_cpu()) to_host_ = true;
      if (device.is_privateuseone()) {
        if (device.has_index()) device_ = device.index();
        value = c10::Device(c10::kCPU);
      }
    }
  }

  void raise(c10::IValue& value) {
    if (value.isTensor()) {
      if (value.toTensor().defined()) value = raise(value.toTensor());
    } else if (value.isTensorList()) {
      auto list = value.toTensorVector();
      for (auto& tensor : list) tensor = raise(tensor);
      value = std::move(list);
    }
  }

  // Sizes and memory of arguments that the kernel resized.
  void write_back() {
    for (auto& [original, host] : pairs_) {
      auto* storage = host.storage().unsafeGetStorageImpl();
      auto& own = storage_of(original);
      if (storage->nbytes() != own.nbytes()) {
        resize_storage(own, storage->nbytes());
        if (storage->nbytes() != 0)
          std::memcpy(host_address(own.data_ptr().get()), storage->data(), storage->nbytes());
        // Further arguments on this storage must not be written back from its old bytes.
        storage->set_data_ptr_noswap({host_address(own.data_ptr().get()), c10::Device(c10::kCPU)});
      }
      if (host.sizes() != original.sizes() || host.strides() != original.strides() ||
          host.storage_offset() != original.storage_offset())
        original.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides(),
                                                              host.storage_offset());
    }
  }

  c10::DeviceIndex device() const { return device_; }

 private:
  at::Tensor lower(const at::Tensor& tensor) {
    TORCH_CHECK(tensor.device().is_cpu() || tensor.device().is_privateuseone(),
                "A kernel of the stand-in got a tensor on ", tensor.device(), ".");
    if (tensor.device().is_cpu()) {
      guests_.push_back(tensor);
      return tensor;
    }
    if (pairs_.empty()) device_ = tensor.device().index();
    for (auto& [original, host] : pairs_)
      if (original.is_same(tensor)) return host;
    auto& own = storage_of(tensor);
    auto& storage = storages_[&own];
    if (!storage) storage = host_storage(own);
    pairs_.emplace_back(tensor, host_view(tensor, storage));
    return pairs_.back().second;
  }

  at::Tensor raise(const at::Tensor& result) {
    if (!result.device().is_cpu() || to_host_) return result;
    for (const auto& guest : guests_)
      if (guest.is_same(result)) return result;
    for (const auto& [original, host] : pairs_)
      if (host.is_same(result)) return original;
    auto* storage = result.storage().unsafeGetStorageImpl();
    for (const auto& [original, host] : pairs_)
      if (host.storage().unsafeGetStorageImpl() == storage)
        return label(result, original.storage());
    for (auto& [host, own] : made_)
      if (host.unsafeGetStorageImpl() == storage) return label(result, own);
    auto own = make_storage(storage->nbytes(), device_);
    if (storage->nbytes() != 0)
      std::memcpy(host_address(own.data_ptr().get()), storage->data(), storage->nbytes());
    made_.emplace_back(result.storage(), own);
    return label(result, own);
  }

  static at::Tensor label(const at::Tensor& result, c10::Storage own) {
    auto made = make_tensor(std::move(own), result.dtype(), result.sizes(), result.strides(),
                            result.storage_offset());
    made._set_conj(result.is_conj());
    made._set_neg(result.is_neg());
    return made;
  }

  c10::DeviceIndex device_ = current_device;
  bool to_host_ = false;
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;
  std::unordered_map<VendorStorage*, c10::Storage> storages_;
  std::vector<at::Tensor> guests_;
  std::vector<std::pair<c10::Storage, c10::Storage>> made_;
};

inline bool is_random(const c10::OperatorHandle& op) {
  for (const auto& tag : op.getTags())
    if (tag == at::Tag::nondeterministic_seeded) return true;
  return false;
}

inline int generator_argument(const c10::OperatorHandle& op) {
  const auto& arguments = op.schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto type = arguments[i].type();
    if (auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
    if (type->kind() == c10::TypeKind::GeneratorType) return static_cast<int>(i);
  }
  return -1;
}

inline const c10::OperatorHandle& convolution(const char* name) {
  static auto* found = new std::unordered_map<std::string, c10::OperatorHandle>;
  return found->try_emplace(name, c10::Dispatcher::singleton().findSchemaOrThrow(name, ""))
      .first->second;
}

inline void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack);

// What plugins override and the CPU has no kernel for: the operator behind it. True: it was one.
inline bool run_overrideable(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.operator_name().name;
  if (name == "aten::convolution_overrideable") {
    run_on_host(convolution("aten::convolution"), stack);
    return true;
  }
  if (name != "aten::convolution_backward_overrideable") return false;
  // The same arguments but for the sizes of the bias, which come fourth.
  const auto first = stack->end() - static_cast<int64_t>(op.schema().arguments().size());
  const auto channels = std::vector<int64_t>{first->toTensor().size(1)};
  stack->insert(first + 3, c10::IValue(channels));
  run_on_host(convolution("aten::convolution_backward"), stack);
  return true;
}

// Runs `op` on the CPU's kernel; the arguments on the stack are the device's, and so are the
// results.
inline void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  if (run_overrideable(op, stack)) return;
  const auto inputs = op.schema().arguments().size();
  const auto first = stack->size() - inputs;
  HostCall call;
  for (size_t i = first; i < stack->size(); ++i) call.lower((*stack)[i]);
  std::optional<SeededScope> seeded;
  const int generator = generator_argument(op);
  if (generator >= 0 || is_random(op)) {
    auto given = generator < 0 ? c10::IValue() : (*stack)[first + generator];
    seeded.emplace(call.device(), given);
    if (generator >= 0) (*stack)[first + generator] = seeded->generator();
  }
  {
    c10::impl::ExcludeDispatchKeyGuard below(kBelow);
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  call.write_back();
  for (auto& value : *stack) call.raise(value);
}

}  // namespace standin
