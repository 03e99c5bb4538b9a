// Multi-layer recurrent networks as cuDNN computes them: one large matrix product per layer for the
// input, one small per time step for the hidden state.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace heitu {

enum class RnnMode : int64_t { kRelu = 0, kTanh = 1, kLstm = 2, kGru = 3 };

// Input is laid out as [rows, features], the rows of one time step together; a step's batch never
// grows (packed sequences are sorted by length).
struct RnnShape {
  RnnMode mode;
  int64_t input_size, hidden_size, proj_size, num_layers, num_directions;
  std::vector<int64_t> batch_sizes;

  int64_t rows() const;
  int64_t batch() const { return batch_sizes.empty() ? 0 : batch_sizes.front(); }
  int64_t output_size() const { return proj_size > 0 ? proj_size : hidden_size; }
  int64_t gates() const;
};

// Weights of one direction of one layer; undefined where the network has none.
struct RnnWeights {
  at::Tensor input, hidden, input_bias, hidden_bias, projection;
};

// What the backward pass needs of one direction of one layer, [rows, ...] each.
struct RnnSaved {
  at::Tensor gates;        // after their activations
  at::Tensor state;        // hidden state before the step
  at::Tensor cell;         // LSTM: cell before the step
  at::Tensor squashed;     // LSTM: tanh of the cell after the step
  at::Tensor from_hidden;  // GRU: the candidate's hidden part
};

struct RnnLayerSaved {
  std::vector<RnnSaved> direction;
  at::Tensor input;  // undefined for the first layer
  at::Tensor mask;   // dropout applied to `input`, scaled; undefined without dropout
};

// Number of elements of the reserve space, and its parts. The first layer's input is not in it.
int64_t reserve_numel(const RnnShape& shape, bool dropout);
std::vector<RnnLayerSaved> carve_reserve(const RnnShape& shape, bool dropout,
                                         const at::Tensor& reserve);

// One direction of one layer. `state` and `cell` [batch, size] hold the initial values and are
// left at the final ones; `output` [rows, output_size] is written.
void rnn_forward(const RnnShape& shape, const RnnWeights& weights, const at::Tensor& input,
                 bool reverse, at::Tensor state, at::Tensor cell, at::Tensor output,
                 const RnnSaved& saved);

// `grad_state` and `grad_cell` hold the gradients of the final values and are left at those of the
// initial ones. Returns the gradient of the input; weight gradients are added to `grads` if
// defined.
at::Tensor rnn_backward(const RnnShape& shape, const RnnWeights& weights, const at::Tensor& input,
                        bool reverse, const at::Tensor& grad_output, at::Tensor grad_state,
                        at::Tensor grad_cell, const RnnSaved& saved, RnnWeights* grads);

}  // namespace heitu
