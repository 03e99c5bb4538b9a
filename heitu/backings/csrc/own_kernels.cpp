// The few operators that concern the cuda tensor itself, not the plugin's memory.
#include "own_kernels.h"

#include <ATen/EmptyTensor.h>
#include <ATen/native/TensorFactories.h>

#include "labels.h"

namespace heitu {
namespace {

// A tensor of zeros without memory, as forward-mode derivatives use them.
at::Tensor efficient_zeros(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
                           std::optional<c10::Layout>, std::optional<c10::Device> device,
                           std::optional<bool>) {
  const auto index =
      device && device->has_index() ? device->index() : cuda_guard().getDevice().index();
  at::native::ZeroTensorAllocator allocator({c10::kCUDA, index});
  const auto keys = c10::DispatchKeySet({c10::DispatchKey::CUDA, c10::DispatchKey::ZeroTensor});
  return at::detail::empty_generic(size, &allocator, keys, c10::dtype_or_default(dtype), {});
}

}  // namespace

std::vector<std::pair<c10::OperatorName, c10::KernelFunction>> own_kernels() {
  std::vector<std::pair<c10::OperatorName, c10::KernelFunction>> kernels;
  kernels.emplace_back(c10::OperatorName("aten::_efficientzerotensor", ""),
                       c10::KernelFunction::makeFromUnboxedFunction(TORCH_FN(efficient_zeros)));
  return kernels;
}

}  // namespace heitu
