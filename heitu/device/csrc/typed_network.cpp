#include <ATen/Operators.h>

#include "typed.h"

namespace heitu {

void add_network_kernels(TypedKernels& kernels) {
  HEITU_TYPED_JUDGED(mm);
  HEITU_TYPED_JUDGED(bmm);
  HEITU_TYPED_JUDGED(addmm);
  HEITU_TYPED_JUDGED(baddbmm);
  HEITU_TYPED_JUDGED(convolution);
  HEITU_TYPED_JUDGED(convolution_backward);
  HEITU_TYPED(native_layer_norm);
  HEITU_TYPED(native_layer_norm_backward);
  HEITU_TYPED(native_group_norm);
  HEITU_TYPED(native_batch_norm);
  HEITU_TYPED(native_batch_norm_backward);
  HEITU_TYPED_JUDGED(max_pool2d_with_indices);
  HEITU_TYPED(_fused_adamw_);
}

}  // namespace heitu
