// NCCL's reductions, computed on the host.
//
// Contributions are combined in the order of ranks. Sums and averages of float16, bfloat16 and
// float8 are accumulated in float32 and rounded to the dtype once, at the end; NCCL rounds at each
// hop of its ring unless the switch reduces. float32, float64 and integers are accumulated in their
// own dtype; integers wrap. AVG multiplies each contribution by 1/N rounded to the dtype before it
// is added, as NCCL does, except for integers: the sum is divided and truncated. MIN and MAX pass
// over NaN where the other operand is a number. bool is uint8 to NCCL and SUM of it is MAX.
#pragma once

#include <ATen/core/Tensor.h>

#include <torch/csrc/distributed/c10d/Types.hpp>

namespace heitu {

// Throws what the nccl process group throws for a dtype or an operation that it does not take.
void check_reduction(const c10d::ReduceOp& op, at::ScalarType dtype);
// The dtypes that NCCL moves.
void check_dtype(at::ScalarType dtype);

// A rank's own contribution to a PREMUL_SUM, multiplied by its factor and rounded to the dtype; any
// other operation leaves `contribution` as it is.
at::Tensor prepared(const c10d::ReduceOp& op, const at::Tensor& contribution);

// result = combination of `contributions`, flat host tensors of one dtype and size, one a rank in
// order. `result` may be one of them.
void combine(const c10d::ReduceOp& op, const std::vector<at::Tensor>& contributions,
             at::Tensor result);

}  // namespace heitu
