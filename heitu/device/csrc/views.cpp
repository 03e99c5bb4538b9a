// Operators about a tensor's form, which are the same on every device, and those that make tensors.
#include <ATen/EmptyTensor.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>

#include "allocator.h"
#include "block_table.h"
#include "cuda_error.h"
#include "prelude.h"
#include "state.h"
#include "streams.h"
#include "typed.h"

namespace heitu {
namespace {

c10::Device checked(std::optional<c10::Device> device) {
  if (in_bad_fork()) throw_cuda_error(kInitializationError);
  const auto index = device && device->has_index() ? device->index() : current_device();
  if (index >= device_count()) throw_cuda_error(kInvalidDevice);
  initialize();
  return {c10::kCUDA, index};
}

void check_options(std::optional<c10::Layout> layout, std::optional<bool> pin_memory) {
  TORCH_CHECK(!pin_memory.value_or(false), "Only dense CPU tensors can be pinned");
  TORCH_CHECK(layout.value_or(c10::kStrided) == c10::kStrided,
              "Expected layout to be Strided, got ", layout.value_or(c10::kStrided));
}

at::Tensor filled(at::Tensor tensor) {
  // As CUDA's empty does under torch.use_deterministic_algorithms.
  if (C10_UNLIKELY(at::globalContext().deterministicAlgorithms() &&
                   at::globalContext().deterministicFillUninitializedMemory()))
    at::native::fill_empty_deterministic_(tensor);
  return tensor;
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<c10::Layout> layout, std::optional<c10::Device> device,
                 std::optional<bool> pin_memory, std::optional<c10::MemoryFormat> format) {
  check_options(layout, pin_memory);
  const c10::DeviceGuard guard(checked(device));
  return filled(at::detail::empty_generic(size, &device_allocator(),
                                          c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                          c10::dtype_or_default(dtype), format));
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<c10::Layout> layout,
                         std::optional<c10::Device> device, std::optional<bool> pin_memory) {
  check_options(layout, pin_memory);
  const c10::DeviceGuard guard(checked(device));
  return filled(at::detail::empty_strided_generic(size, stride, &device_allocator(),
                                                  c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                                  c10::dtype_or_default(dtype)));
}

at::Tensor& set_nothing(at::Tensor& self) {
  const auto dtype = self.dtype();
  const c10::DeviceGuard guard(self.device());
  c10::Storage storage(c10::Storage::use_byte_size_t(), 0, &device_allocator(), true);
  self.set_(storage, 0, {0}, {});
  TORCH_INTERNAL_ASSERT(dtype == self.dtype());
  return self;
}

void record_stream_on(at::Tensor& self, c10::Stream stream) {
  if (auto* block = BlockTable::find(self.storage().data())) record_stream(block, stream);
}

}  // namespace

TypedKernels form_kernels() {
  namespace native = at::native;
  TypedKernels kernels;
  const auto add = [&](const char* name, const char* overload, c10::KernelFunction kernel) {
    kernels.push_back({{std::string("aten::") + name, overload}, std::move(kernel)});
  };
#define HEITU_DIRECT(name, overload, function) \
  add(name, overload, c10::KernelFunction::makeFromUnboxedFunction(TORCH_FN(function)))
  HEITU_DIRECT("empty", "memory_format", empty);
  HEITU_DIRECT("empty_strided", "", empty_strided);
  HEITU_DIRECT("as_strided", "", native::as_strided_tensorimpl);
  HEITU_DIRECT("view", "", native::view);
  HEITU_DIRECT("unfold", "", native::unfold);
  HEITU_DIRECT("_reshape_alias", "", native::_reshape_alias);
  HEITU_DIRECT("view_as_real", "", native::view_as_real);
  HEITU_DIRECT("view_as_complex", "", native::view_as_complex);
  HEITU_DIRECT("resize_", "", native::resize_);
  HEITU_DIRECT("set_", "source_Storage", native::set_);
  HEITU_DIRECT("set_", "source_Storage_storage_offset", native::set_storage_cpu_);
  HEITU_DIRECT("set_", "source_Tensor", native::set_tensor_);
  HEITU_DIRECT("set_", "", set_nothing);
  HEITU_DIRECT("record_stream", "", record_stream_on);
#undef HEITU_DIRECT
  return kernels;
}

}  // namespace heitu
