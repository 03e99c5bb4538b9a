// Collectives in CUDA graphs: recorded as one operator that starts them again at each replay.
#pragma once

#include "collective_work.h"

namespace heitu {

// Starts the collective on the given tensors. It holds no tensors itself, because the graph keeps
// it and must not keep their memory.
using StartCollective = std::function<c10::intrusive_ptr<CollectiveWork>(
    const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& outputs)>;

// Runs the collective and records it in the graph under capture. The work has ended.
c10::intrusive_ptr<CollectiveWork> capture_collective(const std::vector<at::Tensor>& inputs,
                                                      const std::vector<at::Tensor>& outputs,
                                                      StartCollective start);

}  // namespace heitu
