// Kernels under the rules of a chip: judged, recorded, refused.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include "ruling.h"

namespace heitu {

// Whether calls of the operator on `key` must be watched: for the record, or for a rule about
// dtypes. False: the kernel may stand as it is.
bool must_watch(const c10::OperatorHandle& op, const Ruling& ruling);

// `inner` under a ruling. A refusal needs no inner kernel.
c10::KernelFunction judged(const c10::OperatorHandle& op, const Ruling& ruling,
                           c10::KernelFunction inner);

// The operator's composite kernel as one native operator, its parts not judged.
c10::KernelFunction whole_composite(const c10::OperatorHandle& op);

}  // namespace heitu
