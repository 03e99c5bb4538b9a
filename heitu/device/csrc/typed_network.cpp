#include <ATen/Operators.h>

#include "typed.h"

namespace heitu {

void add_network_kernels(TypedKernels& kernels) {
  HEITU_TYPED(mm);
  HEITU_TYPED(bmm);
  HEITU_TYPED(addmm);
  HEITU_TYPED(baddbmm);
  HEITU_TYPED(convolution);
  HEITU_TYPED(convolution_backward);
  HEITU_TYPED(native_layer_norm);
  HEITU_TYPED(native_layer_norm_backward);
  HEITU_TYPED(native_group_norm);
  HEITU_TYPED(native_batch_norm);
  HEITU_TYPED(native_batch_norm_backward);
  HEITU_TYPED(max_pool2d_with_indices);
  HEITU_TYPED(_fused_adamw_);
}

}  // namespace heitu
