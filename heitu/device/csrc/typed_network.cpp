#include <ATen/ops/addmm_ops.h>
#include <ATen/ops/baddbmm_ops.h>
#include <ATen/ops/bmm_ops.h>
#include <ATen/ops/mm_ops.h>

#include "typed.h"

namespace heitu {

void add_network_kernels(TypedKernels& kernels) {
  HEITU_TYPED_JUDGED(mm);
  HEITU_TYPED_JUDGED(bmm);
  HEITU_TYPED_JUDGED(addmm);
  HEITU_TYPED_JUDGED(baddbmm);
}

}  // namespace heitu
