// Dtypes that a chip computes in a smaller one.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <functional>

#include "rules.h"

namespace heitu {

// Runs `inner` on copies of the arguments in smaller dtypes: that of the rule, and for a rule about
// all operators those of all such rules, since an operator may have a float64 and give a
// complex128. Results, and arguments that the operator writes, have the dtype of before with the
// values of the smaller one. A conversion (aten::_to_copy) that asks for nothing but the dtype
// gives a tensor of the smaller dtype, with the rule's message as a warning.
void run_narrowed(const c10::OperatorHandle& op, const ChipDtypeRule& rule,
                  torch::jit::Stack* stack, const std::function<void(torch::jit::Stack*)>& inner);

}  // namespace heitu
