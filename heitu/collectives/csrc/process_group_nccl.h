// The process group that torch.distributed calls "nccl", over gloo.
//
// Operations of one group run in the order of their calls, on a thread of their own, as NCCL's do
// on a stream of their own; wait() blocks the host, because what follows on the stream runs at
// once.
#pragma once

#include <climits>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "collectives.h"
#include "communicator.h"
#include "timeout_extension.h"

namespace heitu {

// Keeps the Python object of options alive, whose class adds attributes; supplied by the binding.
using KeepOptions =
    std::function<std::shared_ptr<void>(const c10::intrusive_ptr<c10d::Backend::Options>&)>;
void set_keep_options(KeepOptions keep);

class ProcessGroupNccl final : public c10d::Backend {
 public:
  using Options = c10d::Backend::Options;
  using WorkPtr = c10::intrusive_ptr<c10d::Work>;
  using Tensors = std::vector<at::Tensor>;
  using TensorLists = std::vector<std::vector<at::Tensor>>;

  ProcessGroupNccl(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                   c10::intrusive_ptr<Options> options);
  ~ProcessGroupNccl() override;

  const std::string getBackendName() const override { return "nccl"; }
  int64_t splits() const { return splits_; }
  bool connected() const { return communicator_->connected(); }
  void set_nan_check(bool enable) { nan_check_ = enable; }
  void extend_timeout(std::chrono::milliseconds extra) { extension_.add(extra); }

  WorkPtr broadcast(Tensors& tensors, const c10d::BroadcastOptions& opts) override;
  WorkPtr allreduce(Tensors& tensors, const c10d::AllreduceOptions& opts) override;
  WorkPtr allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& opts) override;
  WorkPtr allreduce_coalesced(Tensors& tensors,
                              const c10d::AllreduceCoalescedOptions& opts) override;
  WorkPtr reduce(Tensors& tensors, const c10d::ReduceOptions& opts) override;
  WorkPtr allgather(TensorLists& outputs, Tensors& inputs,
                    const c10d::AllgatherOptions& opts) override;
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input,
                          const c10d::AllgatherOptions& opts) override;
  WorkPtr allgather_coalesced(TensorLists& outputs, Tensors& inputs,
                              const c10d::AllgatherOptions& opts) override;
  WorkPtr allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::AllgatherOptions& opts) override;
  WorkPtr gather(TensorLists& outputs, Tensors& inputs, const c10d::GatherOptions& opts) override;
  WorkPtr scatter(Tensors& outputs, TensorLists& inputs, const c10d::ScatterOptions& opts) override;
  WorkPtr reduce_scatter(Tensors& outputs, TensorLists& inputs,
                         const c10d::ReduceScatterOptions& opts) override;
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions& opts) override;
  WorkPtr reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::ReduceScatterOptions& opts) override;
  WorkPtr alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_splits,
                        std::vector<int64_t>& input_splits,
                        const c10d::AllToAllOptions& opts) override;
  WorkPtr alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& opts) override;
  WorkPtr send(Tensors& tensors, int destination, int tag) override;
  WorkPtr recv(Tensors& tensors, int source, int tag) override;
  WorkPtr recvAnysource(Tensors& tensors, int tag) override;
  WorkPtr barrier(const c10d::BarrierOptions& opts) override;

  bool supportsCoalescing() const override { return true; }
  void startCoalescing() override;
  WorkPtr endCoalescing() override;

  void setSequenceNumberForGroup() override {}  // all ranks count from 0
  uint64_t getSequenceNumberForGroup() override { return sequence_; }
  void eagerConnectSingleDevice(at::Device device) override;
  void waitForPendingWorks() override { communicator_->drain(); }
  void enableCollectivesTiming() override {}  // always on

  // These are not in every release's Backend, so none says override.
  c10::intrusive_ptr<Options> getBackendOptions() { return options_; }
  bool supportsSplitting() const { return true; }
  c10::intrusive_ptr<c10d::Backend> split(
      const c10::intrusive_ptr<c10d::Store>& store, const std::vector<int>& ranks,
      const c10::intrusive_ptr<c10d::Backend::Options>& options);
  void setTimeout(std::chrono::milliseconds timeout) { options_->timeout = timeout; }
  c10d::ErrorType getError();
  void abort();
  void shutdown();

 private:
  // How an operation is called: time-out, and whether the caller waits.
  struct Call {
    c10d::OpType op;
    std::chrono::milliseconds timeout;
    bool async;
    std::shared_ptr<void> extension;  // held until it has run
  };
  template <class Opts>
  Call call(c10d::OpType op, const Opts& opts) const;

  // One run of an operation. An operation is given its tensors and holds none, so that a CUDA graph
  // may keep it without keeping memory.
  struct Run {
    Round round;
    const Tensors& in;
    const Tensors& out;
    int size() const { return round.wire.size(); }
  };
  using Operation = std::function<void(const Run&)>;
  WorkPtr launch(const Call& call, Tensors inputs, Tensors outputs, Operation operation);
  c10::intrusive_ptr<CollectiveWork> start(const Call& call, Tensors inputs, Tensors outputs,
                                           Operation operation);
  // Runs the operation and has the graph under capture run it again at each replay.
  WorkPtr capture(Call call, const Tensors& inputs, const Tensors& outputs, Operation operation);
  WorkPtr point_to_point(c10d::OpType op, Tensors& tensors, int peer);
  WorkPtr finish(const Call& call, c10::intrusive_ptr<CollectiveWork> work);
  void check_nan(const Tensors& inputs) const;
  c10::DeviceIndex barrier_device(const c10d::BarrierOptions& opts) const;

  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<Options> options_;
  std::shared_ptr<void> python_options_;
  std::shared_ptr<Communicator> communicator_;
  std::mutex mutex_;
  std::atomic<uint64_t> sequence_{0};
  std::atomic<int> used_device_{-1};
  TimeoutExtension extension_;
  int64_t splits_ = 0;
  bool nan_check_;
  bool coalescing_ = false;
  std::vector<c10::intrusive_ptr<CollectiveWork>> coalesced_;
};

}  // namespace heitu
