#include <ATen/Operators.h>

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
