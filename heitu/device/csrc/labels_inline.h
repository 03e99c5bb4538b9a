// The hot half of labels.h, inlined into the typed kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include "labels.h"
#include "thread_state.h"

namespace heitu {

// TensorImpl has no setter for these; a derived class may name its protected members.
struct Access : c10::TensorImpl {
  static c10::DispatchKeySet& keys(c10::TensorImpl& t) { return t.*(&Access::key_set_); }
  static std::optional<c10::Device>& device(c10::TensorImpl& t) {
    return t.*(&Access::device_opt_);
  }
  static c10::Storage& storage(c10::TensorImpl& t) { return t.*(&Access::storage_); }
  static void copy_metadata(const c10::TensorImpl* from, c10::TensorImpl* to) {
    copy_generic_tensor_metadata(from, to);
  }
};

constexpr c10::DispatchKeySet kUnusualLayouts =
    c10::DispatchKeySet({c10::DispatchKey::Sparse, c10::DispatchKey::SparseCsr,
                         c10::DispatchKey::NestedTensor, c10::DispatchKey::Quantized});

constexpr c10::DispatchKeySet kLazySigns =
    c10::DispatchKeySet({c10::DispatchKey::Conjugate, c10::DispatchKey::Negative});

inline c10::DispatchKeySet host_keys(c10::DispatchKeySet keys) {
  return (keys.remove_backend(c10::BackendComponent::CUDABit) -
          c10::DispatchKeySet(c10::DispatchKey::AutocastCUDA)) |
         c10::DispatchKeySet(c10::BackendComponent::CPUBit) |
         c10::DispatchKeySet(c10::DispatchKey::AutocastCPU);
}

inline c10::DispatchKeySet device_keys(c10::DispatchKeySet keys) {
  return (keys.remove_backend(c10::BackendComponent::CPUBit) -
          c10::DispatchKeySet(c10::DispatchKey::AutocastCPU)) |
         c10::DispatchKeySet(c10::BackendComponent::CUDABit) |
         c10::DispatchKeySet(c10::DispatchKey::AutocastCUDA);
}

// Makes `shadow` a CPU tensor on the memory of `device`. It has the version counter, too: kernels
// make views in threads of their own, where autograd is not excluded and asks for the version
// (slow_conv_transpose2d).
inline void cast_shadow(const c10::TensorImpl& device, c10::TensorImpl& shadow) {
  Access::copy_metadata(&device, &shadow);
  Access::device(shadow) = c10::Device(c10::kCPU);
  Access::keys(shadow) = host_keys(device.key_set());
  shadow.set_version_counter(device.version_counter());
}

// Shadow of an ordinary CUDA tensor. Built as a view without autograd keys, which spares a version
// counter of its own; the true keys are set afterwards because views of the shadow inherit them.
inline at::Tensor strided_shadow(const c10::TensorImpl& device) {
  const auto* storage = device.unsafe_storage().unsafeGetStorageImpl();
  auto shadow = c10::make_intrusive<c10::TensorImpl>(
      c10::TensorImpl::VIEW, c10::Storage(host_storage(*storage)),
      c10::DispatchKeySet(c10::DispatchKey::CPU), device.dtype());
  cast_shadow(device, *shadow);
  return at::Tensor(std::move(shadow));
}

void open_spare_shadows();

// As strided_shadow, from the thread's spare ones: making one anew takes as long as all the rest of
// an operator's passage.
inline at::Tensor take_shadow(SpareShadows& spares, const c10::TensorImpl& device) {
  if (C10_UNLIKELY(spares.count == 0)) return strided_shadow(device);
  auto shadow = c10::intrusive_ptr<c10::TensorImpl>::reclaim(spares.shadows[--spares.count]);
  const auto* storage = device.unsafe_storage().unsafeGetStorageImpl();
  Access::storage(*shadow) = c10::Storage(host_storage(*storage));
  cast_shadow(device, *shadow);
  return at::Tensor(std::move(shadow));
}

// Keeps `shadow` if nobody else holds it. (Autograd attaches nothing to it below the device.)
inline void leave_shadow(SpareShadows& spares, at::Tensor& shadow) {
  auto* impl = shadow.unsafeGetTensorImpl();
  if (C10_UNLIKELY(!spares.open)) open_spare_shadows();
  if (spares.count == SpareShadows::kMost || !spares.open || shadow.use_count() != 1 ||
      shadow.weak_use_count() != 1 || seen_by_python(*impl)) {
    return;
  }
  Access::storage(*impl) = c10::Storage();
  spares.shadows[spares.count++] = shadow.unsafeReleaseTensorImpl();
}

inline void write_back_strided(c10::TensorImpl& from, c10::TensorImpl& to) {
  auto* storage = to.unsafe_storage().unsafeGetStorageImpl();
  auto* host = from.unsafe_storage().unsafeGetStorageImpl();
  const auto& pointer = storage->data_ptr();
  if (C10_UNLIKELY(host != pointer.get_context() && host->data_ptr().get() != pointer.get())) {
    // The kernel gave the shadow another storage (set_).
    Access::storage(to) = c10::Storage(
        device_storage(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(host), to.device()));
  } else if (host == pointer.get_context()) {
    follow_host_storage(*storage);
  }
  if (C10_UNLIKELY(from.storage_offset() != to.storage_offset() || from.sizes() != to.sizes() ||
                   from.strides() != to.strides())) {
    to.set_sizes_and_strides(from.sizes(), from.strides(), from.storage_offset());
  }
  if (C10_UNLIKELY((from.key_set() & kLazySigns) != (to.key_set() & kLazySigns))) {
    // The kernel left the memory conjugated (lu_solve with adjoint=True).
    Access::keys(to) = (to.key_set() - kLazySigns) | (from.key_set() & kLazySigns);
  }
}

}  // namespace heitu
