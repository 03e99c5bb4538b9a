#include <ATen/ops/_fused_adamw_ops.h>
#include <ATen/ops/addmm_ops.h>
#include <ATen/ops/baddbmm_ops.h>
#include <ATen/ops/bmm_ops.h>
#include <ATen/ops/convolution_backward_ops.h>
#include <ATen/ops/convolution_ops.h>
#include <ATen/ops/max_pool2d_with_indices_ops.h>
#include <ATen/ops/mm_ops.h>
#include <ATen/ops/native_batch_norm_backward_ops.h>
#include <ATen/ops/native_batch_norm_ops.h>
#include <ATen/ops/native_group_norm_ops.h>
#include <ATen/ops/native_layer_norm_backward_ops.h>
#include <ATen/ops/native_layer_norm_ops.h>

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
