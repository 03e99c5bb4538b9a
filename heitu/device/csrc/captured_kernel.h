// Kernels that programs bring themselves (Triton's), in CUDA graphs.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/utils/pybind.h>

#include <vector>

namespace heitu {

// Runs `launch`, a function without arguments, and records it in the graph that the current stream
// is captured into, if there is one. `written` are the tensors that it may write to, whose content
// is as before at the end of the capture. Needs Python's lock.
void capture_kernel(pybind11::object launch, std::vector<at::Tensor> written);

}  // namespace heitu
