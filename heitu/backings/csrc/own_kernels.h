// Operators that the cuda device implements itself, over any plugin.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <vector>

namespace heitu {

struct OwnKernel {
  c10::OperatorName name;
  c10::DispatchKey key;
  c10::KernelFunction kernel;
};

std::vector<OwnKernel> own_kernels();

}  // namespace heitu
