// Operators that the cuda device implements itself, over any plugin.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <utility>
#include <vector>

namespace heitu {

std::vector<std::pair<c10::OperatorName, c10::KernelFunction>> own_kernels();

}  // namespace heitu
