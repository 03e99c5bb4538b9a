// The plugin's own storages and tensors. A kernel of it takes no others of its device.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/StorageImpl.h>

#include "memory.h"

namespace standin {

// A storage that knows how it was laid out, as plugins with private formats keep it.
class VendorStorage final : public c10::StorageImpl {
 public:
  using c10::StorageImpl::StorageImpl;
  std::vector<int64_t> described_sizes;
  std::vector<int64_t> described_strides;
};

inline c10::intrusive_ptr<c10::StorageImpl> make_storage(c10::StorageImpl::use_byte_size_t,
                                                         c10::SymInt bytes, c10::DataPtr data,
                                                         c10::Allocator* from, bool resizable) {
  const auto size = static_cast<size_t>(bytes.expect_int());
  if (data.get() == nullptr) data = allocator.allocate(size);
  return c10::make_intrusive<VendorStorage>(c10::StorageImpl::use_byte_size_t(), size,
                                            std::move(data), from ? from : &allocator, resizable);
}

inline c10::Storage make_storage(size_t bytes, c10::DeviceIndex device) {
  const auto before = std::exchange(current_device, device);
  c10::DataPtr data;
  try {
    data = allocator.allocate(bytes);
  } catch (...) {
    current_device = before;
    throw;
  }
  current_device = before;
  if (data.get() == nullptr) data = {nullptr, c10::Device(c10::kPrivateUse1, device)};
  return c10::Storage(c10::make_intrusive<VendorStorage>(c10::StorageImpl::use_byte_size_t(), bytes,
                                                         std::move(data), &allocator, true));
}

class VendorTensor final : public c10::TensorImpl {
 public:
  VendorTensor(c10::Storage&& storage, const caffe2::TypeMeta& dtype)
      : c10::TensorImpl(std::move(storage), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                        dtype) {}

  void shallow_copy_from(const c10::intrusive_ptr<c10::TensorImpl>& other) override {
    copy_tensor_metadata(other.get(), this, version_counter(), allow_tensor_metadata_change());
    refresh_numel();
    refresh_contiguous();
  }
  c10::intrusive_ptr<c10::TensorImpl> shallow_copy_and_detach(const c10::VariableVersion& version,
                                                              bool allow_change) const override {
    auto copy = c10::make_intrusive<VendorTensor>(c10::Storage(storage()), dtype());
    copy_tensor_metadata(this, copy.get(), version, allow_change);
    copy->refresh_numel();
    copy->refresh_contiguous();
    return copy;
  }
  c10::intrusive_ptr<c10::TensorImpl> shallow_copy_and_detach(c10::VariableVersion&& version,
                                                              bool allow_change) const override {
    return shallow_copy_and_detach(static_cast<const c10::VariableVersion&>(version), allow_change);
  }
};

inline at::Tensor make_tensor(c10::Storage storage, const caffe2::TypeMeta& dtype,
                              c10::IntArrayRef sizes, c10::IntArrayRef strides, int64_t offset) {
  auto made = at::detail::make_tensor<VendorTensor>(std::move(storage), dtype);
  made.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, offset);
  return made;
}

// The storage of a tensor of this device; refuses one that the plugin did not make.
inline VendorStorage& storage_of(const at::Tensor& tensor) {
  auto* found = dynamic_cast<VendorStorage*>(tensor.storage().unsafeGetStorageImpl());
  TORCH_CHECK(found != nullptr, "A kernel of the stand-in got a tensor on ", tensor.device(),
              " whose storage is not its own.");
  return *found;
}

}  // namespace standin
