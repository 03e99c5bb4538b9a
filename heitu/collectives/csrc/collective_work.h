// The work objects of the nccl process group.
#pragma once

#include <functional>
#include <optional>
#include <torch/csrc/distributed/c10d/Work.hpp>

namespace heitu {

// What error texts and results say of one operation.
struct WorkFacts {
  int rank;
  c10d::OpType op;
  uint64_t sequence;
  std::chrono::milliseconds timeout;
  c10::Device device;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> outputs;
};

class CollectiveWork final : public c10d::Work {
 public:
  // `expired` is called when a wait with its own time-out gives up; it aborts the communicator.
  CollectiveWork(WorkFacts facts, std::function<void(const std::string&)> expired);

  // Runs the operation on the calling thread and records how it ended. Returns the reason if it
  // failed.
  std::optional<std::string> run(const std::function<void()>& operation);

  // Blocks the host, not only the stream: what comes next on the stream runs on the host at once.
  bool wait(std::chrono::milliseconds timeout = kNoTimeout) override;
  void synchronize() override { wait(); }
  std::vector<at::Tensor> result() override { return facts_.outputs; }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;
  c10::intrusive_ptr<c10::ivalue::Future> getFutureResult() override;
  float getDuration() const override;  // milliseconds
  uint64_t getSequencenumber() const override { return facts_.sequence; }

  // Waits for the end and does not raise.
  void settle();
  // As wait(), on a lane and for work that runs on another one.
  void join();
  std::chrono::milliseconds timeout() const { return facts_.timeout; }

 private:
  std::string describe() const;
  std::string timed_out(std::chrono::milliseconds ran) const;
  std::exception_ptr translate(const std::exception& error) const;
  void complete(const c10::intrusive_ptr<c10::ivalue::Future>& future);
  void complete_result(const c10::intrusive_ptr<c10::ivalue::Future>& future);

  WorkFacts facts_;
  std::function<void(const std::string&)> expired_;
  std::chrono::steady_clock::time_point created_;
  std::chrono::steady_clock::duration ran_{};
  c10::intrusive_ptr<c10::ivalue::Future> future_;
  c10::intrusive_ptr<c10::ivalue::Future> future_result_;
};

}  // namespace heitu
