// The plugin's kernels: one for all operators of its list, and a few that deal with memory.
#pragma once

#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <torch/library.h>

#include "device.h"

namespace standin {

using torch::jit::Stack;

inline std::string call_name(const c10::OperatorHandle& op) {
  const auto& name = op.operator_name();
  const auto base = name.name.rfind("aten::", 0) == 0 ? name.name.substr(6) : name.name;
  return name.overload_name.empty() ? base : base + "." + name.overload_name;
}

inline void kernel(const c10::OperatorHandle& op, Stack* stack) {
  contexts[current_device] = true;
  run_on_host(op, stack);
  calls.count(call_name(op));
}

// What is not in the list goes to the host, tensor by tensor, as plugins have it.
inline void fallback(const c10::OperatorHandle& op, Stack* stack) {
  calls.count("fallback:" + call_name(op));
  at::native::cpu_fallback(op, stack);
}

inline c10::DeviceIndex index_of(std::optional<c10::Device> device) {
  return device && device->has_index() ? device->index() : current_device;
}

inline size_t bytes_of(c10::IntArrayRef sizes, c10::IntArrayRef strides, size_t item) {
  size_t last = 1;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) return 0;
    last += (sizes[i] - 1) * strides[i];
  }
  return last * item;
}

inline at::Tensor empty_strided(c10::IntArrayRef sizes, c10::IntArrayRef strides,
                                std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                                std::optional<at::Device> device, std::optional<bool>) {
  const auto type =
      c10::scalarTypeToTypeMeta(dtype.value_or(at::get_default_dtype_as_scalartype()));
  const auto index = index_of(device);
  contexts[index] = true;
  calls.count("empty");
  auto storage = make_storage(bytes_of(sizes, strides, type.itemsize()), index);
  auto& own = *static_cast<VendorStorage*>(storage.unsafeGetStorageImpl());
  own.described_sizes = sizes.vec();
  own.described_strides = strides.vec();
  return make_tensor(std::move(storage), type, sizes, strides, 0);
}

inline at::Tensor empty(c10::IntArrayRef sizes, std::optional<at::ScalarType> dtype,
                        std::optional<at::Layout> layout, std::optional<at::Device> device,
                        std::optional<bool> pinned, std::optional<at::MemoryFormat> format) {
  for (const auto size : sizes)
    TORCH_CHECK(size >= 0, "Trying to create tensor with negative dimension ", size, ": ", sizes);
  auto made = empty_strided(sizes, c10::contiguous_strides(sizes), dtype, layout, device, pinned);
  if (format && *format != at::MemoryFormat::Preserve)
    made.unsafeGetTensorImpl()->empty_tensor_restride(*format);
  return made;
}

inline const at::Tensor& resize(const at::Tensor& self, c10::IntArrayRef sizes,
                                std::optional<at::MemoryFormat> format) {
  calls.count("resize_");
  auto& impl = *self.unsafeGetTensorImpl();
  impl.set_sizes_contiguous(sizes);
  if (format && *format != at::MemoryFormat::Preserve) impl.empty_tensor_restride(*format);
  auto& own = storage_of(self);
  const auto needed = bytes_of(self.sizes(), self.strides(), self.itemsize()) +
                      self.storage_offset() * self.itemsize();
  if (needed > own.nbytes()) resize_storage(own, needed);
  return self;
}

inline at::Tensor& set_storage(at::Tensor& self, c10::Storage storage, int64_t offset,
                               c10::IntArrayRef sizes, c10::IntArrayRef strides) {
  calls.count("set_");
  auto& impl = *self.unsafeGetTensorImpl();
  impl.set_storage_keep_dtype(std::move(storage));
  const auto laid =
      strides.empty() && !sizes.empty() ? c10::contiguous_strides(sizes) : c10::DimVector(strides);
  impl.set_sizes_and_strides(sizes, laid, offset);
  auto& own = storage_of(self);
  const auto needed = bytes_of(sizes, laid, self.itemsize()) + offset * self.itemsize();
  if (needed > own.nbytes()) resize_storage(own, needed);
  return self;
}
inline at::Tensor& set_whole_storage(at::Tensor& self, c10::Storage storage) {
  const auto count = static_cast<int64_t>(storage.nbytes() / self.itemsize());
  return set_storage(self, std::move(storage), 0, {count}, {1});
}
inline at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  return set_storage(self, source.storage(), source.storage_offset(), source.sizes(),
                     source.strides());
}
inline at::Tensor& set_nothing(at::Tensor& self) {
  return set_storage(self, make_storage(0, self.device().index()), 0, {0}, {1});
}

inline at::Tensor on_host(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.device().is_cpu() || tensor.device().is_privateuseone(),
              "The stand-in copies between its device and the CPU, not ", tensor.device(), ".");
  return tensor.device().is_cpu() ? tensor : host_view(tensor);
}

inline at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool) {
  const char* kind = !self.device().is_privateuseone()     ? "copy_to_host"
                     : !source.device().is_privateuseone() ? "copy_from_host"
                                                           : "copy_";
  calls.count(kind);
  c10::impl::ExcludeDispatchKeyGuard below(kBelow);
  on_host(self).copy_(on_host(source));
  return self;
}
inline at::Tensor copy_from(const at::Tensor& source, const at::Tensor& to, bool blocking) {
  auto target = to;
  return copy_(target, source, blocking);
}
inline at::Tensor copy_from_and_resize(const at::Tensor& source, const at::Tensor& to) {
  if (to.sizes() != source.sizes()) to.resize_(source.sizes());
  return copy_from(source, to, false);
}
inline void record_stream(at::Tensor& self, c10::Stream stream) {
  calls.count("record_stream");
  allocator.recordStream(self.storage().data_ptr(), stream);
}

inline const std::unordered_set<std::string>& own_kernels() {
  static const auto* names =
      new std::unordered_set<std::string>{"empty.memory_format",
                                          "empty_strided",
                                          "resize_",
                                          "copy_",
                                          "_copy_from",
                                          "_copy_from_and_resize",
                                          "set_",
                                          "set_.source_Storage",
                                          "set_.source_Storage_storage_offset",
                                          "set_.source_Tensor",
                                          "record_stream",
                                          "_to_copy",
                                          "is_pinned",
                                          "_pin_memory",
                                          "contiguous"};
  return *names;
}

inline void register_own(torch::Library& library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("resize_", &resize);
  library.impl("copy_", &copy_);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("set_", &set_nothing);
  library.impl("set_.source_Storage", &set_whole_storage);
  library.impl("set_.source_Storage_storage_offset", &set_storage);
  library.impl("set_.source_Tensor", &set_tensor);
  library.impl("record_stream", &record_stream);
}

}  // namespace standin
