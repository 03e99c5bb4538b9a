// torch.use_deterministic_algorithms: operators whose CUDA kernels are not deterministic raise.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/operator_name.h>

namespace heitu {

// What such an operator's CUDA kernel is called in the error, and when it raises it.
struct Nondeterminism {
  const char* alert;
  bool (*applies)(c10::ArrayRef<c10::IValue> arguments);

  // Null for an operator that is deterministic.
  static const Nondeterminism* of(const c10::OperatorName& name);

  // Raises, or warns, if deterministic algorithms are asked for.
  void check(c10::ArrayRef<c10::IValue> arguments) const;
};

}  // namespace heitu
