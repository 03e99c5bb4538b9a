// The operators behind nn.RNN, nn.LSTM and nn.GRU when cuDNN is enabled.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/autocast_mode.h>
#include <ATen/native/RNN.h>
#include <ATen/ops/_cudnn_init_dropout_state.h>
#include <ATen/ops/_cudnn_rnn.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gru.h>
#include <ATen/ops/lstm.h>
#include <ATen/ops/zeros.h>

#include "../prelude.h"
#include "../registry.h"
#include "on_host.h"
#include "rnn_layers.h"

namespace heitu {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;
using OptionalTensor = std::optional<Tensor>;

// Everything of a call but its data.
struct Network {
  RnnShape shape;
  bool batch_first;
  bool packed;

  // [rows, features] of an input or output, whatever its layout.
  Tensor as_rows(const Tensor& t) const {
    if (packed) return t;
    return (batch_first ? t.transpose(0, 1) : t).reshape({shape.rows(), t.size(2)});
  }
  // The other way round; `rows` is contiguous.
  Tensor from_rows(const Tensor& rows) const {
    if (packed) return rows;
    const Tensor steps =
        rows.view({static_cast<int64_t>(shape.batch_sizes.size()), shape.batch(), -1});
    return batch_first ? steps.transpose(0, 1) : steps;
  }
};

Network describe(const Tensor& input, int64_t mode, int64_t hidden_size, int64_t proj_size,
                 int64_t num_layers, bool batch_first, bool bidirectional, IntArrayRef batch_sizes,
                 const Tensor& hx, const Tensor& cx) {
  Network net{{static_cast<RnnMode>(mode),
               input.size(-1),
               hidden_size,
               proj_size,
               num_layers,
               bidirectional ? 2 : 1,
               {}},
              batch_first,
              !batch_sizes.empty()};
  TORCH_CHECK(input.dim() == (net.packed ? 2 : 3), "cudnn RNN: input must have ",
              net.packed ? 2 : 3, " dimensions, got ", input.dim());
  if (net.packed) {
    net.shape.batch_sizes = batch_sizes.vec();
  } else {
    net.shape.batch_sizes.assign(input.size(batch_first ? 1 : 0), input.size(batch_first ? 0 : 1));
  }
  const bool lstm = net.shape.mode == RnnMode::kLstm;
  TORCH_CHECK(lstm || !cx.defined(), "rnn: illegal defined cx for non-LSTM RNN");
  const int64_t stacked = num_layers * net.shape.num_directions;
  const std::vector<int64_t> expected{stacked, net.shape.batch(), net.shape.output_size()};
  const std::vector<int64_t> expected_cell{stacked, net.shape.batch(), hidden_size};
  TORCH_CHECK(hx.sizes() == IntArrayRef(expected), "Expected hidden size ", IntArrayRef(expected),
              ", got ", hx.sizes());
  TORCH_CHECK(!lstm || (cx.defined() && cx.sizes() == IntArrayRef(expected_cell)),
              "Expected cell size ", IntArrayRef(expected_cell), ", got ",
              cx.defined() ? cx.sizes() : IntArrayRef());
  return net;
}

// Parameters come as weight_ih, weight_hh, [bias_ih, bias_hh], [weight_hr] per layer and direction.
std::vector<RnnWeights> group_weights(TensorList list, int64_t stride, int64_t proj_size,
                                      at::ScalarType type) {
  std::vector<RnnWeights> groups;
  const bool biased = stride >= 4;
  for (size_t first = 0; first < list.size(); first += stride) {
    RnnWeights w;
    w.input = list[first].to(type);
    w.hidden = list[first + 1].to(type);
    if (biased) {
      w.input_bias = list[first + 2].to(type);
      w.hidden_bias = list[first + 3].to(type);
    }
    if (proj_size > 0) w.projection = list[first + stride - 1].to(type);
    groups.push_back(std::move(w));
  }
  return groups;
}

// cuDNN's dropout state is opaque; here it is a seed and the number of masks drawn from it.
void draw_mask(const Tensor& dropout_state, double dropout, Tensor mask) {
  int64_t* state = dropout_state.data_ptr<int64_t>();
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(
      static_cast<uint64_t>(state[0]) + 0x9e3779b97f4a7c15ULL * static_cast<uint64_t>(state[1]++));
  mask.bernoulli_(1 - dropout, generator).div_(1 - dropout);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> cudnn_rnn(
    const Tensor& input, TensorList weight, int64_t weight_stride, const OptionalTensor& weight_buf,
    const Tensor& hx, const OptionalTensor& cx_opt, int64_t mode, int64_t hidden_size,
    int64_t proj_size, int64_t num_layers, bool batch_first, double dropout, bool train,
    bool bidirectional, IntArrayRef batch_sizes, const OptionalTensor& dropout_state) {
  const Tensor cx = value_or_undefined(cx_opt);
  const Network net = describe(input, mode, hidden_size, proj_size, num_layers, batch_first,
                               bidirectional, batch_sizes, hx, cx);
  const RnnShape& shape = net.shape;
  const OnHost host(input);
  const auto type = input.scalar_type();
  const auto acc = accumulate_type(type);
  const auto weights = group_weights(host.views(weight), weight_stride, proj_size, acc);
  const bool masked = train && dropout > 0 && num_layers > 1;
  TORCH_CHECK(!masked || (dropout_state.has_value() && dropout_state->defined()),
              "cudnn RNN: dropout needs a dropout state");
  const Tensor random = masked ? host.view(dropout_state).view(at::kLong) : Tensor();

  const auto options = host.view(input).options().dtype(acc);
  const Tensor reserve = at::empty({reserve_numel(shape, masked)}, options);
  const auto saved = carve_reserve(shape, masked, reserve);
  const Tensor final_h = at::empty(hx.sizes(), options).copy_(host.view(hx));
  const Tensor final_c =
      cx.defined() ? at::empty(cx.sizes(), options).copy_(host.view(cx)) : at::empty({0}, options);
  Tensor layer_input = net.as_rows(host.view(input).to(acc));
  Tensor output;
  for (int64_t l = 0; l < num_layers; ++l) {
    if (l > 0) {
      Tensor kept = saved[l].input;
      kept.copy_(output);
      if (masked) {
        draw_mask(random, dropout, saved[l].mask);
        kept.mul_(saved[l].mask);
      }
      layer_input = kept;
    }
    output = at::empty({shape.rows(), shape.num_directions * shape.output_size()}, options);
    for (int64_t d = 0; d < shape.num_directions; ++d) {
      const int64_t index = l * shape.num_directions + d;
      rnn_forward(shape, weights[index], layer_input, d == 1, final_h[index],
                  cx.defined() ? final_c[index] : Tensor(),
                  output.narrow(1, d * shape.output_size(), shape.output_size()),
                  saved[l].direction[d]);
    }
  }
  const Tensor labelled = host.result(output.to(type));
  // Inference keeps nothing, as cuDNN does, so a backward pass is refused there.
  const Tensor kept = train ? reserve.view(at::kByte) : at::empty({0}, options.dtype(at::kByte));
  const Tensor flat = value_or_undefined(weight_buf);
  return {net.from_rows(labelled), host.result(final_h.to(type)), host.result(final_c.to(type)),
          host.result(kept),
          flat.defined() ? flat : host.result(at::empty({0}, options.dtype(type)))};
}

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> cudnn_rnn_backward(
    const Tensor& input, TensorList weight, int64_t weight_stride, const Tensor& /*weight_buf*/,
    const Tensor& hx, const OptionalTensor& cx_opt, const Tensor& /*output*/,
    const OptionalTensor& grad_output, const OptionalTensor& grad_hy, const OptionalTensor& grad_cy,
    int64_t mode, int64_t hidden_size, int64_t proj_size, int64_t num_layers, bool batch_first,
    double dropout, bool train, bool bidirectional, IntArrayRef batch_sizes,
    const OptionalTensor& /*dropout_state*/, const Tensor& reserve,
    std::array<bool, 4> output_mask) {
  const auto given = [](const OptionalTensor& t) { return t.has_value() && t->defined(); };
  if (!given(grad_output) && !given(grad_hy) && !given(grad_cy)) {
    return {Tensor(), Tensor(), Tensor(), std::vector<Tensor>(weight.size())};
  }
  TORCH_CHECK(train, "cudnn RNN backward can only be called in training mode");
  const Tensor cx = value_or_undefined(cx_opt);
  const Network net = describe(input, mode, hidden_size, proj_size, num_layers, batch_first,
                               bidirectional, batch_sizes, hx, cx);
  const RnnShape& shape = net.shape;
  const OnHost host(input);
  const auto type = input.scalar_type();
  const auto acc = accumulate_type(type);
  const auto weights = group_weights(host.views(weight), weight_stride, proj_size, acc);
  const bool masked = dropout > 0 && num_layers > 1;
  const auto saved = carve_reserve(shape, masked, host.view(reserve).view(acc));
  const auto options = host.view(input).options().dtype(acc);

  std::vector<Tensor> grad_weights;
  std::vector<RnnWeights> grads;
  if (output_mask[3]) {
    for (const Tensor& w : weight) grad_weights.push_back(at::zeros(w.sizes(), options));
    grads = group_weights(grad_weights, weight_stride, proj_size, acc);
  }
  const auto start = [&](const OptionalTensor& grad, const Tensor& like) {
    return given(grad) ? at::empty(like.sizes(), options).copy_(host.view(grad))
                       : at::zeros(like.sizes(), options);
  };
  const Tensor grad_h = start(grad_hy, hx);
  const Tensor grad_c = cx.defined() ? start(grad_cy, cx) : Tensor();
  const int64_t width = shape.output_size();
  Tensor grad = given(grad_output)
                    ? net.as_rows(host.view(grad_output).to(acc))
                    : at::zeros({shape.rows(), shape.num_directions * width}, options);
  const Tensor first_input = net.as_rows(host.view(input).to(acc));
  for (int64_t l = num_layers - 1; l >= 0; --l) {
    Tensor grad_input;
    for (int64_t d = 0; d < shape.num_directions; ++d) {
      const int64_t index = l * shape.num_directions + d;
      const Tensor part = rnn_backward(
          shape, weights[index], l == 0 ? first_input : saved[l].input, d == 1,
          grad.narrow(1, d * width, width), grad_h[index], cx.defined() ? grad_c[index] : Tensor(),
          saved[l].direction[d], output_mask[3] ? &grads[index] : nullptr);
      grad_input = grad_input.defined() ? grad_input.add_(part) : part;
    }
    if (l > 0 && masked) grad_input.mul_(saved[l].mask);
    grad = grad_input;
  }
  std::vector<Tensor> results;
  for (const Tensor& g : grad_weights) results.push_back(host.result(g.to(type)));
  return {net.from_rows(host.result(grad.to(type))), host.result(grad_h.to(type)),
          cx.defined() ? host.result(grad_c.to(type)) : Tensor(), std::move(results)};
}

// The order of cuDNN's buffer: all matrices layer by layer, then all biases.
template <class Each>
void each_in_buffer_order(size_t count, int64_t stride, bool projected, Each each) {
  const bool biased = stride >= 4;
  for (size_t first = 0; first < count; first += stride) {
    each(first);
    each(first + 1);
    if (projected) each(first + stride - 1);
  }
  for (size_t first = 0; biased && first < count; first += stride) {
    each(first + 2);
    each(first + 3);
  }
}

Tensor flatten_weight(TensorList weights, int64_t stride, int64_t /*input_size*/, int64_t /*mode*/,
                      int64_t /*hidden_size*/, int64_t proj_size, int64_t /*num_layers*/,
                      bool /*batch_first*/, bool /*bidirectional*/) {
  TORCH_CHECK(!weights.empty(), "_cudnn_rnn_flatten_weight_: cannot flatten empty weight list");
  int64_t total = 0;
  for (const Tensor& w : weights) total += w.numel();
  const Tensor buffer = at::empty({total}, weights[0].options());
  int64_t offset = 0;
  each_in_buffer_order(weights.size(), stride, proj_size > 0, [&](size_t i) {
    Tensor w = weights[i];
    const Tensor place = buffer.narrow(0, offset, w.numel()).view(w.sizes());
    offset += w.numel();
    place.copy_(w);
    w.set_(place);
  });
  return buffer;
}

Tensor init_dropout_state(double /*dropout*/, bool /*train*/, int64_t seed,
                          std::optional<at::ScalarType> /*dtype*/,
                          std::optional<at::Layout> /*layout*/, std::optional<at::Device> device,
                          std::optional<bool> /*pin_memory*/) {
  const Tensor state = at::empty({2}, at::TensorOptions().dtype(at::kLong).device(device));
  int64_t* words = static_cast<int64_t*>(state.data_ptr());
  words[0] = seed;
  words[1] = 0;
  return state.view(at::kByte);
}

HEITU_KERNELS(rnn_cudnn) {
  m.impl("_cudnn_rnn", cudnn_rnn);
  m.impl("_cudnn_rnn_backward", cudnn_rnn_backward);
  m.impl("_cudnn_rnn_flatten_weight", flatten_weight);
  m.impl("_cudnn_init_dropout_state", init_dropout_state);
}

// ---- what at::lstm, at::gru and at::rnn_* call on a CUDA tensor that cuDNN accepts ----

// The parameters' flat buffer if _cudnn_rnn_flatten_weight laid them out.
Tensor find_weight_buffer(TensorList params, int64_t stride, bool projected) {
  bool flat = true;
  const char* next = static_cast<const char*>(params[0].data_ptr());
  int64_t total = 0;
  each_in_buffer_order(params.size(), stride, projected, [&](size_t i) {
    flat = flat && params[i].data_ptr() == next && params[i].is_contiguous() &&
           params[i].is_alias_of(params[0]);
    next += params[i].nbytes();
    total += params[i].numel();
  });
  if (flat) {
    const at::NoGradGuard no_grad;
    return at::empty({0}, params[0].options())
        .set_(params[0].storage(), params[0].storage_offset(), {total}, {1});
  }
  TORCH_WARN(
      "RNN module weights are not part of single contiguous chunk of memory. This means they need "
      "to be compacted at every call, possibly greatly increasing memory usage. To compact weights "
      "again call flatten_parameters().");
  return Tensor();
}

// From the device's generator; cuDNN's own is fixed when the first network runs. Drawn on the
// device, for a graph that captures this to draw anew at every replay.
Tensor new_dropout_state(const Tensor& input, double dropout, bool train) {
  if (!train || dropout == 0) return Tensor();
  return at::empty({2}, input.options().dtype(at::kLong)).random_().view(at::kByte);
}

template <RnnMode mode>
std::tuple<Tensor, Tensor, Tensor> run(const Tensor& input, IntArrayRef batch_sizes,
                                       const Tensor& hx, const Tensor& cx, TensorList params,
                                       bool biased, int64_t num_layers, double dropout, bool train,
                                       bool bidirectional, bool batch_first) {
  const int64_t hidden_size = (cx.defined() ? cx : hx).size(2);
  const int64_t proj_size = cx.defined() && hx.size(2) != cx.size(2) ? hx.size(2) : 0;
  const int64_t stride = (biased ? 4 : 2) + (proj_size > 0 ? 1 : 0);
  const auto result = at::_cudnn_rnn(
      input, params, stride, find_weight_buffer(params, stride, proj_size > 0), hx, cx,
      static_cast<int64_t>(mode), hidden_size, proj_size, num_layers, batch_first, dropout, train,
      bidirectional, batch_sizes, new_dropout_state(input, dropout, train));
  return {std::get<0>(result), std::get<1>(result), std::get<2>(result)};
}

void lstm(Tensor& output, Tensor& hy, Tensor& cy, const Tensor& input, TensorList hx,
          TensorList params, bool biased, int64_t num_layers, double dropout, bool train,
          bool bidirectional, bool batch_first) {
  std::tie(output, hy, cy) =
      run<RnnMode::kLstm>(input, {}, hx[0], hx[1], params, biased, num_layers, dropout, train,
                          bidirectional, batch_first);
}

void lstm_packed(Tensor& output, Tensor& hy, Tensor& cy, const Tensor& data,
                 const Tensor& batch_sizes, TensorList hx, TensorList params, bool biased,
                 int64_t num_layers, double dropout, bool train, bool bidirectional) {
  const IntArrayRef sizes(batch_sizes.data_ptr<int64_t>(), batch_sizes.numel());
  std::tie(output, hy, cy) = run<RnnMode::kLstm>(data, sizes, hx[0], hx[1], params, biased,
                                                 num_layers, dropout, train, bidirectional, false);
}

template <RnnMode mode>
void rnn(Tensor& output, Tensor& hy, const Tensor& input, const Tensor& hx, TensorList params,
         bool biased, int64_t num_layers, double dropout, bool train, bool bidirectional,
         bool batch_first) {
  std::tie(output, hy, std::ignore) = run<mode>(input, {}, hx, Tensor(), params, biased, num_layers,
                                                dropout, train, bidirectional, batch_first);
}

template <RnnMode mode>
void rnn_packed(Tensor& output, Tensor& hy, const Tensor& data, const Tensor& batch_sizes,
                const Tensor& hx, TensorList params, bool biased, int64_t num_layers,
                double dropout, bool train, bool bidirectional) {
  const IntArrayRef sizes(batch_sizes.data_ptr<int64_t>(), batch_sizes.numel());
  std::tie(output, hy, std::ignore) = run<mode>(data, sizes, hx, Tensor(), params, biased,
                                                num_layers, dropout, train, bidirectional, false);
}

// Under autocast networks run in the lower precision: PyTorch registers this with its CUDA library.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> autocast_cudnn_rnn(
    const Tensor& input, TensorList weight, int64_t weight_stride, const OptionalTensor& /*buffer*/,
    const Tensor& hx, const OptionalTensor& cx, int64_t mode, c10::SymInt hidden_size,
    c10::SymInt proj_size, int64_t num_layers, bool batch_first, double dropout, bool train,
    bool bidirectional, c10::SymIntArrayRef batch_sizes, const OptionalTensor& dropout_state) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCUDA);
  const auto type = at::autocast::get_autocast_dtype(at::kCUDA);
  const auto lower = [&](const Tensor& t) { return at::autocast::cached_cast(type, t, at::kCUDA); };
  std::vector<Tensor> weights;
  for (const Tensor& w : weight) weights.push_back(lower(w));
  return at::_cudnn_rnn_symint(
      lower(input), weights, weight_stride, std::nullopt, lower(hx),
      cx.has_value() && cx->defined() ? OptionalTensor(lower(*cx)) : std::nullopt, mode,
      hidden_size, proj_size, num_layers, batch_first, dropout, train, bidirectional, batch_sizes,
      dropout_state);
}

TORCH_LIBRARY_IMPL(aten, AutocastCUDA, m) { m.impl("_cudnn_rnn", TORCH_FN(autocast_cudnn_rnn)); }

[[maybe_unused]] const bool stubs_registered = [] {
  at::native::lstm_cudnn_stub.set_cuda_dispatch_ptr(lstm);
  at::native::lstm_packed_cudnn_stub.set_cuda_dispatch_ptr(lstm_packed);
  at::native::gru_cudnn_stub.set_cuda_dispatch_ptr(rnn<RnnMode::kGru>);
  at::native::gru_packed_cudnn_stub.set_cuda_dispatch_ptr(rnn_packed<RnnMode::kGru>);
  at::native::rnn_tanh_cudnn_stub.set_cuda_dispatch_ptr(rnn<RnnMode::kTanh>);
  at::native::rnn_tanh_packed_cudnn_stub.set_cuda_dispatch_ptr(rnn_packed<RnnMode::kTanh>);
  at::native::rnn_relu_cudnn_stub.set_cuda_dispatch_ptr(rnn<RnnMode::kRelu>);
  at::native::rnn_relu_packed_cudnn_stub.set_cuda_dispatch_ptr(rnn_packed<RnnMode::kRelu>);
  return true;
}();

}  // namespace
}  // namespace heitu
