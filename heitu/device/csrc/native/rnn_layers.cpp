#include "rnn_layers.h"

#include <ATen/ops/add.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sigmoid_backward.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tanh_backward.h>
#include <ATen/ops/threshold_backward.h>

#include <functional>
#include <numeric>

#include "../prelude.h"

namespace heitu {

using at::Tensor;

int64_t RnnShape::rows() const {
  return std::accumulate(batch_sizes.begin(), batch_sizes.end(), int64_t{0});
}

int64_t RnnShape::gates() const {
  return mode == RnnMode::kLstm ? 4 : mode == RnnMode::kGru ? 3 : 1;
}

namespace {

// Time steps in the order they are computed, with the row each begins at.
void each_step(const RnnShape& shape, bool backwards,
               const std::function<void(int64_t row, int64_t batch)>& step) {
  const auto& sizes = shape.batch_sizes;
  if (!backwards) {
    int64_t row = 0;
    for (const int64_t batch : sizes) {
      step(row, batch);
      row += batch;
    }
  } else {
    int64_t row = shape.rows();
    for (auto batch = sizes.rbegin(); batch != sizes.rend(); ++batch) {
      row -= *batch;
      step(row, *batch);
    }
  }
}

// Calls `part(layer, pointer to tensor, features)` for each part of the reserve space in its order.
void each_part(const RnnShape& shape, bool dropout, std::vector<RnnLayerSaved>& layers,
               const std::function<void(Tensor&, int64_t)>& part) {
  layers.resize(shape.num_layers);
  for (int64_t l = 0; l < shape.num_layers; ++l) {
    layers[l].direction.resize(shape.num_directions);
    for (RnnSaved& saved : layers[l].direction) {
      part(saved.gates, shape.gates() * shape.hidden_size);
      part(saved.state, shape.output_size());
      if (shape.mode == RnnMode::kLstm) {
        part(saved.cell, shape.hidden_size);
        part(saved.squashed, shape.hidden_size);
      }
      if (shape.mode == RnnMode::kGru) part(saved.from_hidden, shape.hidden_size);
    }
    if (l == 0) continue;
    part(layers[l].input, shape.num_directions * shape.output_size());
    if (dropout) part(layers[l].mask, shape.num_directions * shape.output_size());
  }
}

Tensor gate_columns(const Tensor& t, int64_t start, int64_t width) {
  return t.narrow(1, start, width);
}

}  // namespace

int64_t reserve_numel(const RnnShape& shape, bool dropout) {
  std::vector<RnnLayerSaved> layers;
  int64_t features = 0;
  each_part(shape, dropout, layers, [&](Tensor&, int64_t width) { features += width; });
  return features * shape.rows();
}

std::vector<RnnLayerSaved> carve_reserve(const RnnShape& shape, bool dropout,
                                         const Tensor& reserve) {
  std::vector<RnnLayerSaved> layers;
  const int64_t rows = shape.rows();
  int64_t offset = 0;
  each_part(shape, dropout, layers, [&](Tensor& tensor, int64_t width) {
    tensor = reserve.narrow(0, offset, rows * width).view({rows, width});
    offset += rows * width;
  });
  return layers;
}

void rnn_forward(const RnnShape& shape, const RnnWeights& weights, const Tensor& input,
                 bool reverse, Tensor state, Tensor cell, Tensor output, const RnnSaved& saved) {
  const int64_t n = shape.hidden_size;
  const Tensor hidden_weight = weights.hidden.t();
  const bool biased = weights.input_bias.defined();
  const bool gru = shape.mode == RnnMode::kGru;
  // All but the GRU add both biases before the activation, so they can be added at once.
  Tensor gates = saved.gates;
  if (biased) {
    const Tensor bias = gru ? weights.input_bias : weights.input_bias + weights.hidden_bias;
    at::addmm_out(gates, bias, input, weights.input.t());
  } else {
    at::mm_out(gates, input, weights.input.t());
  }
  each_step(shape, reverse, [&](int64_t row, int64_t batch) {
    Tensor now = gates.narrow(0, row, batch);
    Tensor h = state.narrow(0, 0, batch);
    saved.state.narrow(0, row, batch).copy_(h);
    switch (shape.mode) {
      case RnnMode::kLstm: {
        now.addmm_(h, hidden_weight);
        gate_columns(now, 0, 2 * n).sigmoid_();
        const Tensor candidate = gate_columns(now, 2 * n, n).tanh_();
        const Tensor out = gate_columns(now, 3 * n, n).sigmoid_();
        Tensor c = cell.narrow(0, 0, batch);
        saved.cell.narrow(0, row, batch).copy_(c);
        c.mul_(gate_columns(now, n, n)).addcmul_(gate_columns(now, 0, n), candidate);
        Tensor squashed = saved.squashed.narrow(0, row, batch);
        at::tanh_out(squashed, c);
        if (weights.projection.defined()) {
          at::mm_out(h, at::mul(out, squashed), weights.projection.t());
        } else {
          at::mul_out(h, out, squashed);
        }
        break;
      }
      case RnnMode::kGru: {
        const Tensor hidden =
            biased ? at::addmm(weights.hidden_bias, h, hidden_weight) : at::mm(h, hidden_weight);
        gate_columns(now, 0, 2 * n).add_(gate_columns(hidden, 0, 2 * n)).sigmoid_();
        const Tensor from_hidden = gate_columns(hidden, 2 * n, n);
        saved.from_hidden.narrow(0, row, batch).copy_(from_hidden);
        const Tensor candidate =
            gate_columns(now, 2 * n, n).addcmul_(gate_columns(now, 0, n), from_hidden).tanh_();
        h.sub_(candidate).mul_(gate_columns(now, n, n)).add_(candidate);
        break;
      }
      case RnnMode::kTanh:
        h.copy_(now.addmm_(h, hidden_weight).tanh_());
        break;
      case RnnMode::kRelu:
        h.copy_(now.addmm_(h, hidden_weight).relu_());
        break;
    }
    output.narrow(0, row, batch).copy_(h);
  });
}

namespace {

// One step of the LSTM: writes the gradient of the gates before their activations.
void lstm_step_backward(const RnnWeights& weights, const RnnSaved& saved, int64_t row,
                        int64_t batch, int64_t n, const Tensor& grad_h, Tensor grad_cell,
                        const Tensor& grad_gates, RnnWeights* grads) {
  const Tensor gates = saved.gates.narrow(0, row, batch);
  const Tensor squashed = saved.squashed.narrow(0, row, batch);
  const Tensor in = gate_columns(gates, 0, n), forget = gate_columns(gates, n, n),
               candidate = gate_columns(gates, 2 * n, n), out = gate_columns(gates, 3 * n, n);
  Tensor grad = grad_h;
  if (weights.projection.defined()) {
    if (grads) grads->projection.addmm_(grad_h.t(), at::mul(out, squashed));
    grad = at::mm(grad_h, weights.projection);
  }
  Tensor grad_out = gate_columns(grad_gates, 3 * n, n);
  at::sigmoid_backward_out(grad_out, at::mul(grad, squashed), out);
  Tensor c = grad_cell.narrow(0, 0, batch);
  c.add_(at::tanh_backward(at::mul(grad, out), squashed));
  Tensor grad_in = gate_columns(grad_gates, 0, n), grad_forget = gate_columns(grad_gates, n, n),
         grad_candidate = gate_columns(grad_gates, 2 * n, n);
  at::sigmoid_backward_out(grad_in, at::mul(c, candidate), in);
  at::sigmoid_backward_out(grad_forget, at::mul(c, saved.cell.narrow(0, row, batch)), forget);
  at::tanh_backward_out(grad_candidate, at::mul(c, in), candidate);
  c.mul_(forget);
}

// One step of the GRU: gradients of the gates' input parts and hidden parts; returns the part of
// the gradient that goes to the previous state directly.
Tensor gru_step_backward(const RnnSaved& saved, int64_t row, int64_t batch, int64_t n,
                         const Tensor& grad, const Tensor& grad_input, const Tensor& grad_hidden) {
  const Tensor gates = saved.gates.narrow(0, row, batch);
  const Tensor state = saved.state.narrow(0, row, batch);
  const Tensor from_hidden = saved.from_hidden.narrow(0, row, batch);
  const Tensor reset = gate_columns(gates, 0, n), update = gate_columns(gates, n, n),
               candidate = gate_columns(gates, 2 * n, n);
  Tensor grad_reset = gate_columns(grad_input, 0, n), grad_update = gate_columns(grad_input, n, n),
         grad_candidate = gate_columns(grad_input, 2 * n, n);
  const Tensor direct = at::mul(grad, update);
  at::sigmoid_backward_out(grad_update, at::sub(state, candidate).mul_(grad), update);
  at::tanh_backward_out(grad_candidate, at::sub(grad, direct), candidate);
  at::sigmoid_backward_out(grad_reset, at::mul(grad_candidate, from_hidden), reset);
  gate_columns(grad_hidden, 0, 2 * n).copy_(gate_columns(grad_input, 0, 2 * n));
  Tensor grad_from_hidden = gate_columns(grad_hidden, 2 * n, n);
  at::mul_out(grad_from_hidden, grad_candidate, reset);
  return direct;
}

}  // namespace

Tensor rnn_backward(const RnnShape& shape, const RnnWeights& weights, const Tensor& input,
                    bool reverse, const Tensor& grad_output, Tensor grad_state, Tensor grad_cell,
                    const RnnSaved& saved, RnnWeights* grads) {
  const int64_t n = shape.hidden_size;
  const bool gru = shape.mode == RnnMode::kGru;
  const Tensor grad_gates = at::empty_like(saved.gates);
  const Tensor grad_hidden_gates = gru ? at::empty_like(saved.gates) : grad_gates;
  // The steps in the opposite order.
  each_step(shape, !reverse, [&](int64_t row, int64_t batch) {
    Tensor h = grad_state.narrow(0, 0, batch);
    const Tensor grad = at::add(h, grad_output.narrow(0, row, batch));
    Tensor now = grad_gates.narrow(0, row, batch);
    const Tensor now_hidden = grad_hidden_gates.narrow(0, row, batch);
    const Tensor activated = saved.gates.narrow(0, row, batch);
    switch (shape.mode) {
      case RnnMode::kLstm:
        lstm_step_backward(weights, saved, row, batch, n, grad, grad_cell, now, grads);
        break;
      case RnnMode::kGru:
        h.copy_(gru_step_backward(saved, row, batch, n, grad, now, now_hidden));
        h.addmm_(now_hidden, weights.hidden);
        return;
      case RnnMode::kTanh:
        at::tanh_backward_out(now, grad, activated);
        break;
      case RnnMode::kRelu:
        at::threshold_backward_out(now, grad, activated, 0);
        break;
    }
    at::mm_out(h, now, weights.hidden);
  });
  if (grads) {
    grads->input.addmm_(grad_gates.t(), input);
    grads->hidden.addmm_(grad_hidden_gates.t(), saved.state);
    if (grads->input_bias.defined()) {
      grads->input_bias.add_(grad_gates.sum(0));
      grads->hidden_bias.add_(grad_hidden_gates.sum(0));
    }
  }
  return at::mm(grad_gates, weights.input);
}

}  // namespace heitu
