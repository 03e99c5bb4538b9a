// Copies between the host and the device, and what else the host waits for: when they return, the
// work queued before is done, on the streams' clock too.
#include <ATen/ops/_local_scalar_dense.h>

#include "host_memory.h"
#include "host_waits.h"
#include "labels.h"
#include "labels_inline.h"
#include "registry.h"
#include "streams.h"

namespace heitu {
namespace {

at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  const auto target = host_view(self);
  target.copy_(host_view(source), non_blocking);
  if (C10_UNLIKELY(self.is_cuda() && self.key_set().has_any(kUnusualLayouts)))
    write_back(target, self);
  if (self.is_cuda() == source.is_cuda()) return self;
  const auto& device = self.is_cuda() ? self : source;
  const auto& host = self.is_cuda() ? source : self;
  const auto stream = current_stream(device.device().index());
  if (!non_blocking) {
    report_wait();
    synchronize_stream(stream);
  } else if (host.has_storage()) {
    record_pinned_use(host.storage().data(), stream);
  }
  return self;
}

// Which storages two tensors share does not show but in addresses: the copy is made at once.
at::Tensor lazy_clone(const at::Tensor& self) { return self.clone(); }

at::Scalar local_scalar_dense(const at::Tensor& self) {
  synchronize_stream(current_stream(self.device().index()));
  return at::_local_scalar_dense(host_view(self));
}

HEITU_KERNELS(copies) {
  m.impl("copy_", copy_);
  m.impl("_lazy_clone", lazy_clone);
  m.impl("_local_scalar_dense", local_scalar_dense);
}

}  // namespace
}  // namespace heitu
