// The fused LSTM and GRU cells, which only CUDA has: gates are computed in float for half types.
#include <ATen/TensorUtils.h>
#include <ATen/ops/add.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sigmoid_backward.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tanh_backward.h>

#include "../prelude.h"
#include "../registry.h"
#include "on_host.h"

namespace heitu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

void check_sizes(const Tensor& input_gates, const Tensor& hidden_gates,
                 const OptionalTensor& input_bias, const OptionalTensor& hidden_bias,
                 int64_t factor, const Tensor& previous) {
  const at::TensorArg input(input_gates, "input_gates", 1), hidden(hidden_gates, "hidden_gates", 2),
      state(previous, "prev_hidden", 5);
  const at::CheckedFrom caller = "rnn_cell";
  at::checkDim(caller, input, 2);
  const int64_t gates = input->size(1);
  at::checkSameSize(caller, input, hidden);
  const Tensor first = value_or_undefined(input_bias), second = value_or_undefined(hidden_bias);
  if (first.defined()) {
    const at::TensorArg bias(first, "input_bias", 3);
    at::checkDim(caller, bias, 1);
    at::checkNumel(caller, bias, gates);
    at::checkSameSize(caller, bias, at::TensorArg(second, "hidden_bias", 4));
  }
  at::checkDim(caller, state, 2);
  at::checkNumel(caller, state, input->size(0) * gates / factor);
}

// The sum of the gates' parts, in the accumulate type; always a fresh tensor.
Tensor sum_gates(const Tensor& input, const Tensor& hidden, const Tensor& first,
                 const Tensor& second) {
  const auto type = accumulate_type(input.scalar_type());
  Tensor gates = at::add(input.to(type), hidden);
  if (first.defined()) gates.add_(first).add_(second);
  return gates;
}

// `width` columns of the gates from column `start`.
Tensor columns(const Tensor& gates, int64_t start, int64_t width) {
  return gates.narrow(1, start, width);
}

std::tuple<Tensor, Tensor, Tensor> lstm_cell(const Tensor& input_gates, const Tensor& hidden_gates,
                                             const Tensor& cx, const OptionalTensor& input_bias,
                                             const OptionalTensor& hidden_bias) {
  check_sizes(input_gates, hidden_gates, input_bias, hidden_bias, 4, cx);
  const OnHost host(input_gates);
  const auto type = input_gates.scalar_type();
  const int64_t n = cx.size(1);
  Tensor gates = sum_gates(host.view(input_gates), host.view(hidden_gates), host.view(input_bias),
                           host.view(hidden_bias));
  columns(gates, 0, 2 * n).sigmoid_();
  const Tensor in = columns(gates, 0, n), forget = columns(gates, n, n);
  const Tensor candidate = columns(gates, 2 * n, n).tanh_();
  const Tensor out = columns(gates, 3 * n, n).sigmoid_();
  const Tensor cell =
      at::mul(forget, host.view(cx).to(gates.scalar_type())).addcmul_(in, candidate);
  const Tensor hy = at::tanh(cell).mul_(out);
  return {host.result(hy.to(type)), host.result(cell.to(type)), host.result(gates.to(type))};
}

std::tuple<Tensor, Tensor, Tensor> lstm_cell_backward(const OptionalTensor& grad_hy,
                                                      const OptionalTensor& grad_cy,
                                                      const Tensor& cx, const Tensor& cy,
                                                      const Tensor& workspace, bool has_bias) {
  const bool through_hy = grad_hy.has_value() && grad_hy->defined();
  const bool through_cy = grad_cy.has_value() && grad_cy->defined();
  if (!through_hy && !through_cy) return {};
  const OnHost host(workspace);
  const auto type = workspace.scalar_type();
  const auto acc = accumulate_type(type);
  const int64_t n = cx.size(1);
  const Tensor gates = host.view(workspace).to(acc), cell = host.view(cx).to(acc);
  const Tensor squashed = at::tanh(host.view(cy).to(acc));
  const Tensor in = columns(gates, 0, n), forget = columns(gates, n, n),
               candidate = columns(gates, 2 * n, n), out = columns(gates, 3 * n, n);

  Tensor grad_gates = at::empty(gates.sizes(), gates.options());
  Tensor grad_cell;
  if (through_hy) {
    const Tensor grad = host.view(grad_hy).to(acc);
    Tensor grad_out = columns(grad_gates, 3 * n, n);
    at::sigmoid_backward_out(grad_out, at::mul(grad, squashed), out);
    grad_cell = at::tanh_backward(at::mul(grad, out), squashed);
    if (through_cy) grad_cell.add_(host.view(grad_cy));
  } else {
    columns(grad_gates, 3 * n, n).zero_();
    grad_cell = host.view(grad_cy).to(acc);
  }
  Tensor grad_in = columns(grad_gates, 0, n), grad_forget = columns(grad_gates, n, n),
         grad_candidate = columns(grad_gates, 2 * n, n);
  at::sigmoid_backward_out(grad_in, at::mul(grad_cell, candidate), in);
  at::sigmoid_backward_out(grad_forget, at::mul(grad_cell, cell), forget);
  at::tanh_backward_out(grad_candidate, at::mul(grad_cell, in), candidate);
  const Tensor grad_cx = at::mul(grad_cell, forget).to(type);
  const Tensor result = grad_gates.to(type);
  const Tensor grad_bias = has_bias ? at::sum(result, 0) : Tensor();
  return {host.result(result), host.result(grad_cx), host.result(grad_bias)};
}

std::tuple<Tensor, Tensor> gru_cell(const Tensor& input_gates, const Tensor& hidden_gates,
                                    const Tensor& hx, const OptionalTensor& input_bias,
                                    const OptionalTensor& hidden_bias) {
  check_sizes(input_gates, hidden_gates, input_bias, hidden_bias, 3, hx);
  const OnHost host(input_gates);
  const auto type = input_gates.scalar_type();
  const auto acc = accumulate_type(type);
  const int64_t n = hx.size(1);
  Tensor input = host.view(input_gates).to(acc), hidden = host.view(hidden_gates).to(acc);
  const Tensor first = host.view(input_bias), second = host.view(hidden_bias);
  if (first.defined()) {
    input = at::add(input, first);
    hidden = at::add(hidden, second);
  }
  const Tensor state = host.view(hx).to(acc);
  // Reset, update and candidate gate, the state and the candidate's hidden part, as CUDA keeps
  // them.
  Tensor workspace = at::empty({hx.size(0), 5 * n}, input.options());
  Tensor both = columns(workspace, 0, 2 * n);
  at::add_out(both, columns(input, 0, 2 * n), columns(hidden, 0, 2 * n)).sigmoid_();
  const Tensor reset = columns(workspace, 0, n), update = columns(workspace, n, n);
  const Tensor from_hidden = columns(hidden, 2 * n, n);
  Tensor candidate = columns(workspace, 2 * n, n);
  at::addcmul_out(candidate, columns(input, 2 * n, n), reset, from_hidden).tanh_();
  columns(workspace, 3 * n, n).copy_(state);
  columns(workspace, 4 * n, n).copy_(from_hidden);
  const Tensor hy = at::sub(state, candidate).mul_(update).add_(candidate);
  return {host.result(hy.to(type)), host.result(workspace.to(type))};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> gru_cell_backward(const Tensor& grad_hy,
                                                                     const Tensor& workspace,
                                                                     bool has_bias) {
  const at::TensorArg grad_arg(grad_hy, "grad_hy", 1), saved_arg(workspace, "workspace", 2);
  at::checkDim("gru_cell_backward", grad_arg, 2);
  at::checkSize("gru_cell_backward", saved_arg, {grad_hy.size(0), grad_hy.size(1) * 5});
  const OnHost host(workspace);
  const auto type = workspace.scalar_type();
  const auto acc = accumulate_type(type);
  const int64_t n = grad_hy.size(1);
  const Tensor saved = host.view(workspace).to(acc), grad = host.view(grad_hy).to(acc);
  const Tensor reset = columns(saved, 0, n), update = columns(saved, n, n),
               candidate = columns(saved, 2 * n, n), state = columns(saved, 3 * n, n),
               from_hidden = columns(saved, 4 * n, n);

  Tensor grad_input = at::empty({grad.size(0), 3 * n}, saved.options());
  Tensor grad_reset = columns(grad_input, 0, n), grad_update = columns(grad_input, n, n),
         grad_candidate = columns(grad_input, 2 * n, n);
  at::sigmoid_backward_out(grad_update, at::sub(state, candidate).mul_(grad), update);
  const Tensor grad_state = at::mul(grad, update);
  at::tanh_backward_out(grad_candidate, at::sub(grad, grad_state), candidate);
  at::sigmoid_backward_out(grad_reset, at::mul(grad_candidate, from_hidden), reset);
  Tensor grad_hidden = grad_input.clone();
  columns(grad_hidden, 2 * n, n).mul_(reset);

  const Tensor input_result = grad_input.to(type), hidden_result = grad_hidden.to(type);
  Tensor input_bias, hidden_bias;
  if (has_bias) {
    input_bias = at::sum(input_result, 0);
    hidden_bias = at::sum(hidden_result, 0);
  }
  return {host.result(input_result), host.result(hidden_result), host.result(grad_state.to(type)),
          host.result(input_bias), host.result(hidden_bias)};
}

HEITU_KERNELS(rnn_cell) {
  m.impl("_thnn_fused_lstm_cell", lstm_cell);
  m.impl("_thnn_fused_lstm_cell_backward_impl", lstm_cell_backward);
  m.impl("_thnn_fused_gru_cell", gru_cell);
  m.impl("_thnn_fused_gru_cell_backward", gru_cell_backward);
}

}  // namespace
}  // namespace heitu
