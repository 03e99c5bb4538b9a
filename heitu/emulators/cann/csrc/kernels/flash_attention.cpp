// Fused attention with its gradients, in the plugin's many signatures: arguments are found by name.
#include <ATen/ATen.h>

#include <algorithm>

#include "attention.h"
#include "gradient.h"
#include "operators.h"

namespace heitu::cann {
namespace {

constexpr int64_t kLanes = 8;  // how often each row's statistics are written

at::Tensor named(const Call& call, const char* name) {
  const size_t index = call.index(name);
  return call.has(index) ? call.tensor(index) : at::Tensor();
}

int64_t number(const Call& call, const char* name, int64_t otherwise = 0) {
  const size_t index = call.index(name);
  return call.has(index) ? call.integer(index) : otherwise;
}

std::vector<int64_t> lengths(const Call& call, const char* name) {
  const size_t index = call.index(name);
  return call.has(index) ? call.ints(index) : std::vector<int64_t>();
}

void refuse(const Call& call, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (named(call, name).defined())
      throw std::runtime_error(std::string(name) + " is not emulated");
  }
}

Attention read(const Call& call) {
  Attention a;
  a.layout = call.text(call.index("layout"));
  a.heads = number(call, "heads");
  a.scale = call.real(call.index("scale"));
  a.before = number(call, "before");
  a.after = number(call, "after");
  a.sparse_mode = number(call, "sparse_mode");
  a.mask = named(call, "mask");
  return a;
}

Attention read_flash(const Call& call) {
  Attention a = read(call);
  a.keep = call.real(call.index("keep"));
  a.bias_mode = number(call, "bias_mode", 1);
  if (a.bias_mode > 1) throw std::runtime_error("generated position biases are not emulated");
  a.dropped = named(call, "drop_mask");
  a.sink = named(call, "sink");
  a.query_ends = lengths(call, "query_ends");
  a.key_ends = lengths(call, "key_ends");
  return a;
}

at::Tensor joined(const at::Tensor& x, const at::Tensor& rope) {
  return rope.defined() ? at::cat({x, rope}, -1) : x;
}

at::Tensor lanes(const at::Tensor& statistics) {
  auto sizes = statistics.sizes().vec();
  sizes.back() = kLanes;
  return statistics.expand(sizes);
}

void put(const Call& call, const char* name, const at::Tensor& value) {
  const size_t index = call.index(name);
  if (value.defined() && call.has(index) && call.tensor(index).numel() > 0) call.put(index, value);
}

}  // namespace

HEITU_KERNEL(flash_attention) {
  const auto query = joined(named(call, "query"), named(call, "query_rope"));
  const auto key = joined(named(call, "key"), named(call, "key_rope"));
  const auto result =
      attend(read_flash(call), query, key, named(call, "value"), named(call, "bias"));
  put(call, "out", result.out);
  put(call, "maximum", lanes(result.maximum));
  put(call, "sum", lanes(result.sum));
}

HEITU_KERNEL(flash_attention_backward) {
  const auto attention = read_flash(call);
  const auto grads = gradients(
      {named(call, "query"), named(call, "query_rope"), named(call, "key"), named(call, "key_rope"),
       named(call, "value"), named(call, "bias"), attention.sink},
      [&](const Tensors& x) -> Tensors {
        Attention with_sink = attention;
        with_sink.sink = x[6];
        return {attend(with_sink, joined(x[0], x[1]), joined(x[2], x[3]), x[4], x[5]).out};
      },
      {named(call, "grad_out")});
  const char* names[] = {"grad_query", "grad_query_rope", "grad_key", "grad_key_rope",
                         "grad_value", "grad_bias",       "grad_sink"};
  for (size_t i = 0; i < grads.size(); ++i) put(call, names[i], grads[i]);
}

namespace {

// Keys or values (B, N, S, D) of one sequence: of a list with one a sequence, of a batch, or of
// pages.
class Cache {
 public:
  Cache(const Call& call, const char* name, const std::string& layout, int64_t heads, int64_t width)
      : parts_(call.tensors(call.index(name))),
        table_(named(call, "block_table")),
        layout_(layout),
        heads_(heads),
        width_(width) {}

  at::Tensor sequence(int64_t batch, int64_t length) const {
    at::Tensor whole;
    if (table_.defined()) {
      const auto pages = parts_[0].index_select(0, used_pages(batch, length));
      // (pages, rows, N * D), or (pages, N, rows, D)
      whole = pages.dim() == 3 ? pages.reshape({-1, heads_, width_}).transpose(0, 1)
                               : pages.transpose(0, 1).reshape({heads_, -1, width_});
      return whole.slice(1, 0, length);
    }
    const bool listed = parts_.size() > 1;
    const auto part = parts_[listed ? static_cast<size_t>(batch) : 0];
    whole = heads_first(listed ? part : part.narrow(layout_ == "SBH" ? 1 : 0, batch, 1)).squeeze(0);
    return length < 0 ? whole : whole.slice(1, 0, length);
  }

 private:
  at::Tensor used_pages(int64_t batch, int64_t length) const {
    const int64_t rows = parts_[0].dim() == 3 ? parts_[0].size(1) : parts_[0].size(2);
    return table_[batch].slice(0, 0, (length + rows - 1) / rows).to(at::kLong);
  }

  at::Tensor heads_first(const at::Tensor& x) const {
    if (layout_ == "BNSD") return x;
    if (layout_ == "BSND") return x.transpose(1, 2);
    return x.reshape({x.size(0), x.size(1), heads_, -1}).transpose(1, 2);
  }

  std::vector<at::Tensor> parts_;
  at::Tensor table_;
  std::string layout_;
  int64_t heads_, width_;
};

at::Tensor of_batch(const at::Tensor& mask, int64_t batch) {
  if (!mask.defined() || mask.dim() == 2) return mask;
  auto one = mask[mask.size(0) == 1 ? 0 : batch];
  return one.dim() == 3 && one.size(0) == 1 ? one[0] : one;
}

int64_t at_or(const std::vector<int64_t>& values, int64_t index, int64_t otherwise) {
  if (values.empty()) return otherwise;
  return values[values.size() == 1 ? 0 : static_cast<size_t>(index)];
}

}  // namespace

// Prompt, incremental and "fused infer" attention: forward only, one sequence after the other.
HEITU_KERNEL(infer_attention) {
  refuse(call, {"dequant_scale1", "quant_scale1", "dequant_scale2", "quant_scale2", "quant_offset2",
                "antiquant_scale", "antiquant_offset", "key_antiquant_scale",
                "value_antiquant_scale", "key_prefix", "value_prefix"});
  Attention a = read(call);
  const std::string layout = a.layout.substr(0, a.layout.find('_'));
  if (layout == "TND" || layout == "NTD") throw std::runtime_error("layout TND is not emulated");
  const bool transposed = a.layout.find('_') != std::string::npos;
  const auto query = named(call, "query"), out = named(call, "out"), bias = named(call, "bias");
  const auto as_heads = [&](const at::Tensor& x, const std::string& order, int64_t heads) {
    if (order == "BNSD") return x;
    if (order == "BSND") return x.transpose(1, 2);
    return x.reshape({x.size(0), x.size(1), heads, -1}).transpose(1, 2);
  };
  const auto queries = as_heads(query, layout, a.heads);
  const std::string out_layout = transposed ? a.layout.substr(a.layout.find('_') + 1) : layout;
  const int64_t kv_heads = std::max<int64_t>(number(call, "kv_heads"), 0);
  const int64_t heads = kv_heads > 0 ? kv_heads : a.heads;
  const Cache keys(call, "key", layout, heads, queries.size(3));
  const Cache values(call, "value", layout, heads, queries.size(3));
  const auto query_lengths = lengths(call, "query_lengths"),
             key_lengths = lengths(call, "key_lengths");
  a.layout = "BNSD";
  const auto mask = a.mask;
  std::vector<at::Tensor> results, statistics;
  for (int64_t b = 0; b < queries.size(0); ++b) {
    const int64_t rows = at_or(query_lengths, b, queries.size(2));
    const auto key = keys.sequence(b, at_or(key_lengths, b, -1)).unsqueeze(0);
    const auto value = values.sequence(b, at_or(key_lengths, b, -1)).unsqueeze(0);
    a.mask = of_batch(mask, b);
    if (a.mask.defined() && a.sparse_mode <= 1) {
      a.mask = a.mask.slice(-2, 0, rows).slice(-1, 0, key.size(2));
    }
    const auto shift = bias.defined() ? bias.narrow(0, bias.size(0) == 1 ? 0 : b, 1)
                                            .slice(2, 0, rows)
                                            .slice(3, 0, key.size(2))
                                      : bias;
    const auto one = attend(a, queries.narrow(0, b, 1).slice(2, 0, rows), key, value, shift);
    results.push_back(at::constant_pad_nd(one.out, {0, 0, 0, queries.size(2) - rows}));
    statistics.push_back(
        at::constant_pad_nd(one.maximum + at::log(one.sum), {0, 0, 0, queries.size(2) - rows}));
  }
  auto all = at::cat(results);
  if (out_layout != "BNSD") all = all.transpose(1, 2);
  call.put(call.index("out"), all.reshape(out.sizes()));
  if (number(call, "lse_flag") != 0) put(call, "lse", at::cat(statistics));
}

namespace {

constexpr double kFarBelow = -10000.0;  // what a masked score becomes

at::Tensor masked_softmax(const at::Tensor& x, const at::Tensor& mask, double scale, bool causal) {
  auto scores = x.to(at::kFloat) * scale;
  if (mask.defined()) scores = scores.masked_fill(mask.to(at::kBool), kFarBelow);
  if (causal) {
    const auto future = at::ones({x.size(-2), x.size(-1)}, at::kBool).triu(1);
    scores = scores.masked_fill(future, kFarBelow);
  }
  return at::softmax(scores, -1);
}

at::Tensor masked_softmax_backward(const at::Tensor& grad, const at::Tensor& y,
                                   const at::Tensor& mask, double scale) {
  const auto slope =
      at::_softmax_backward_data(grad.to(at::kFloat), y.to(at::kFloat), -1, at::kFloat) * scale;
  return mask.defined() ? slope.masked_fill(mask.to(at::kBool), 0) : slope;
}

}  // namespace

HEITU_KERNEL(scaled_masked_softmax) {
  call.put(4, masked_softmax(call.tensor(0), call.tensor(1), call.real(2), call.flag(3)));
}

HEITU_KERNEL(scaled_masked_softmax_backward) {
  call.put(5,
           masked_softmax_backward(call.tensor(0), call.tensor(1), call.tensor(2), call.real(3)));
}

HEITU_KERNEL(graph_ScaledMaskedSoftmax) {
  call.put(call.index("out0"),
           masked_softmax(named(call, "in0"), named(call, "in1"), call.real(call.index("scale")),
                          call.flag(call.index("fixed_triu_mask"))));
}

HEITU_KERNEL(graph_ScaledMaskedSoftmaxGrad) {
  call.put(call.index("out0"),
           masked_softmax_backward(named(call, "in0"), named(call, "in1"), named(call, "in2"),
                                   call.real(call.index("scale"))));
}

}  // namespace heitu::cann
