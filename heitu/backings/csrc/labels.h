// A CUDA tensor over a vendor plugin: its StorageImpl (device cuda:i) owns, through the context of
// its DataPtr, the StorageImpl that the plugin made (device PrivateUse1:i). The plugin's kernels
// work on shadows, tensors of the plugin's own class over its own storage; what they return is
// wrapped in CUDA tensors.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/StorageImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace heitu {

constexpr auto kPlugin = c10::DeviceType::PrivateUse1;

// ---- devices, streams, keys ----

inline c10::Device plugin_device(c10::Device device) {
  return device.is_cuda() ? c10::Device(kPlugin, device.index()) : device;
}
inline c10::Device cuda_device(c10::Device device) {
  return device.type() == kPlugin ? c10::Device(c10::kCUDA, device.index()) : device;
}
inline c10::Stream plugin_stream(c10::Stream stream) {
  return c10::Stream(c10::Stream::UNSAFE, plugin_device(stream.device()), stream.id());
}
inline c10::Stream cuda_stream(c10::Stream stream) {
  return c10::Stream(c10::Stream::UNSAFE, cuda_device(stream.device()), stream.id());
}

// What answers for cuda in PyTorch's device-generic code (guard.cpp).
inline const c10::impl::DeviceGuardImplInterface& cuda_guard() {
  return *c10::impl::getDeviceGuardImpl(c10::kCUDA);
}

c10::DispatchKeySet plugin_keys(c10::DispatchKeySet keys);
c10::DispatchKeySet cuda_keys(c10::DispatchKeySet keys);

// ---- storages ----

// The plugin's storage under a CUDA storage. For memory that the plugin did not allocate (dlpack,
// another library's) a non-owning one is made; it must not outlive `cuda`.
c10::intrusive_ptr<c10::StorageImpl> plugin_storage(const c10::StorageImpl& cuda);

// A CUDA storage that owns the plugin's.
c10::intrusive_ptr<c10::StorageImpl> cuda_storage(c10::intrusive_ptr<c10::StorageImpl> plugin);

// Memory of the plugin's current stream on that device, for a CUDA storage.
c10::DataPtr allocate(size_t bytes, c10::Device cuda);

// After a kernel gave the plugin's storage other memory: the CUDA storage follows.
void follow(c10::StorageImpl& cuda);

// ---- tensors ----

// Tensor of the plugin over the same memory, with the version counter of `cuda`. Anything but a
// CUDA tensor comes back as it is.
at::Tensor shadow(const at::Tensor& cuda);

// CUDA tensor over the memory of the plugin's, with its version counter.
at::Tensor wrap(const at::Tensor& plugin);

// Writes what a kernel did to the shadow's form (out= resize, set_) back to the tensor.
void write_back(const at::Tensor& shadow, const at::Tensor& cuda);

inline bool is_plugin(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == kPlugin;
}

}  // namespace heitu
