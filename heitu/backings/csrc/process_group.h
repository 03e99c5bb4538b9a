// The nccl process group: the plugin's own, called with the plugin's tensors.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include "labels.h"
#include "version.h"

namespace heitu {

// What the plugin's collective gives, for cuda tensors.
class ForwardWork final : public c10d::Work {
 public:
  explicit ForwardWork(c10::intrusive_ptr<c10d::Work> plugin);

  bool isCompleted() override { return plugin_->isCompleted(); }
  bool isSuccess() const override { return plugin_->isSuccess(); }
  std::exception_ptr exception() const override { return plugin_->exception(); }
  int sourceRank() const override { return plugin_->sourceRank(); }
  std::vector<at::Tensor> result() override;
  void synchronize() override { plugin_->synchronize(); }
  bool wait(std::chrono::milliseconds timeout) override { return plugin_->wait(timeout); }
#if HEITU_TORCH_AT_LEAST(2, 9)
  void blockCurrentStream() override { plugin_->blockCurrentStream(); }
#endif
  void abort() override { plugin_->abort(); }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;
  c10::intrusive_ptr<c10::ivalue::Future> getFutureResult() override {
    return plugin_->getFutureResult();
  }
  float getDuration() const override { return plugin_->getDuration(); }
  uint64_t getSequencenumber() const override { return plugin_->getSequencenumber(); }

 private:
  c10::intrusive_ptr<c10d::Work> plugin_;
};

class ForwardProcessGroup final : public c10d::Backend {
 public:
  ForwardProcessGroup(c10::intrusive_ptr<c10d::Backend> plugin,
                      c10::intrusive_ptr<c10d::Backend::Options> options);

  using Tensors = std::vector<at::Tensor>;
  using Lists = std::vector<std::vector<at::Tensor>>;
  using Result = c10::intrusive_ptr<c10d::Work>;

  const std::string getBackendName() const override { return "nccl"; }
#if HEITU_TORCH_AT_LEAST(2, 9)
  c10::intrusive_ptr<Options> getBackendOptions() override { return options_; }
  void setTimeout(std::chrono::milliseconds timeout) override { plugin_->setTimeout(timeout); }
#endif
  bool supportsCoalescing() const override { return plugin_->supportsCoalescing(); }
  void startCoalescing() override { plugin_->startCoalescing(); }
  Result endCoalescing() override { return given(plugin_->endCoalescing()); }

  Result broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override;
  Result allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  Result allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  Result allreduce_coalesced(Tensors& tensors,
                             const c10d::AllreduceCoalescedOptions& options) override;
  Result reduce(Tensors& tensors, const c10d::ReduceOptions& options) override;
  Result allgather(Lists& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) override;
  Result _allgather_base(at::Tensor& output, at::Tensor& input,
                         const c10d::AllgatherOptions& options) override;
  Result allgather_coalesced(Lists& outputs, Tensors& inputs,
                             const c10d::AllgatherOptions& options) override;
  Result allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                         const c10d::AllgatherOptions& options) override;
  Result gather(Lists& outputs, Tensors& inputs, const c10d::GatherOptions& options) override;
  Result scatter(Tensors& outputs, Lists& inputs, const c10d::ScatterOptions& options) override;
  Result reduce_scatter(Tensors& outputs, Lists& inputs,
                        const c10d::ReduceScatterOptions& options) override;
  Result _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                              const c10d::ReduceScatterOptions& options) override;
  Result reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                         const c10d::ReduceScatterOptions& options) override;
  Result alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_sizes,
                       std::vector<int64_t>& input_sizes,
                       const c10d::AllToAllOptions& options) override;
  Result alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& options) override;
  Result send(Tensors& tensors, int rank, int tag) override;
  Result recv(Tensors& tensors, int rank, int tag) override;
  Result recvAnysource(Tensors& tensors, int tag) override;
  Result barrier(const c10d::BarrierOptions& options) override;

  void setSequenceNumberForGroup() override { plugin_->setSequenceNumberForGroup(); }
  uint64_t getSequenceNumberForGroup() override { return plugin_->getSequenceNumberForGroup(); }
#if HEITU_TORCH_AT_LEAST(2, 10)
  void setGroupUid(const std::string& uid) override;
#endif
  void waitForPendingWorks() override { plugin_->waitForPendingWorks(); }
  void enableCollectivesTiming() override { plugin_->enableCollectivesTiming(); }
  void eagerConnectSingleDevice(at::Device device) override {
    plugin_->eagerConnectSingleDevice(plugin_device(device));
  }
  void abort() override { plugin_->abort(); }
  void shutdown() override { plugin_->shutdown(); }

  const c10::intrusive_ptr<c10d::Backend>& plugin() const { return plugin_; }
  const c10::intrusive_ptr<Options>& options() const { return options_; }

 private:
  static Result given(Result plugin);

  c10::intrusive_ptr<c10d::Backend> plugin_;
  c10::intrusive_ptr<Options> options_;
};

}  // namespace heitu
