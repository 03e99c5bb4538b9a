// LSTM and GRU. What the chip keeps of the forward for the backward is its own; here the backward
// runs the forward again.
#include <ATen/ATen.h>

#include "gradient.h"
#include "operators.h"

namespace heitu::cann {
namespace {

struct Shape {
  bool biases, train, bidirectional, batch_first;
  int64_t layers;
};

void refuse_dropout(const Call& call, size_t dropout, const Shape& shape) {
  if (call.real(dropout) > 0 && shape.train && shape.layers > 1) {
    throw std::runtime_error("dropout between layers is not emulated");
  }
}

Tensors run_lstm(const at::Tensor& input, const Tensors& state, const Tensors& params,
                 const at::Tensor& batch_sizes, const Shape& s) {
  const auto results = batch_sizes.defined() ? at::lstm(input, batch_sizes, state, params, s.biases,
                                                        s.layers, 0, s.train, s.bidirectional)
                                             : at::lstm(input, state, params, s.biases, s.layers, 0,
                                                        s.train, s.bidirectional, s.batch_first);
  return {std::get<0>(results), std::get<1>(results), std::get<2>(results)};
}

Tensors run_gru(const at::Tensor& input, const at::Tensor& state, const Tensors& params,
                const at::Tensor& batch_sizes, const Shape& s) {
  const auto results = batch_sizes.defined() ? at::gru(input, batch_sizes, state, params, s.biases,
                                                       s.layers, 0, s.train, s.bidirectional)
                                             : at::gru(input, state, params, s.biases, s.layers, 0,
                                                       s.train, s.bidirectional, s.batch_first);
  return {std::get<0>(results), std::get<1>(results)};
}

Tensors part(const Tensors& all, size_t first, size_t count) {
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

void clear(const Call& call, size_t first, size_t last) {
  for (size_t index = first; index <= last; ++index) {
    for (auto& tensor : call.tensors(index)) tensor.zero_();
  }
}

}  // namespace

HEITU_KERNEL(lstm) {
  const Shape shape{call.flag(4), call.flag(7), call.flag(8), call.flag(9), call.integer(5)};
  refuse_dropout(call, 6, shape);
  const auto results =
      run_lstm(call.tensor(0), call.tensors(2), call.tensors(1), call.tensor(3), shape);
  for (size_t i = 0; i < 3; ++i) call.put(10 + i, results[i]);
  clear(call, 13, 19);
}

HEITU_KERNEL(lstm_backward) {
  const Shape shape{call.flag(14), call.flag(17), call.flag(18), call.flag(19), call.integer(15)};
  Tensors inputs{call.tensor(0)};
  for (const auto& state : call.tensors(1)) inputs.push_back(state);
  const auto params = call.tensors(2);
  inputs.insert(inputs.end(), params.begin(), params.end());
  const auto grads = gradients(inputs,
                               [&](const Tensors& x) {
                                 return run_lstm(x[0], part(x, 1, 2), part(x, 3, params.size()),
                                                 call.tensor(13), shape);
                               },
                               {call.tensor(3), call.tensor(4), call.tensor(5)});
  call.put(21, grads[0]);
  call.put(22, grads[1]);
  call.put(23, grads[2]);
  call.put(24, part(grads, 3, params.size()));
}

HEITU_KERNEL(gru) {
  const Shape shape{call.flag(4), call.flag(7), call.flag(8), call.flag(9), call.integer(5)};
  refuse_dropout(call, 6, shape);
  const auto results =
      run_gru(call.tensor(0), call.tensor(2), call.tensors(1), call.tensor(3), shape);
  call.put(10, results[0]);
  call.put(11, results[1]);
  clear(call, 12, 16);
}

HEITU_KERNEL(gru_backward) {
  const Shape shape{call.flag(11), true, call.flag(13), call.flag(14), call.integer(12)};
  Tensors inputs{call.tensor(0), call.tensor(2)};
  const auto params = call.tensors(1);
  inputs.insert(inputs.end(), params.begin(), params.end());
  const auto grads =
      gradients(inputs,
                [&](const Tensors& x) {
                  return run_gru(x[0], x[1], part(x, 2, params.size()), call.tensor(10), shape);
                },
                {call.tensor(3), call.tensor(4)});
  call.put(15, grads[0]);
  call.put(16, grads[1]);
  call.put(17, part(grads, 2, params.size()));
}

HEITU_KERNEL(lstm_cell) {
  auto gates = call.tensor(0) + call.tensor(1);
  if (call.has(3)) gates = gates + call.tensor(3);
  if (call.has(4)) gates = gates + call.tensor(4);
  auto parts = gates.chunk(4, 1);
  const auto i = parts[0].sigmoid(), f = parts[1].sigmoid(), g = parts[2].tanh(),
             o = parts[3].sigmoid();
  const auto cell = f * call.tensor(2) + i * g;
  call.put(5, o * cell.tanh());
  call.put(6, cell);
  call.put(7, at::cat({i, f, g, o}, 1));
}

HEITU_KERNEL(lstm_cell_backward) {
  const auto before = call.tensor(2), after = call.tensor(3);
  const auto parts = call.tensor(4).chunk(4, 1);
  const auto i = parts[0], f = parts[1], g = parts[2], o = parts[3];
  const auto squashed = after.tanh();
  const auto to_hidden = call.has(0) ? call.tensor(0) : at::zeros_like(after);
  auto to_cell = to_hidden * o * (1 - squashed * squashed);
  if (call.has(1)) to_cell = to_cell + call.tensor(1);
  const auto gates = at::cat({to_cell * g * i * (1 - i), to_cell * before * f * (1 - f),
                              to_cell * i * (1 - g * g), to_hidden * squashed * o * (1 - o)},
                             1);
  call.put(6, gates);
  call.put(7, to_cell * f);
  if (call.flag(5)) call.put(8, gates.sum(0));
}

}  // namespace heitu::cann
