// The one place where differences between torch releases are settled.
#pragma once

#include <c10/core/TensorImpl.h>
#include <torch/version.h>

#define HEITU_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) ||        \
   (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

namespace heitu {

// Whether torch.cuda.memory_stats() understands statistics that are keyed by a private pool.
constexpr bool kStatisticsByPool = HEITU_TORCH_AT_LEAST(2, 11);

// Whether Python has ever had the tensor in its hands.
inline bool seen_by_python(const c10::TensorImpl& tensor) {
#if HEITU_TORCH_AT_LEAST(2, 10)
  return tensor.pyobj_slot()->load_pyobj() != nullptr;
#else
  return tensor.pyobj_slot()->_unchecked_untagged_pyobj() != nullptr;
#endif
}

}  // namespace heitu
