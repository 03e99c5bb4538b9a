#include "host_waits.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <unordered_map>

#include "tensors.h"

namespace heitu {

std::atomic<SyncDebug> sync_debug{SyncDebug::off};

namespace {

using Arguments = c10::ArrayRef<c10::IValue>;

bool waits_always(Arguments) { return true; }

// copy_(self, src, non_blocking): not where it brings pinned memory to the device.
bool copy_waits(Arguments arguments) {
  const auto& to = arguments[0].toTensor();
  const auto& from = arguments[1].toTensor();
  if (to.is_cuda() == from.is_cuda()) return false;
  const bool non_blocking = arguments[2].isBool() && arguments[2].toBool();
  const auto& host = to.is_cuda() ? from : to;
  return !(non_blocking && host.is_pinned()) && !(to.is_cuda() && host.is_pinned());
}

// index(self, indices): masks are counted, and indices on the CPU are brought to the device.
bool index_waits(Arguments arguments) {
  bool found = false;
  each_tensor(arguments[1], [&](const at::Tensor& index) {
    found = found || !index.is_cuda() || index.scalar_type() == at::kBool ||
            index.scalar_type() == at::kByte;
  });
  return found;
}

// index_put(self, indices, values, accumulate): with one mask and a number it is a masked_fill.
bool index_put_waits(Arguments arguments) {
  const auto& values = arguments[2].toTensor();
  bool masks_alone = !arguments[3].toBool() && values.numel() == 1 && values.is_cpu();
  each_tensor(arguments[1], [&](const at::Tensor& index) {
    masks_alone = masks_alone && index.is_cuda() &&
                  (index.scalar_type() == at::kBool || index.scalar_type() == at::kByte);
  });
  return !masks_alone && index_waits(arguments);
}

// repeat_interleave(repeats, output_size?)
bool repeat_waits(Arguments arguments) { return arguments[1].isNone(); }

using Predicate = bool (*)(Arguments);

Predicate predicate_of(const c10::OperatorName& name) {
  static const auto* table = new std::unordered_map<std::string, Predicate>{
      {"aten::_local_scalar_dense", waits_always},
      {"aten::nonzero", waits_always},
      {"aten::is_nonzero", waits_always},
      {"aten::equal", waits_always},
      {"aten::_unique", waits_always},
      {"aten::_unique2", waits_always},
      {"aten::unique_dim", waits_always},
      {"aten::unique_consecutive", waits_always},
      {"aten::masked_select", waits_always},
      {"aten::bincount", waits_always},
      {"aten::copy_", copy_waits},
      {"aten::index", index_waits},
      {"aten::index_put", index_put_waits},
      {"aten::index_put_", index_put_waits},
      {"aten::_index_put_impl_", index_put_waits},
      {"aten::repeat_interleave", repeat_waits},
  };
  const auto found = table->find(name.name);
  return found == table->end() ? nullptr : found->second;
}

}  // namespace

bool may_wait(const c10::OperatorName& name) { return predicate_of(name) != nullptr; }

bool waits(const c10::OperatorHandle& op, Arguments arguments) {
  const auto predicate = predicate_of(op.operator_name());
  return predicate && predicate(arguments);
}

void report_wait_slow() {
  constexpr const char* kText = "called a synchronizing CUDA operation";
  TORCH_CHECK(sync_debug != SyncDebug::error, kText);
  TORCH_WARN(kText);
}

}  // namespace heitu
