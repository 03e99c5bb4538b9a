// Runs the operator of PyTorch's that a table names.
#pragma once

#include "operators.h"

namespace heitu::cann {

void call_aten(const Operator& described, const Call& call);

}  // namespace heitu::cann
