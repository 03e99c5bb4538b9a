#include "process_group_nccl.h"

#include <ATen/ops/isnan.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/zeros.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "capture.h"
#include "captured_collective.h"
#include "reduction.h"
#include "streams.h"
#include "tensor_checks.h"

namespace heitu {
namespace {

using c10d::OpType;

// Releases before 2.8 know synchronous calls for some collectives only; there all are asynchronous.
template <class Opts>
bool is_async(const Opts& opts) {
  if constexpr (requires { opts.asyncOp; }) {
    return opts.asyncOp;
  } else {
    return true;
  }
}

template <class Opts>
std::chrono::milliseconds own_timeout(const Opts& opts) {
  return opts.timeout;
}

// Complex numbers travel, and where that is right are reduced, as pairs of reals.
at::Tensor as_reals(const at::Tensor& tensor) {
  return tensor.is_complex() ? at::view_as_real(tensor) : tensor;
}

std::vector<int64_t> even(int64_t numel, int size) {
  return std::vector<int64_t>(size, numel / size);
}

std::vector<at::Tensor> even_pieces(const at::Tensor& tensor, int size) {
  return pieces(tensor, even(tensor.numel(), size));
}

// Elements a rank sends or receives, from splits of the first dimension.
std::vector<int64_t> counts(const std::vector<int64_t>& splits, const at::Tensor& tensor,
                            int size) {
  if (splits.empty()) {
    TORCH_CHECK(tensor.dim() > 0 && tensor.size(0) % size == 0,
                "Tensor's dim 0 does not divide equally across group size");
    return even(tensor.numel(), size);
  }
  c10d::checkSplitSizes(splits, tensor, size);
  const auto row = tensor.size(0) > 0 ? tensor.numel() / tensor.size(0) : 0;
  std::vector<int64_t> all;
  for (const auto split : splits) all.push_back(split * row);
  return all;
}

void check_base(const at::Tensor& whole, const at::Tensor& part, int size, const char* type_error,
                const char* size_error) {
  check_tensor(whole);
  check_tensor(part);
  if (whole.scalar_type() != part.scalar_type()) C10_THROW_ERROR(TypeError, type_error);
  if (whole.numel() != part.numel() * size) C10_THROW_ERROR(ValueError, size_error);
}

constexpr const char* kGatherType = "output tensor must have the same type as input tensor";
constexpr const char* kGatherSize =
    "output tensor size must be equal to world_size times input tensor size";
constexpr const char* kScatterType = "input tensor must be the same type as the output tensor.";
constexpr const char* kScatterSize =
    "input tensor must be the same size as output size times world size";

// Whether reducing complex numbers is reducing their real and imaginary parts.
bool acts_on_parts(const c10d::ReduceOp& op) {
  return op == c10d::ReduceOp::SUM || op == c10d::ReduceOp::AVG ||
         op == c10d::ReduceOp::PREMUL_SUM || op == c10d::ReduceOp::UNUSED;
}

KeepOptions& keep_options() {
  static auto* keep = new KeepOptions;
  return *keep;
}

}  // namespace

void set_keep_options(KeepOptions keep) { keep_options() = std::move(keep); }

ProcessGroupNccl::ProcessGroupNccl(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                                   c10::intrusive_ptr<Options> options)
    : Backend(rank, size),
      store_(std::move(store)),
      options_(std::move(options)),
      python_options_(keep_options()(options_)),
      communicator_(Communicator::make(store_, rank, size)),
      nan_check_(c10d::getCvarBool({"TORCH_NCCL_NAN_CHECK"}, false)) {
  TORCH_CHECK_WITH(ValueError, device_count() != 0,
                   "ProcessGroupNCCL is only supported with GPUs, no GPUs found!");
}

ProcessGroupNccl::~ProcessGroupNccl() = default;

// ---- the way of one call ----

template <class Opts>
ProcessGroupNccl::Call ProcessGroupNccl::call(OpType op, const Opts& opts) const {
  const auto asked = own_timeout(opts);
  const auto base = asked == c10d::kUnsetTimeout ? options_->timeout : asked;
  auto extension = extension_.take();
  return {op, base + extension.duration, is_async(opts), std::move(extension.use)};
}

void ProcessGroupNccl::check_nan(const Tensors& inputs) const {
  if (!nan_check_) return;
  for (const auto& input : inputs) {
    if (!input.defined() || !at::isFloatingType(input.scalar_type())) continue;
    TORCH_CHECK(!at::isnan(flat(input).to(at::kFloat)).any().item<bool>(),
                "CUDA error: device-side assert triggered (TORCH_NCCL_NAN_CHECK: the input of a "
                "collective holds NaN)");
  }
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::finish(const Call& call,
                                                   c10::intrusive_ptr<CollectiveWork> work) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (coalescing_) {
    coalesced_.push_back(work);
    return work;
  }
  lock.unlock();
  if (!call.async) work->wait();
  return work;
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::launch(const Call& call, Tensors inputs,
                                                   Tensors outputs, Operation operation) {
  if (capturing()) return capture(call, inputs, outputs, std::move(operation));
  return finish(call, start(call, std::move(inputs), std::move(outputs), std::move(operation)));
}

c10::intrusive_ptr<CollectiveWork> ProcessGroupNccl::start(const Call& call, Tensors inputs,
                                                           Tensors outputs, Operation operation) {
  const auto device = (inputs.empty() ? outputs : inputs).front().device();
  check_nan(inputs);
  communicator_->connect(device, call.timeout);
  used_device_ = device.index();
  const uint64_t sequence = ++sequence_;
  const auto op = call.op;
  WorkFacts facts{rank_, op, sequence, call.timeout, device, inputs, outputs};
  return communicator_->launch(
      std::move(facts),
      [=, extension = call.extension, inputs = std::move(inputs), outputs = std::move(outputs),
       operation = std::move(operation)](Wire& wire, Deadline deadline) mutable {
        const auto ending = std::exchange(extension, nullptr);
        operation({{wire, {sequence, static_cast<int64_t>(op)}, deadline}, inputs, outputs});
      });
}

// ---- in CUDA graphs ----

ProcessGroupNccl::WorkPtr ProcessGroupNccl::capture(Call call, const Tensors& inputs,
                                                    const Tensors& outputs, Operation operation) {
  call.extension = nullptr;  // the graph holds the call for good
  const auto self = c10::weak_intrusive_ptr<ProcessGroupNccl>(
      c10::intrusive_ptr<ProcessGroupNccl>::unsafe_reclaim_from_nonowning(this));
  auto work = capture_collective(
      inputs, outputs,
      [=, operation = std::move(operation)](const Tensors& in, const Tensors& out) {
        const auto group = self.lock();
        TORCH_CHECK(group, "A CUDA graph holds a collective of a process group that is gone.");
        return group->start(call, in, out, operation);
      });
  return finish(call, std::move(work));
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::broadcast(Tensors& tensors,
                                                      const c10d::BroadcastOptions& opts) {
  check_tensor(single(tensors));
  const auto tensor = as_reals(tensors[0]);
  check_dtype(tensor.scalar_type());
  const auto root = static_cast<int>(opts.rootRank + opts.rootTensor);
  return launch(call(OpType::BROADCAST, opts), {tensor}, {tensor},
                [=](const Run& run) { heitu::broadcast(run.round, run.in[0], root); });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::allreduce(Tensors& tensors,
                                                      const c10d::AllreduceOptions& opts) {
  check_tensor(single(tensors));
  if (tensors[0].is_complex())
    TORCH_CHECK(acts_on_parts(opts.reduceOp), "all_reduce does not support ",
                static_cast<int>(opts.reduceOp.op_), " on complex tensors");
  const auto tensor = as_reals(tensors[0]);
  check_reduction(opts.reduceOp, tensor.scalar_type());
  const auto reduction = opts.reduceOp;
  return launch(call(OpType::ALLREDUCE, opts), {tensor}, {tensor}, [=](const Run& run) {
    heitu::reduce(run.round, run.in[0], reduction, std::nullopt);
  });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::allreduce_sparse(Tensors&,
                                                             const c10d::AllreduceOptions&) {
  C10_THROW_ERROR(
      Error,
      "NCCL does not support all_reduce with sparse tensors. Please use dense tensors instead.");
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::allreduce_coalesced(
    Tensors& tensors, const c10d::AllreduceCoalescedOptions& opts) {
  check_coalesced(tensors);
  check_reduction(opts.reduceOp, tensors[0].scalar_type());
  const auto reduction = opts.reduceOp;
  return launch(call(OpType::COALESCED, opts), tensors, tensors, [=](const Run& run) {
    for (const auto& tensor : run.in) heitu::reduce(run.round, tensor, reduction, std::nullopt);
  });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::reduce(Tensors& tensors,
                                                   const c10d::ReduceOptions& opts) {
  check_tensor(single(tensors));
  const auto tensor = as_reals(tensors[0]);
  check_reduction(opts.reduceOp, tensor.scalar_type());
  const auto reduction = opts.reduceOp;
  const auto root = static_cast<int>(opts.rootRank + opts.rootTensor);
  return launch(call(OpType::REDUCE, opts), {tensor}, {tensor},
                [=](const Run& run) { heitu::reduce(run.round, run.in[0], reduction, root); });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::allgather(TensorLists& outputs, Tensors& inputs,
                                                      const c10d::AllgatherOptions& opts) {
  const auto input = single(inputs);
  check_tensor(input);
  check_dtype(input.scalar_type());
  const auto places = single(outputs);
  TORCH_CHECK(static_cast<int>(places.size()) == size_, "all_gather: the output list has ",
              places.size(), " tensors, the group ", size_, " ranks");
  return launch(call(OpType::ALLGATHER, opts), {input}, places,
                [=](const Run& run) { heitu::all_gather(run.round, run.out, run.in[0]); });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                            const c10d::AllgatherOptions& opts) {
  check_base(output, input, size_, kGatherType, kGatherSize);
  check_dtype(input.scalar_type());
  return launch(call(OpType::_ALLGATHER_BASE, opts), {input}, {output}, [=](const Run& run) {
    heitu::all_gather(run.round, even_pieces(run.out[0], run.size()), flat(run.in[0]));
  });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::allgather_coalesced(TensorLists&, Tensors&,
                                                                const c10d::AllgatherOptions&) {
  C10_THROW_ERROR(NotImplementedError, "ProcessGroupNCCL does not support allgather_coalesced");
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::allgather_into_tensor_coalesced(
    Tensors& outputs, Tensors& inputs, const c10d::AllgatherOptions& opts) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_base(outputs.at(i), inputs[i], size_, kGatherType, kGatherSize);
    check_dtype(inputs[i].scalar_type());
  }
  return launch(call(OpType::COALESCED, opts), inputs, outputs, [](const Run& run) {
    for (size_t i = 0; i < run.in.size(); ++i)
      heitu::all_gather(run.round, even_pieces(run.out[i], run.size()), flat(run.in[i]));
  });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::reduce_scatter(Tensors& outputs, TensorLists& inputs,
                                                           const c10d::ReduceScatterOptions& opts) {
  const auto output = single(outputs);
  check_tensor(output);
  check_reduction(opts.reduceOp, output.scalar_type());
  const auto parts = single(inputs);
  TORCH_CHECK(static_cast<int>(parts.size()) == size_, "reduce_scatter: the input list has ",
              parts.size(), " tensors, the group ", size_, " ranks");
  TORCH_CHECK(parts[rank_].numel() == output.numel(), "reduce_scatter: input ", rank_, " has ",
              parts[rank_].numel(), " elements, the output ", output.numel());
  const auto reduction = opts.reduceOp;
  return launch(call(OpType::REDUCE_SCATTER, opts), parts, {output}, [=](const Run& run) {
    heitu::reduce_scatter(run.round, run.out[0], run.in, reduction);
  });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::_reduce_scatter_base(
    at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions& opts) {
  check_base(input, output, size_, kScatterType, kScatterSize);
  check_reduction(opts.reduceOp, output.scalar_type());
  const auto reduction = opts.reduceOp;
  return launch(call(OpType::_REDUCE_SCATTER_BASE, opts), {input}, {output}, [=](const Run& run) {
    heitu::reduce_scatter(run.round, run.out[0], even_pieces(run.in[0], run.size()), reduction);
  });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::reduce_scatter_tensor_coalesced(
    Tensors& outputs, Tensors& inputs, const c10d::ReduceScatterOptions& opts) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_base(inputs[i], outputs.at(i), size_, kScatterType, kScatterSize);
    check_reduction(opts.reduceOp, inputs[i].scalar_type());
  }
  return launch(call(OpType::COALESCED, opts), inputs, outputs,
                [reduction = opts.reduceOp](const Run& run) {
                  for (size_t i = 0; i < run.in.size(); ++i)
                    heitu::reduce_scatter(run.round, run.out[i], even_pieces(run.in[i], run.size()),
                                          reduction);
                });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::alltoall_base(at::Tensor& output, at::Tensor& input,
                                                          std::vector<int64_t>& output_splits,
                                                          std::vector<int64_t>& input_splits,
                                                          const c10d::AllToAllOptions& opts) {
  check_tensor(output);
  check_tensor(input);
  check_dtype(input.scalar_type());
  const auto received = counts(output_splits, output, size_);
  const auto sent = counts(input_splits, input, size_);
  return launch(call(OpType::ALLTOALL_BASE, opts), {input}, {output}, [=](const Run& run) {
    heitu::all_to_all(run.round, pieces(run.out[0], received), pieces(run.in[0], sent));
  });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::alltoall(Tensors& outputs, Tensors& inputs,
                                                     const c10d::AllToAllOptions& opts) {
  const auto invalid = [](const std::string& text) {
    C10_THROW_ERROR(ValueError, "ProcessGroupNCCL::alltoall: " + text);
  };
  check_list_size(invalid, "input", inputs.size(), size_);
  check_list_size(invalid, "output", outputs.size(), size_);
  for (size_t i = 0; i < outputs.size(); ++i) {
    check_tensor(outputs[i]);
    check_tensor(inputs[i]);
    check_dtype(inputs[i].scalar_type());
    TORCH_CHECK(
        outputs[i].device() == outputs[0].device() && inputs[i].device() == outputs[0].device(),
        "Tensors must be on the same device");
  }
  return launch(call(OpType::ALLTOALL, opts), inputs, outputs,
                [](const Run& run) { heitu::all_to_all(run.round, run.out, run.in); });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::gather(TensorLists& outputs, Tensors& inputs,
                                                   const c10d::GatherOptions& opts) {
  const auto invalid = [](const std::string& text) {
    C10_THROW_ERROR(ValueError, "ProcessGroupNCCL::gather: " + text);
  };
  c10d::assertRootRank(invalid, opts.rootRank, size_);
  const auto input = single(inputs);
  check_tensor(input);
  check_dtype(input.scalar_type());
  Tensors places;
  if (rank_ == opts.rootRank) {
    check_list_of_root(invalid, "output", outputs, size_);
    c10d::assertTypeAndSizesMatch(invalid, outputs[0], input.options(), input.sizes());
    places = outputs[0];
  } else if (!outputs.empty()) {
    invalid("requires empty output on non-root");
  }
  const auto root = static_cast<int>(opts.rootRank);
  return launch(call(OpType::GATHER, opts), {input}, places,
                [=](const Run& run) { heitu::gather(run.round, run.out, run.in[0], root); });
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::scatter(Tensors& outputs, TensorLists& inputs,
                                                    const c10d::ScatterOptions& opts) {
  const auto invalid = [](const std::string& text) {
    C10_THROW_ERROR(ValueError, "ProcessGroupNCCL::scatter: " + text);
  };
  c10d::assertRootRank(invalid, opts.rootRank, size_);
  const auto output = single(outputs);
  check_tensor(output);
  check_dtype(output.scalar_type());
  Tensors parts;
  if (rank_ == opts.rootRank) {
    check_list_of_root(invalid, "input", inputs, size_);
    c10d::assertTypeAndSizesMatch(invalid, inputs[0], output.options(), output.sizes());
    parts = inputs[0];
  } else if (!inputs.empty()) {
    invalid("requires empty input on non-root");
  }
  const auto root = static_cast<int>(opts.rootRank);
  return launch(call(OpType::SCATTER, opts), parts, {output},
                [=](const Run& run) { heitu::scatter(run.round, run.out[0], run.in, root); });
}

// ---- point to point ----

ProcessGroupNccl::WorkPtr ProcessGroupNccl::point_to_point(OpType op, Tensors& tensors, int peer) {
  const auto tensor = single(tensors);
  check_tensor(tensor, true);
  TORCH_CHECK(!capturing(),
              "send and recv of the nccl process group cannot be captured into a CUDA graph on an "
              "emulated device; call them outside of torch.cuda.graph().");
  check_dtype(tensor.scalar_type());
  check_nan(op == OpType::SEND ? tensors : Tensors{});
  communicator_->connect_peer(peer, tensor.device(), options_->timeout);
  used_device_ = tensor.device().index();
  // NCCL knows no tags: what was sent first is received first.
  auto work = communicator_->launch_to_peer(
      {rank_, op, sequence_, options_->timeout, tensor.device(), {tensor}, {tensor}}, peer,
      [=](Wire& wire, Deadline deadline) {
        const Round round{wire, {}, deadline};
        op == OpType::SEND ? heitu::send(round, tensor, peer) : heitu::receive(round, tensor, peer);
      });
  return finish({op, options_->timeout, true, nullptr}, std::move(work));
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::send(Tensors& tensors, int destination, int) {
  return point_to_point(OpType::SEND, tensors, destination);
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::recv(Tensors& tensors, int source, int) {
  return point_to_point(OpType::RECV, tensors, source);
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::recvAnysource(Tensors&, int) {
  C10_THROW_ERROR(NotImplementedError, "ProcessGroupNCCL does not support recvAnysource");
}

// ---- barrier, coalescing, life ----

c10::DeviceIndex ProcessGroupNccl::barrier_device(const c10d::BarrierOptions& opts) const {
  if (!opts.device_ids.empty()) return static_cast<c10::DeviceIndex>(opts.device_ids[0]);
  if (const auto bound = getBoundDeviceId()) return bound->index();
  if (used_device_ >= 0) return static_cast<c10::DeviceIndex>(used_device_.load());
  auto global = static_cast<uint64_t>(rank_);
#if HEITU_TORCH_AT_LEAST(2, 9)
  if (const auto& ranks = options_->global_ranks_in_group; !ranks.empty()) global = ranks[rank_];
#endif
  return static_cast<c10::DeviceIndex>(global % device_count());
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::barrier(const c10d::BarrierOptions& opts) {
  const auto device = barrier_device(opts);
  TORCH_CHECK_WITH(ValueError, device >= 0, "Failed to infer a GPU device id to perform barrier. ");
  const auto token =
      at::zeros({1}, at::TensorOptions().device(c10::Device(c10::kCUDA, device)).dtype(at::kFloat));
  return launch(call(OpType::BARRIER, opts), {token}, {token}, [](const Run& run) {
    heitu::reduce(run.round, run.in[0], c10d::ReduceOp(c10d::ReduceOp::SUM), std::nullopt);
  });
}

void ProcessGroupNccl::startCoalescing() {
  std::lock_guard<std::mutex> lock(mutex_);
  coalescing_ = true;
  coalesced_.clear();
}

ProcessGroupNccl::WorkPtr ProcessGroupNccl::endCoalescing() {
  std::lock_guard<std::mutex> lock(mutex_);
  coalescing_ = false;
  if (coalesced_.empty()) return nullptr;
  const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(used_device_.load()));
  return communicator_->join(
      {rank_, OpType::COALESCED, sequence_, options_->timeout, device, {}, {}},
      std::exchange(coalesced_, {}));
}

void ProcessGroupNccl::eagerConnectSingleDevice(at::Device device) {
  communicator_->connect(device, options_->timeout);
  used_device_ = device.index();
}

c10::intrusive_ptr<c10d::Backend> ProcessGroupNccl::split(
    const c10::intrusive_ptr<c10d::Store>& /*store*/, const std::vector<int>& ranks,
    const c10::intrusive_ptr<c10d::Backend::Options>& options) {
  const auto place = std::find(ranks.begin(), ranks.end(), rank_);
  ++splits_;
  if (place == ranks.end()) return nullptr;
  TORCH_CHECK(options && options->backend == "nccl",
              "backend options not defined or not of type ProcessGroupNCCL.Options");
  // Not the store that is given: its prefix is the child's name, which may differ between ranks.
  // Splits are collective, so all ranks count alike, and children of one split share no rank.
  const auto prefix = c10::str("split/", splits_, "/", ranks.front());
  auto child = c10::make_intrusive<ProcessGroupNccl>(
      c10::make_intrusive<c10d::PrefixStore>(prefix, store_),
      static_cast<int>(place - ranks.begin()), static_cast<int>(ranks.size()), options);
  if (const auto bound = getBoundDeviceId()) child->setBoundDeviceId(bound);
  return child;
}

c10d::ErrorType ProcessGroupNccl::getError() {
  const auto failure = communicator_->failure();
  if (!failure) return c10d::ErrorType::SUCCESS;
  if (failure->find("timeout") != std::string::npos) return c10d::ErrorType::TIMEOUT;
  return failure->find("remote process") != std::string::npos ? c10d::ErrorType::REMOTE_ERROR
                                                              : c10d::ErrorType::COMM_ERROR;
}

void ProcessGroupNccl::abort() {
  communicator_->abort("the process group was aborted by the program");
}

void ProcessGroupNccl::shutdown() {
  communicator_->drain();
  communicator_->abort("the process group was shut down");
}

}  // namespace heitu
