#include "typed.h"

namespace heitu {

TypedKernel::TypedKernel(const c10::OperatorHandle& op)
    : op_(op), boxed_(delegate(op, c10::DispatchKey::CPU)) {}

std::optional<c10::OperatorHandle> find_operator(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchema({name, overload});
}

TypedKernels typed_kernels() {
  TypedKernels kernels;
  add_pointwise_kernels(kernels);
  add_reduction_kernels(kernels);
  add_network_kernels(kernels);
  return kernels;
}

}  // namespace heitu
