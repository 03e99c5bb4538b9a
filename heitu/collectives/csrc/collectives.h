// The collectives as exchanges of bytes and reductions, on the thread that calls them. Tensors are
// CUDA tensors that are contiguous in memory; their memory is the host's.
#pragma once

#include <torch/csrc/distributed/c10d/Types.hpp>

#include "wire.h"

namespace heitu {

struct Round {
  Wire& wire;
  Label label;
  Deadline deadline;
};

void broadcast(const Round& round, const at::Tensor& tensor, int root);
// Everybody's, or only the root's, `tensor` becomes the reduction of all.
void reduce(const Round& round, const at::Tensor& tensor, const c10d::ReduceOp& op,
            std::optional<int> root);
// outputs[i] is the input of rank i.
void all_gather(const Round& round, const std::vector<at::Tensor>& outputs,
                const at::Tensor& input);
// output is the reduction of all ranks' inputs[own rank].
void reduce_scatter(const Round& round, const at::Tensor& output,
                    const std::vector<at::Tensor>& inputs, const c10d::ReduceOp& op);
void all_to_all(const Round& round, const std::vector<at::Tensor>& outputs,
                const std::vector<at::Tensor>& inputs);
void gather(const Round& round, const std::vector<at::Tensor>& outputs, const at::Tensor& input,
            int root);
void scatter(const Round& round, const at::Tensor& output, const std::vector<at::Tensor>& inputs,
             int root);
void send(const Round& round, const at::Tensor& tensor, int peer);
void receive(const Round& round, const at::Tensor& tensor, int peer);

// The memory of a dense tensor as a flat host tensor of its dtype.
at::Tensor flat(const at::Tensor& tensor);
// `tensor` cut along its memory into pieces of `counts` elements.
std::vector<at::Tensor> pieces(const at::Tensor& tensor, const std::vector<int64_t>& counts);

}  // namespace heitu
