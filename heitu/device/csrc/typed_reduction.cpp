#include <ATen/ops/_log_softmax_backward_data_ops.h>
#include <ATen/ops/_log_softmax_ops.h>
#include <ATen/ops/_softmax_backward_data_ops.h>
#include <ATen/ops/_softmax_ops.h>
#include <ATen/ops/amax_ops.h>
#include <ATen/ops/cat_ops.h>
#include <ATen/ops/gather_ops.h>
#include <ATen/ops/index_select_ops.h>
#include <ATen/ops/mean_ops.h>
#include <ATen/ops/sum_ops.h>
#include <ATen/ops/tril_ops.h>
#include <ATen/ops/triu_ops.h>

#include "typed.h"

namespace heitu {

void add_reduction_kernels(TypedKernels& kernels) {
  HEITU_TYPED(sum_dim_IntList);
  HEITU_TYPED(mean_dim);
  HEITU_TYPED(amax);
  HEITU_TYPED(cat);
  HEITU_TYPED(gather);
  HEITU_TYPED(index_select);
  HEITU_TYPED(tril);
  HEITU_TYPED(triu);
  HEITU_TYPED(_softmax);
  HEITU_TYPED(_softmax_backward_data);
  HEITU_TYPED(_log_softmax);
  HEITU_TYPED(_log_softmax_backward_data);
}

}  // namespace heitu
