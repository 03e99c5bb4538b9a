#include "typed.h"

namespace heitu {

std::vector<std::pair<c10::OperatorName, c10::KernelFunction>> typed_kernels() {
  TypedKernels kernels;
  add_form_kernels(kernels);
  add_pointwise_kernels(kernels);
  add_reduction_kernels(kernels);
  add_network_kernels(kernels);
  return kernels;
}

}  // namespace heitu
