#include "collectives.h"

#include <ATen/ops/add.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/fmax.h>
#include <ATen/ops/fmin.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>

#include "reduction.h"

namespace heitu {

// ---- reductions ----

namespace {

using Op = c10d::ReduceOp::RedOpType;

bool is_float8(at::ScalarType dtype) {
  return dtype == at::kFloat8_e5m2 || dtype == at::kFloat8_e4m3fn ||
         dtype == at::kFloat8_e5m2fnuz || dtype == at::kFloat8_e4m3fnuz;
}

at::ScalarType accumulator(at::ScalarType dtype) {
  return at::isFloatingType(dtype) && dtype != at::kDouble ? at::kFloat : dtype;
}

// 1/N as NCCL has it: rounded to the dtype of the tensors.
double reciprocal(size_t ranks, at::ScalarType dtype) {
  const auto exact = at::full({}, 1.0 / static_cast<double>(ranks), at::kDouble);
  return exact.to(dtype).to(at::kDouble).item<double>();
}

void accumulate(Op op, at::Tensor& sum, const at::Tensor& next) {
  switch (op) {
    case Op::SUM:
    case Op::AVG:
    case Op::PREMUL_SUM:
      sum.add_(next);
      return;
    case Op::PRODUCT:
      sum.mul_(next);
      return;
    case Op::MIN:
      at::isFloatingType(sum.scalar_type()) ? at::fmin_out(sum, sum, next)
                                            : at::minimum_out(sum, sum, next);
      return;
    case Op::MAX:
      at::isFloatingType(sum.scalar_type()) ? at::fmax_out(sum, sum, next)
                                            : at::maximum_out(sum, sum, next);
      return;
    default:
      TORCH_INTERNAL_ASSERT(false, "not checked by check_reduction");
  }
}

}  // namespace

void check_dtype(at::ScalarType dtype) {
  switch (dtype) {
    case at::kChar:
    case at::kByte:
    case at::kBool:
    case at::kInt:
    case at::kLong:
    case at::kHalf:
    case at::kBFloat16:
    case at::kFloat:
    case at::kDouble:
      return;
    default:
      if (is_float8(dtype)) return;
      C10_THROW_ERROR(
          TypeError,
          c10::str("Input tensor data type is not supported for NCCL process group: ", dtype));
  }
}

void check_reduction(const c10d::ReduceOp& op, at::ScalarType dtype) {
  TORCH_CHECK(dtype != at::kFloat8_e5m2fnuz && dtype != at::kFloat8_e4m3fnuz &&
                  dtype != at::kFloat8_e8m0fnu,
              "Unsupported Float8 type for NCCL reduction");
  check_dtype(dtype);
  switch (op.op_) {
    case Op::AVG:
      if (dtype == at::kBool)
        C10_THROW_ERROR(TypeError, "Cannot use ReduceOp.AVG with boolean inputs");
      return;
    case Op::PREMUL_SUM:
      if (dtype != at::kHalf && dtype != at::kFloat && dtype != at::kBFloat16 &&
          dtype != at::kDouble)
        C10_THROW_ERROR(TypeError, "PreMulSum Data type must be half, float, bfloat16 or double");
      return;
    case Op::BAND:
      C10_THROW_ERROR(ValueError, "Cannot use ReduceOp.BAND with NCCL");
    case Op::BOR:
      C10_THROW_ERROR(ValueError, "Cannot use ReduceOp.BOR with NCCL");
    case Op::BXOR:
      C10_THROW_ERROR(ValueError, "Cannot use ReduceOp.BXOR with NCCL");
    case Op::UNUSED:
      C10_THROW_ERROR(ValueError, "Unhandled ReduceOp");
    default:
      return;
  }
}

at::Tensor prepared(const c10d::ReduceOp& op, const at::Tensor& contribution) {
  if (op.op_ != Op::PREMUL_SUM) return contribution;
  const auto& scale = static_cast<const c10d::NCCLPreMulSumSupplement&>(*op.supplement_);
  const auto dtype = contribution.scalar_type();
  auto factor = at::full({}, scale.double_factor, at::kDouble);
  if (const auto& given = scale.tensor_factor; given.defined()) factor = flat(given).reshape({});
  factor = factor.to(dtype).to(accumulator(dtype));
  return contribution.to(accumulator(dtype)).mul(factor).to(dtype);
}

void combine(const c10d::ReduceOp& op, const std::vector<at::Tensor>& contributions,
             at::Tensor result) {
  auto kind = op.op_;
  const auto ranks = contributions.size();
  const auto dtype = result.scalar_type();
  const auto widened = accumulator(dtype);
  if (kind == Op::SUM && ranks == 2 && widened == dtype && dtype != at::kBool) {
    at::add_out(result, contributions[0], contributions[1]);
    return;
  }
  const bool boolean = dtype == at::kBool;
  const auto number = [&](const at::Tensor& t) { return boolean ? t.view(at::kByte) : t; };
  if (boolean && kind == Op::SUM) kind = Op::MAX;
  const bool averaged = kind == Op::AVG && at::isFloatingType(dtype);
  const double factor = averaged ? reciprocal(ranks, dtype) : 1.0;
  const auto term = [&](size_t i) {
    auto value = number(contributions[i]);
    if (!boolean) value = value.to(widened);
    return averaged ? value.mul(factor) : value;
  };
  at::Tensor sum = term(0);
  if (sum.is_alias_of(contributions[0])) sum = sum.clone();
  for (size_t i = 1; i < ranks; ++i) accumulate(kind, sum, term(i));
  if (kind == Op::AVG && !averaged) sum.div_(static_cast<int64_t>(ranks), "trunc");
  number(result).copy_(sum);
}

// ---- collectives ----

namespace {

// Below this many bytes over all ranks one round of the whole is quicker than two rounds of parts.
constexpr int64_t kOneRound = 64 * 1024;

Parcel parcel(int peer, const at::Tensor& tensor) {
  return {peer, tensor.data_ptr(), tensor.numel() * static_cast<int64_t>(tensor.element_size())};
}

// Where data of `tensor` arrives: its own memory, or a contiguous stand-in that is copied later.
class Landing {
 public:
  explicit Landing(const std::vector<at::Tensor>& targets) : targets_(targets) {
    for (const auto& target : targets)
      places_.push_back(target.is_contiguous(target.suggest_memory_format())
                            ? target
                            : at::empty_like(target, at::MemoryFormat::Contiguous));
  }
  const at::Tensor& operator[](size_t i) const { return places_[i]; }
  void settle() {
    for (size_t i = 0; i < targets_.size(); ++i)
      if (!places_[i].is_same(targets_[i])) at::Tensor(targets_[i]).copy_(places_[i]);
  }

 private:
  const std::vector<at::Tensor>& targets_;
  std::vector<at::Tensor> places_;
};

std::vector<at::Tensor> dense(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> all;
  for (const auto& tensor : tensors)
    all.push_back(tensor.is_contiguous(tensor.suggest_memory_format()) ? tensor
                                                                       : tensor.contiguous());
  return all;
}

void run(const Round& round, const std::vector<Parcel>& outgoing,
         const std::vector<Parcel>& incoming, int channel = 0) {
  round.wire.exchange(outgoing, incoming, round.label, channel, round.deadline);
}

// Sends parts[i] to rank i and returns what all ranks sent here, in their order. The own part is
// returned as it is.
std::vector<at::Tensor> collect(const Round& round, const std::vector<at::Tensor>& parts) {
  const int rank = round.wire.rank(), size = round.wire.size();
  const auto& own = parts[rank];
  std::vector<at::Tensor> contributions;
  std::vector<Parcel> outgoing, incoming;
  for (int peer = 0; peer < size; ++peer) {
    if (peer == rank) {
      contributions.push_back(own);
      continue;
    }
    contributions.push_back(at::empty_like(own));
    outgoing.push_back(parcel(peer, parts[peer]));
    incoming.push_back(parcel(peer, contributions.back()));
  }
  run(round, outgoing, incoming);
  return contributions;
}

}  // namespace

at::Tensor flat(const at::Tensor& tensor) {
  return at::from_blob(tensor.data_ptr(), {tensor.numel()},
                       at::TensorOptions().dtype(tensor.scalar_type()));
}

std::vector<at::Tensor> pieces(const at::Tensor& tensor, const std::vector<int64_t>& counts) {
  const auto whole = tensor.is_cuda() ? flat(tensor) : tensor;
  std::vector<at::Tensor> all;
  int64_t start = 0;
  for (const auto count : counts) {
    all.push_back(whole.narrow(0, start, count));
    start += count;
  }
  return all;
}

void broadcast(const Round& round, const at::Tensor& tensor, int root) {
  std::vector<Parcel> outgoing, incoming;
  if (round.wire.rank() == root) {
    for (int peer = 0; peer < round.wire.size(); ++peer)
      if (peer != root) outgoing.push_back(parcel(peer, tensor));
  } else {
    incoming.push_back(parcel(root, tensor));
  }
  run(round, outgoing, incoming);
}

void reduce(const Round& round, const at::Tensor& tensor, const c10d::ReduceOp& op,
            std::optional<int> root) {
  const int rank = round.wire.rank(), size = round.wire.size();
  const auto target = flat(tensor);
  const auto own = prepared(op, target);
  const bool wanted = !root || *root == rank;
  if (static_cast<int64_t>(own.nbytes()) * size <= kOneRound) {
    // Every rank computes the same from the same contributions in the same order.
    const auto contributions = collect(round, std::vector<at::Tensor>(size, own));
    if (wanted) combine(op, contributions, target);
    return;
  }
  // Each rank reduces one slice; then the slices are brought together.
  const auto total = own.numel(), share = (total + size - 1) / size;
  std::vector<int64_t> counts;
  for (int peer = 0; peer < size; ++peer)
    counts.push_back(std::clamp<int64_t>(total - peer * share, 0, share));
  const auto contributions = collect(round, pieces(own, counts));
  const auto slices = pieces(target, counts);
  const auto result = wanted ? slices[rank] : at::empty_like(slices[rank]);
  if (counts[rank] > 0) combine(op, contributions, result);
  std::vector<Parcel> outgoing, incoming;
  for (int peer = 0; peer < size; ++peer) {
    if (peer == rank) continue;
    if (!root || *root == peer) outgoing.push_back(parcel(peer, result));
    if (wanted) incoming.push_back(parcel(peer, slices[peer]));
  }
  run(round, outgoing, incoming);
}

void all_gather(const Round& round, const std::vector<at::Tensor>& outputs,
                const at::Tensor& input) {
  const auto sent = dense({input});
  Landing landing(outputs);
  std::vector<Parcel> outgoing, incoming;
  for (int peer = 0; peer < round.wire.size(); ++peer) {
    outgoing.push_back(parcel(peer, sent[0]));
    incoming.push_back(parcel(peer, landing[peer]));
  }
  run(round, outgoing, incoming);
  landing.settle();
}

void reduce_scatter(const Round& round, const at::Tensor& output,
                    const std::vector<at::Tensor>& inputs, const c10d::ReduceOp& op) {
  std::vector<at::Tensor> parts;
  for (const auto& input : dense(inputs))
    parts.push_back(prepared(op, input.is_cuda() ? flat(input) : input));
  combine(op, collect(round, parts), flat(output));
}

void all_to_all(const Round& round, const std::vector<at::Tensor>& outputs,
                const std::vector<at::Tensor>& inputs) {
  std::vector<Parcel> outgoing, incoming;
  for (int peer = 0; peer < round.wire.size(); ++peer) {
    outgoing.push_back(parcel(peer, inputs[peer]));
    incoming.push_back(parcel(peer, outputs[peer]));
  }
  run(round, outgoing, incoming);
}

void gather(const Round& round, const std::vector<at::Tensor>& outputs, const at::Tensor& input,
            int root) {
  const auto sent = dense({input});
  Landing landing(outputs);
  std::vector<Parcel> incoming;
  if (round.wire.rank() == root)
    for (int peer = 0; peer < round.wire.size(); ++peer)
      incoming.push_back(parcel(peer, landing[peer]));
  run(round, {parcel(root, sent[0])}, incoming);
  landing.settle();
}

void scatter(const Round& round, const at::Tensor& output, const std::vector<at::Tensor>& inputs,
             int root) {
  const auto sent = dense(inputs);
  std::vector<Parcel> outgoing;
  if (round.wire.rank() == root)
    for (int peer = 0; peer < round.wire.size(); ++peer)
      outgoing.push_back(parcel(peer, sent[peer]));
  run(round, outgoing, {parcel(root, output)});
}

void send(const Round& round, const at::Tensor& tensor, int peer) {
  run(round, {parcel(peer, tensor)}, {}, 1);
}

void receive(const Round& round, const at::Tensor& tensor, int peer) {
  run(round, {}, {parcel(peer, tensor)}, 1);
}

}  // namespace heitu
