// The plugin's process group: gloo on the bytes of the device's tensors.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>
#include <unordered_set>

#include "kernels.h"

namespace standin {

class VendorWork final : public c10d::Work {
 public:
  VendorWork(c10d::OpType type, c10::intrusive_ptr<c10d::Work> inner, std::vector<at::Tensor> held,
             std::vector<at::Tensor> results, std::function<void()> finish)
      : c10d::Work(-1, type),
        inner_(std::move(inner)),
        held_(std::move(held)),
        results_(std::move(results)),
        finish_(std::move(finish)) {}

  bool isCompleted() override { return inner_->isCompleted(); }
  bool isSuccess() const override { return inner_->isSuccess(); }
  std::exception_ptr exception() const override { return inner_->exception(); }
  int sourceRank() const override { return inner_->sourceRank(); }
  std::vector<at::Tensor> result() override { return results_; }
  bool wait(std::chrono::milliseconds timeout) override {
    inner_->wait(timeout);
    std::call_once(finished_, [this] {
      if (finish_) finish_();
    });
    return true;
  }
  void synchronize() override { wait(kNoTimeout); }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override {
    wait(kNoTimeout);
    std::vector<c10::Device> devices;
    if (!results_.empty()) devices.push_back(results_[0].device());
    auto future = c10::make_intrusive<c10::ivalue::Future>(
        c10::ListType::create(c10::TensorType::get()), devices);
    future->markCompleted(c10::IValue(results_));
    return future;
  }

 private:
  c10::intrusive_ptr<c10d::Work> inner_;
  std::vector<at::Tensor> held_;
  std::vector<at::Tensor> results_;
  std::function<void()> finish_;
  std::once_flag finished_;
};

class VendorGroup final : public c10d::Backend {
 public:
  using Tensors = std::vector<at::Tensor>;
  using Lists = std::vector<Tensors>;
  using Made = c10::intrusive_ptr<c10d::Work>;

  VendorGroup(c10::intrusive_ptr<c10d::Backend> inner, std::string name,
              std::unordered_set<std::string> missing)
      : c10d::Backend(inner->getRank(), inner->getSize()),
        inner_(std::move(inner)),
        name_(std::move(name)),
        missing_(std::move(missing)) {}

  const std::string getBackendName() const override { return name_; }
  c10::intrusive_ptr<Options> getBackendOptions() override {
    return c10::make_intrusive<Options>(name_, options_.timeout);
  }
  void setTimeout(std::chrono::milliseconds timeout) override { options_.timeout = timeout; }
  void setSequenceNumberForGroup() override {}
  uint64_t getSequenceNumberForGroup() override { return sequence_; }

  Made broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override {
    auto hosts = lower("broadcast", tensors);
    return work(c10d::OpType::BROADCAST, inner_->broadcast(hosts, options), tensors);
  }
  Made allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override {
    auto hosts = lower("allreduce", tensors);
    auto summed = options;
    summed.reduceOp = sum_for(options.reduceOp);
    return work(c10d::OpType::ALLREDUCE, inner_->allreduce(hosts, summed), tensors,
                averaging(options.reduceOp, hosts));
  }
  Made allreduce_coalesced(Tensors& tensors,
                           const c10d::AllreduceCoalescedOptions& options) override {
    auto hosts = lower("allreduce_coalesced", tensors);
    return work(c10d::OpType::ALLREDUCE, inner_->allreduce_coalesced(hosts, options), tensors);
  }
  Made reduce(Tensors& tensors, const c10d::ReduceOptions& options) override {
    auto hosts = lower("reduce", tensors);
    return work(c10d::OpType::REDUCE, inner_->reduce(hosts, options), tensors);
  }
  Made allgather(Lists& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) override {
    auto from = lower("allgather", inputs);
    auto to = lower(outputs);
    return work(c10d::OpType::ALLGATHER, inner_->allgather(to, from, options), outputs[0], {},
                inputs);
  }
  Made _allgather_base(at::Tensor& output, at::Tensor& input,
                       const c10d::AllgatherOptions& options) override {
    auto from = lower("_allgather_base", input), to = lower(output);
    return work(c10d::OpType::_ALLGATHER_BASE, inner_->_allgather_base(to, from, options), {output},
                {}, {input});
  }
  Made allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                       const c10d::AllgatherOptions& options) override {
    auto from = lower("allgather_into_tensor_coalesced", inputs);
    Made last;
    for (size_t i = 0; i < inputs.size(); ++i) {
      auto to = lower(outputs[i]);
      last = inner_->_allgather_base(to, from[i], options);
      last->wait();
    }
    return work(c10d::OpType::COALESCED, last, outputs, {}, inputs);
  }
  Made gather(Lists& outputs, Tensors& inputs, const c10d::GatherOptions& options) override {
    auto from = lower("gather", inputs);
    auto to = lower(outputs);
    return work(c10d::OpType::GATHER, inner_->gather(to, from, options),
                outputs.empty() ? Tensors() : outputs[0], {}, inputs);
  }
  Made scatter(Tensors& outputs, Lists& inputs, const c10d::ScatterOptions& options) override {
    auto to = lower("scatter", outputs);
    auto from = lower(inputs);
    return work(c10d::OpType::SCATTER, inner_->scatter(to, from, options), outputs, {},
                inputs.empty() ? Tensors() : inputs[0]);
  }
  Made reduce_scatter(Tensors& outputs, Lists& inputs,
                      const c10d::ReduceScatterOptions& options) override {
    auto to = lower("reduce_scatter", outputs);
    auto from = lower(inputs);
    auto summed = options;
    summed.reduceOp = sum_for(options.reduceOp);
    return work(c10d::OpType::REDUCE_SCATTER, inner_->reduce_scatter(to, from, summed), outputs,
                averaging(options.reduceOp, to), inputs[0]);
  }
  Made _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                            const c10d::ReduceScatterOptions& options) override {
    auto to = lower("_reduce_scatter_base", output), from = lower(input);
    auto summed = options;
    summed.reduceOp = sum_for(options.reduceOp);
    return work(c10d::OpType::_REDUCE_SCATTER_BASE, inner_->_reduce_scatter_base(to, from, summed),
                {output}, averaging(options.reduceOp, {to}), {input});
  }
  Made alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& to_sizes,
                     std::vector<int64_t>& from_sizes,
                     const c10d::AllToAllOptions& options) override {
    auto to = lower("alltoall_base", output), from = lower(input);
    return work(c10d::OpType::ALLTOALL_BASE,
                inner_->alltoall_base(to, from, to_sizes, from_sizes, options), {output}, {},
                {input});
  }
  Made send(Tensors& tensors, int to, int tag) override {
    auto hosts = lower("send", tensors);
    return work(c10d::OpType::SEND, inner_->send(hosts, to, tag), tensors);
  }
  Made recv(Tensors& tensors, int from, int tag) override {
    auto hosts = lower("recv", tensors);
    return work(c10d::OpType::RECV, inner_->recv(hosts, from, tag), tensors);
  }
  Made barrier(const c10d::BarrierOptions& options) override {
    count("barrier");
    auto plain = options;
    plain.device.reset();
    plain.device_ids.clear();
    return work(c10d::OpType::BARRIER, inner_->barrier(plain), {});
  }
  void abort() override { inner_->abort(); }
  void shutdown() override { inner_->shutdown(); }

 private:
  void count(const std::string& name) {
    TORCH_CHECK(missing_.count(name) == 0, "Backend ", name_, " does not support ", name);
    ++sequence_;
    calls.count(name_ + ":" + name);
  }
  static at::Tensor lower(const at::Tensor& tensor) {
    TORCH_CHECK(tensor.device().is_privateuseone(), "No backend type associated with device type ",
                tensor.device().type(), " in the stand-in's process group");
    return host_view(tensor);
  }
  at::Tensor lower(const char* name, const at::Tensor& tensor) {
    count(name);
    return lower(tensor);
  }
  Tensors lower(const char* name, const Tensors& tensors) {
    count(name);
    return lower(tensors);
  }
  static Tensors lower(const Tensors& tensors) {
    Tensors made;
    for (const auto& tensor : tensors) made.push_back(lower(tensor));
    return made;
  }
  static Lists lower(const Lists& lists) {
    Lists made;
    for (const auto& list : lists) made.push_back(lower(list));
    return made;
  }
  static c10d::ReduceOp sum_for(const c10d::ReduceOp& op) {
    return op == c10d::ReduceOp::AVG ? c10d::ReduceOp(c10d::ReduceOp::SUM) : op;
  }
  std::function<void()> averaging(const c10d::ReduceOp& op, Tensors hosts) {
    if (!(op == c10d::ReduceOp::AVG)) return {};
    return [hosts = std::move(hosts), size = getSize()] {
      c10::impl::ExcludeDispatchKeyGuard below(kBelow);
      for (const auto& host : hosts) host.div_(size);
    };
  }
  static Made work(c10d::OpType type, Made inner, const Tensors& results,
                   std::function<void()> finish = {}, const Tensors& inputs = {}) {
    auto held = results;
    held.insert(held.end(), inputs.begin(), inputs.end());
    return c10::make_intrusive<VendorWork>(type, std::move(inner), std::move(held), results,
                                           std::move(finish));
  }

  c10::intrusive_ptr<c10d::Backend> inner_;
  std::string name_;
  std::unordered_set<std::string> missing_;
  struct {
    std::chrono::milliseconds timeout = std::chrono::minutes(30);
  } options_;
  uint64_t sequence_ = 0;
};

class VendorTimer final : public c10d::Timer {
 public:
  explicit VendorTimer(c10::Device) {}
  std::optional<int64_t> measureDifference(Event start, Event end) override {
    const auto from = getTimestamp(start), to = getTimestamp(end);
    if (!from || !to || *to < *from) return std::nullopt;
    return *to - *from;
  }
};

}  // namespace standin

namespace c10d {
C10_REGISTER_TYPED_CLASS(TimerRegistry, c10::kPrivateUse1, standin::VendorTimer)
}  // namespace c10d
