// Kernels that CUDA has in a narrow dtype and the CPU only in a wider one.
#pragma once

#include "dtype_rules.h"

namespace heitu {

// Runs `op` in the wider dtype on copies of the arguments (CPU tensors) and pushes results in the
// dtypes that CUDA gives; arguments that the operator writes get the rounded values.
void run_in_wider_dtype(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                        c10::ArrayRef<c10::IValue> arguments, at::ScalarType narrow,
                        torch::jit::Stack* stack);

}  // namespace heitu
