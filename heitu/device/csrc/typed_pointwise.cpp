#include <ATen/ops/abs_ops.h>
#include <ATen/ops/add_ops.h>
#include <ATen/ops/addcdiv_ops.h>
#include <ATen/ops/addcmul_ops.h>
#include <ATen/ops/bitwise_and_ops.h>
#include <ATen/ops/bitwise_not_ops.h>
#include <ATen/ops/bitwise_or_ops.h>
#include <ATen/ops/clamp_ops.h>
#include <ATen/ops/copy_ops.h>
#include <ATen/ops/cos_ops.h>
#include <ATen/ops/div_ops.h>
#include <ATen/ops/eq_ops.h>
#include <ATen/ops/exp_ops.h>
#include <ATen/ops/fill_ops.h>
#include <ATen/ops/ge_ops.h>
#include <ATen/ops/gelu_backward_ops.h>
#include <ATen/ops/gelu_ops.h>
#include <ATen/ops/gt_ops.h>
#include <ATen/ops/le_ops.h>
#include <ATen/ops/lerp_ops.h>
#include <ATen/ops/log_ops.h>
#include <ATen/ops/lt_ops.h>
#include <ATen/ops/masked_fill_ops.h>
#include <ATen/ops/maximum_ops.h>
#include <ATen/ops/minimum_ops.h>
#include <ATen/ops/mul_ops.h>
#include <ATen/ops/ne_ops.h>
#include <ATen/ops/neg_ops.h>
#include <ATen/ops/pow_ops.h>
#include <ATen/ops/reciprocal_ops.h>
#include <ATen/ops/relu_ops.h>
#include <ATen/ops/rsqrt_ops.h>
#include <ATen/ops/sigmoid_backward_ops.h>
#include <ATen/ops/sigmoid_ops.h>
#include <ATen/ops/silu_backward_ops.h>
#include <ATen/ops/silu_ops.h>
#include <ATen/ops/sin_ops.h>
#include <ATen/ops/sqrt_ops.h>
#include <ATen/ops/sub_ops.h>
#include <ATen/ops/tanh_backward_ops.h>
#include <ATen/ops/tanh_ops.h>
#include <ATen/ops/threshold_backward_ops.h>
#include <ATen/ops/where_ops.h>
#include <ATen/ops/zero_ops.h>

#include "typed.h"

namespace heitu {

void add_pointwise_kernels(TypedKernels& kernels) {
  HEITU_TYPED_MIX(add_Tensor);
  HEITU_TYPED_MIX(add__Tensor);
  HEITU_TYPED_MIX(sub_Tensor);
  HEITU_TYPED_MIX(sub__Tensor);
  HEITU_TYPED_MIX(mul_Tensor);
  HEITU_TYPED_MIX(mul__Tensor);
  HEITU_TYPED_MIX(div_Tensor);
  HEITU_TYPED_MIX(div__Tensor);
  HEITU_TYPED_MIX(maximum);
  HEITU_TYPED_MIX(minimum);
  HEITU_TYPED_MIX(pow_Tensor_Scalar);
  HEITU_TYPED_MIX(pow_Tensor_Tensor);
  HEITU_TYPED_MIX(eq_Tensor);
  HEITU_TYPED_MIX(ne_Tensor);
  HEITU_TYPED_MIX(lt_Tensor);
  HEITU_TYPED_MIX(le_Tensor);
  HEITU_TYPED_MIX(gt_Tensor);
  HEITU_TYPED_MIX(ge_Tensor);
  HEITU_TYPED_MIX(eq_Scalar);
  HEITU_TYPED_MIX(ne_Scalar);
  HEITU_TYPED_MIX(lt_Scalar);
  HEITU_TYPED_MIX(le_Scalar);
  HEITU_TYPED_MIX(gt_Scalar);
  HEITU_TYPED_MIX(ge_Scalar);
  HEITU_TYPED_MIX(bitwise_and_Tensor);
  HEITU_TYPED_MIX(bitwise_or_Tensor);
  HEITU_TYPED_MIX(bitwise_not);
  HEITU_TYPED_MIX(where_self);
  HEITU_TYPED_MIX(neg);
  HEITU_TYPED_MIX(abs);
  HEITU_TYPED_MIX(exp);
  HEITU_TYPED_MIX(log);
  HEITU_TYPED_MIX(sqrt);
  HEITU_TYPED_MIX(rsqrt);
  HEITU_TYPED_MIX(reciprocal);
  HEITU_TYPED_MIX(sin);
  HEITU_TYPED_MIX(cos);
  HEITU_TYPED_MIX(tanh);
  HEITU_TYPED_MIX(tanh_backward);
  HEITU_TYPED_MIX(sigmoid);
  HEITU_TYPED_MIX(sigmoid_backward);
  HEITU_TYPED_MIX(silu);
  HEITU_TYPED_MIX(silu_backward);
  HEITU_TYPED_MIX(gelu);
  HEITU_TYPED_MIX(gelu_backward);
  HEITU_TYPED_MIX(relu);
  HEITU_TYPED_MIX(threshold_backward);
  HEITU_TYPED_MIX(clamp);
  HEITU_TYPED_MIX(addcmul_);
  HEITU_TYPED_MIX(addcdiv_);
  HEITU_TYPED_MIX(lerp__Scalar);
  HEITU_TYPED(copy_);
  HEITU_TYPED_MIX(zero_);
  HEITU_TYPED_MIX(fill__Scalar);
  HEITU_TYPED_MIX(masked_fill__Scalar);
}

}  // namespace heitu
