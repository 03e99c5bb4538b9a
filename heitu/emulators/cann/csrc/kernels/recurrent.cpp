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

// Runs a layer on sequences of unequal length. The plugin packs them with their padding, as [time *
// batch, features], and wants the results as [time, batch, features], with zeros for the padding.
template <typename Layer>
Tensors run_padded(const at::Tensor& input, const at::Tensor& batch_sizes, Layer layer) {
  const int64_t steps = batch_sizes.numel(), batch = input.size(0) / steps;
  const auto sizes = batch_sizes.to(at::kLong);
  const auto rows =
      (at::arange(batch).unsqueeze(0) < sizes.unsqueeze(1)).flatten().nonzero().squeeze(1);
  Tensors results = layer(input.index_select(0, rows), sizes);
  const auto& packed = results[0];
  results[0] = at::zeros({steps * batch, packed.size(1)}, packed.options())
                   .index_copy(0, rows, packed)
                   .view({steps, batch, packed.size(1)});
  return results;
}

Tensors run_lstm(const at::Tensor& input, const Tensors& state, const Tensors& params,
                 const at::Tensor& batch_sizes, const Shape& s) {
  const auto listed = [](const auto& all) -> Tensors {
    return {std::get<0>(all), std::get<1>(all), std::get<2>(all)};
  };
  if (!batch_sizes.defined()) {
    return listed(at::lstm(input, state, params, s.biases, s.layers, 0, s.train, s.bidirectional,
                           s.batch_first));
  }
  return run_padded(input, batch_sizes, [&](const at::Tensor& packed, const at::Tensor& sizes) {
    return listed(
        at::lstm(packed, sizes, state, params, s.biases, s.layers, 0, s.train, s.bidirectional));
  });
}

Tensors run_gru(const at::Tensor& input, const at::Tensor& state, const Tensors& params,
                const at::Tensor& batch_sizes, const Shape& s) {
  const auto listed = [](const auto& all) -> Tensors {
    return {std::get<0>(all), std::get<1>(all)};
  };
  if (!batch_sizes.defined()) {
    return listed(at::gru(input, state, params, s.biases, s.layers, 0, s.train, s.bidirectional,
                          s.batch_first));
  }
  return run_padded(input, batch_sizes, [&](const at::Tensor& packed, const at::Tensor& sizes) {
    return listed(
        at::gru(packed, sizes, state, params, s.biases, s.layers, 0, s.train, s.bidirectional));
  });
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

// ---- the graph compiler's operators, step by step ----

namespace {

struct Steps {
  Tensors hidden, cell, input_gate, candidate, forget_gate, output_gate, squashed;
};

// `mask` is 1 where a sequence still has elements; undefined, all have.
Steps lstm_steps(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                 at::Tensor h, at::Tensor c, const at::Tensor& mask) {
  Steps steps;
  for (int64_t t = 0; t < x.size(0); ++t) {
    const auto gates = at::matmul(at::cat({x[t], h}, 1), weight) + bias;
    const auto parts = gates.chunk(4, 1);
    const auto i = parts[0].sigmoid(), f = parts[1].sigmoid(), j = parts[2].tanh(),
               o = parts[3].sigmoid();
    auto next_c = f * c + i * j;
    auto next_h = o * next_c.tanh();
    if (mask.defined()) {
      const auto m = mask[t].to(x.scalar_type());
      next_c = m * next_c + (1 - m) * c;
      next_h = m * next_h + (1 - m) * h;
    }
    c = next_c;
    h = next_h;
    steps.hidden.push_back(h);
    steps.cell.push_back(c);
    steps.input_gate.push_back(i);
    steps.candidate.push_back(j);
    steps.forget_gate.push_back(f);
    steps.output_gate.push_back(o);
    steps.squashed.push_back(c.tanh());
  }
  return steps;
}

at::Tensor given(const Call& call, const char* name) {
  const size_t index = call.index(name);
  return call.has(index) ? call.tensor(index) : at::Tensor();
}

at::Tensor rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// A series of steps as the operator walks along it, and back.
at::Tensor in_direction(const Call& call, const at::Tensor& series) {
  const size_t direction = call.index("direction");
  const bool reversed = call.has(direction) && call.text(direction) == "REDIRECTIONAL";
  return reversed && series.defined() && series.dim() == 3 ? series.flip(0) : series;
}

at::Tensor masked(const at::Tensor& y, const at::Tensor& mask) {
  return mask.defined() ? y * mask.to(y.scalar_type()) : y;
}

}  // namespace

HEITU_KERNEL(graph_DynamicRNN) {
  const auto mask = in_direction(call, given(call, "in3"));
  const auto steps =
      lstm_steps(in_direction(call, given(call, "in0")), given(call, "in1"), given(call, "in2"),
                 rows(given(call, "in4")), rows(given(call, "in5")), mask);
  const auto hidden = at::stack(steps.hidden);
  const auto put = [&](size_t place, const at::Tensor& result) {
    call.put(call.index("out" + std::to_string(place)), in_direction(call, result));
  };
  put(0, masked(hidden, mask));
  put(1, hidden);
  const Tensors* kept[] = {&steps.cell,        &steps.input_gate,  &steps.candidate,
                           &steps.forget_gate, &steps.output_gate, &steps.squashed};
  for (size_t i = 0; i < 6; ++i) put(i + 2, at::stack(*kept[i]));
}

HEITU_KERNEL(graph_DynamicRNNGrad) {
  auto mask = in_direction(call, given(call, "in16"));
  if (mask.defined() && mask.dim() != 3) mask = at::Tensor();
  const auto state_grad = [&](const char* name) {
    const auto grad = given(call, name);
    return grad.defined() ? rows(grad) : grad;
  };
  const auto grads = gradients({given(call, "in0"), given(call, "in1"), given(call, "in2"),
                                rows(given(call, "in4")), rows(given(call, "in5"))},
                               [&](const Tensors& in) -> Tensors {
                                 const auto steps = lstm_steps(in_direction(call, in[0]), in[1],
                                                               in[2], in[3], in[4], mask);
                                 return {in_direction(call, masked(at::stack(steps.hidden), mask)),
                                         steps.hidden.back(), steps.cell.back()};
                               },
                               {given(call, "in8"), state_grad("in9"), state_grad("in10")});
  const size_t places[] = {2, 0, 1, 3, 4};  // of x, weight, bias and the states among the outputs
  for (size_t i = 0; i < grads.size(); ++i) {
    call.put(call.index("out" + std::to_string(places[i])), grads[i]);
  }
}

HEITU_KERNEL(graph_DynamicGRUV2) {
  const auto x = given(call, "in0"), w = given(call, "in1"), u = given(call, "in2"),
             b = given(call, "in3"), d = given(call, "in4");
  auto h = rows(given(call, "in6")).to(b.scalar_type());
  Tensors hidden, update, reset, fresh, inner;
  for (int64_t t = 0; t < x.size(0); ++t) {
    const auto from_input = (at::matmul(x[t], w) + b).chunk(3, 1);
    const auto from_state = (at::matmul(h, u) + d).chunk(3, 1);
    const auto r = (from_input[0] + from_state[0]).sigmoid();
    const auto z = (from_input[1] + from_state[1]).sigmoid();
    const auto n = (from_input[2] + r * from_state[2]).tanh();
    h = (1 - z) * n + z * h;
    hidden.push_back(h);
    update.push_back(z);
    reset.push_back(r);
    fresh.push_back(n);
    inner.push_back(from_state[2]);
  }
  const Tensors* kept[] = {&hidden, &hidden, &update, &reset, &fresh, &inner};
  for (size_t i = 0; i < 6; ++i)
    call.put(call.index("out" + std::to_string(i)), at::stack(*kept[i]));
}

HEITU_KERNEL(graph_DynamicGRUV2Grad) {
  const auto x = given(call, "in0"), w = given(call, "in1"), u = given(call, "in2");
  const auto first = rows(given(call, "in4")), hidden = given(call, "in5"), dy = given(call, "in6");
  const auto z = given(call, "in8"), r = given(call, "in9"), n = given(call, "in10"),
             inner = given(call, "in11");
  auto to_state = rows(given(call, "in7"));
  Tensors from_input, from_state;
  for (int64_t t = x.size(0) - 1; t >= 0; --t) {
    const auto before = t > 0 ? hidden[t - 1] : first;
    const auto dh = dy[t] + to_state;
    const auto dz = dh * (before - n[t]) * z[t] * (1 - z[t]);
    const auto dn = dh * (1 - z[t]) * (1 - n[t] * n[t]);
    const auto dr = dn * inner[t] * r[t] * (1 - r[t]);
    from_input.insert(from_input.begin(), at::cat({dr, dz, dn}, 1));
    from_state.insert(from_state.begin(), at::cat({dr, dz, dn * r[t]}, 1));
    to_state = dh * z[t] + at::matmul(from_state.front(), u.t());
  }
  const auto gates = at::stack(from_input), states = at::stack(from_state);
  const auto previous = at::cat({first.unsqueeze(0), hidden.slice(0, 0, x.size(0) - 1)});
  call.put(call.index("out0"), at::matmul(rows(x).t(), rows(gates)));
  call.put(call.index("out1"), at::matmul(rows(previous).t(), rows(states)));
  call.put(call.index("out2"), rows(gates).sum(0));
  call.put(call.index("out3"), rows(states).sum(0));
  call.put(call.index("out4"), at::matmul(gates, w.t()));
  call.put(call.index("out5"), to_state);
}

}  // namespace heitu::cann
