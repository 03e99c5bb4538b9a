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

// torch_npu puts a kernel that knows its own tensors only in the place of PyTorch's, for all
// devices. By it, Module.to("cuda") would part tied weights.
bool compatible_in_place(const at::Tensor& self, const at::Tensor& from) {
  return self.unsafeGetTensorImpl()->has_compatible_shallow_copy_type(from.key_set());
}

// Whether cuDNN or MIOpen serve a CTC loss: PyTorch asks it of cuda tensors alone.
bool no_ctc(const at::Tensor&, const at::Tensor&, at::IntArrayRef, at::IntArrayRef, int64_t) {
  return false;
}
bool no_ctc_of_tensors(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                       int64_t) {
  return false;
}

}  // namespace

std::vector<OwnKernel> own_kernels() {
  using c10::DispatchKey;
  using c10::KernelFunction;
  const c10::OperatorName compatible("aten::_has_compatible_shallow_copy_type", "");
  std::vector<OwnKernel> kernels;
  kernels.push_back({{"aten::_efficientzerotensor", ""},
                     DispatchKey::CUDA,
                     KernelFunction::makeFromUnboxedFunction(TORCH_FN(efficient_zeros))});
  for (const char* name : {"aten::_use_cudnn_ctc_loss", "aten::_use_miopen_ctc_loss"}) {
    kernels.push_back(
        {{name, ""}, DispatchKey::CUDA, KernelFunction::makeFromUnboxedFunction(TORCH_FN(no_ctc))});
    kernels.push_back({{name, "Tensor"},
                       DispatchKey::CUDA,
                       KernelFunction::makeFromUnboxedFunction(TORCH_FN(no_ctc_of_tensors))});
  }
  for (const auto key : {DispatchKey::CUDA, DispatchKey::AutogradCUDA})
    kernels.push_back(
        {compatible, key, KernelFunction::makeFromUnboxedFunction(TORCH_FN(compatible_in_place))});
  return kernels;
}

}  // namespace heitu
