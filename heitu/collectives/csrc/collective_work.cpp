#include "collective_work.h"

#include <ATen/core/ivalue.h>
#include <pthread.h>

#include <thread>

#include "lane.h"

namespace heitu {

// ---- Lane ----

namespace {
thread_local bool this_is_a_lane = false;

// Held while a task is let go of.
std::mutex& ended_tasks_mutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}

bool ended_tasks_are_kept = false;

void let_go(std::function<void()> task) {
  std::lock_guard<std::mutex> lock(ended_tasks_mutex());
  if (ended_tasks_are_kept)
    new std::function<void()>(std::move(task));
  else
    task = nullptr;
}
}  // namespace

Lane::Lane() : state_(std::make_shared<State>()) {
  std::thread thread([state = state_] { run(state); });
  pthread_setname_np(thread.native_handle(), "heitu_nccl");
  thread.detach();
}

Lane::~Lane() {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->closing = true;
  state_->changed.notify_all();
}

void Lane::post(std::function<void()> task) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->tasks.push_back(std::move(task));
  ++state_->posted;
  state_->changed.notify_all();
}

void Lane::drain() {
  if (on_lane()) return;
  std::unique_lock<std::mutex> lock(state_->mutex);
  const auto target = state_->posted;
  state_->changed.wait(lock, [&] { return state_->done >= target; });
}

void Lane::keep_tasks() {
  std::lock_guard<std::mutex> lock(ended_tasks_mutex());
  ended_tasks_are_kept = true;
}

bool Lane::on_lane() noexcept { return this_is_a_lane; }

void Lane::run(const std::shared_ptr<State>& state) {
  this_is_a_lane = true;
  at::NoGradGuard no_grad;
  std::unique_lock<std::mutex> lock(state->mutex);
  while (true) {
    state->changed.wait(lock, [&] { return state->closing || !state->tasks.empty(); });
    if (state->tasks.empty()) return;
    auto task = std::move(state->tasks.front());
    state->tasks.pop_front();
    lock.unlock();
    task();
    let_go(std::move(task));  // what it holds goes before it counts as done
    lock.lock();
    ++state->done;
    state->changed.notify_all();
  }
}

// ---- CollectiveWork ----

namespace {

using c10::ivalue::Future;
using std::chrono::duration_cast;
using std::chrono::milliseconds;

c10::intrusive_ptr<Future> tensors_future(c10::Device device) {
  return c10::make_intrusive<Future>(c10::ListType::create(c10::TensorType::get()),
                                     std::vector<c10::Device>{device});
}

int64_t numel(const std::vector<at::Tensor>& tensors) {
  int64_t sum = 0;
  for (const auto& tensor : tensors)
    if (tensor.defined()) sum += tensor.numel();
  return sum;
}

std::exception_ptr backend_error(std::string message) {
  return std::make_exception_ptr(c10::DistBackendError(
      {__func__, __FILE__, static_cast<uint32_t>(__LINE__)}, std::move(message)));
}

std::string what_of(const std::exception& error) {
  if (const auto* own = dynamic_cast<const c10::Error*>(&error))
    return own->what_without_backtrace();
  return error.what();
}

// The name under which a profile shows the operation.
const char* title(c10d::OpType op) {
  switch (op) {
    case c10d::OpType::BROADCAST:
      return "nccl:broadcast";
    case c10d::OpType::ALLREDUCE:
      return "nccl:all_reduce";
    case c10d::OpType::REDUCE:
      return "nccl:reduce";
    case c10d::OpType::ALLGATHER:
      return "nccl:all_gather";
    case c10d::OpType::_ALLGATHER_BASE:
      return "nccl:_all_gather_base";
    case c10d::OpType::REDUCE_SCATTER:
      return "nccl:reduce_scatter";
    case c10d::OpType::_REDUCE_SCATTER_BASE:
      return "nccl:_reduce_scatter_base";
    case c10d::OpType::ALLTOALL_BASE:
    case c10d::OpType::ALLTOALL:
      return "nccl:all_to_all";
    case c10d::OpType::GATHER:
      return "nccl:gather";
    case c10d::OpType::SCATTER:
      return "nccl:scatter";
    case c10d::OpType::SEND:
      return "nccl:send";
    case c10d::OpType::RECV:
      return "nccl:recv";
    case c10d::OpType::BARRIER:
      return "nccl:all_reduce_barrier";
    default:
      return "nccl:coalesced";
  }
}

}  // namespace

CollectiveWork::CollectiveWork(WorkFacts facts, std::function<void(const std::string&)> expired)
    : Work(facts.rank, facts.op, title(facts.op), facts.inputs),
      facts_(std::move(facts)),
      expired_(std::move(expired)),
      created_(std::chrono::steady_clock::now()) {}

std::string CollectiveWork::describe() const {
  return c10::str("WorkNCCL(SeqNum=", facts_.sequence, ", OpType=", c10d::opTypeToString(facts_.op),
                  ", NumelIn=", numel(facts_.inputs), ", NumelOut=", numel(facts_.outputs),
                  ", Timeout(ms)=", facts_.timeout.count(), ")");
}

std::string CollectiveWork::timed_out(milliseconds ran) const {
  return c10::str("[Rank ", facts_.rank,
                  "] Watchdog caught collective operation timeout: ", describe(), " ran for ",
                  ran.count(), " milliseconds before timing out.");
}

std::exception_ptr CollectiveWork::translate(const std::exception& error) const {
  if (dynamic_cast<const c10::Error*>(&error)) return std::current_exception();  // not gloo's
  const auto ran = duration_cast<milliseconds>(std::chrono::steady_clock::now() - created_);
  const auto text = what_of(error);
  if (text.find("imed out") != std::string::npos) return backend_error(timed_out(ran));
  return backend_error(c10::str(
      "NCCL error: remote process exited or there was a network error, during ", describe(),
      ".\nncclRemoteError: A call failed possibly due to a network error or a remote process "
      "exiting prematurely.\nLast error:\n",
      text));
}

std::optional<std::string> CollectiveWork::run(const std::function<void()>& operation) {
  const auto started = std::chrono::steady_clock::now();
  std::exception_ptr failure;
  std::optional<std::string> reason;
  try {
    operation();
  } catch (const std::exception& error) {
    failure = translate(error);
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& translated) {
      reason = what_of(translated);
    }
  }
  c10::intrusive_ptr<Future> future, result;
  {
    // Work::finish() would let go of the lock before the futures are read, and a getFuture() in
    // between would complete its future as well.
    std::lock_guard<std::mutex> lock(mutex_);
    ran_ = std::chrono::steady_clock::now() - started;
    completed_ = true;
    exception_ = std::move(failure);
    if (recordFunctionEndCallback_) std::exchange(recordFunctionEndCallback_, nullptr)();
    future = future_;
    result = future_result_;
  }
  cv_.notify_all();
  if (future) complete(future);
  if (result) complete_result(result);
  return reason;
}

void CollectiveWork::settle() {
  std::unique_lock<std::mutex> lock(mutex_);
  TORCH_CHECK(completed_ || !Lane::on_lane(),
              "A callback that runs on the communicator's own thread waited for a collective that "
              "has not run yet; wait for it outside of the callback.");
  cv_.wait(lock, [&] { return completed_; });
}

void CollectiveWork::join() {
  std::unique_lock<std::mutex> lock(mutex_);
  cv_.wait(lock, [&] { return completed_; });
  if (exception_) std::rethrow_exception(exception_);
}

bool CollectiveWork::wait(milliseconds timeout) {
  if (timeout == kNoTimeout) {
    settle();
  } else {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!cv_.wait_for(lock, timeout, [&] { return completed_; })) {
      lock.unlock();
      const auto reason =
          timed_out(duration_cast<milliseconds>(std::chrono::steady_clock::now() - created_));
      expired_(reason);
      C10_THROW_ERROR(DistBackendError, reason);
    }
  }
  std::unique_lock<std::mutex> lock(mutex_);
  if (exception_) std::rethrow_exception(exception_);
  return true;
}

void CollectiveWork::complete(const c10::intrusive_ptr<Future>& future) {
  if (const auto failure = exception())
    future->setError(failure);
  else
    future->markCompleted(c10::IValue(facts_.outputs));
}

void CollectiveWork::complete_result(const c10::intrusive_ptr<Future>& future) {
  auto ending = c10d::WorkResult::SUCCESS;
  if (const auto failure = exception()) {
    ending = c10d::WorkResult::COMM_ERROR;
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      if (what_of(error).find("timeout") != std::string::npos) ending = c10d::WorkResult::TIMEOUT;
    }
  }
  future->markCompleted(c10::IValue(static_cast<int64_t>(ending)));
}

c10::intrusive_ptr<Future> CollectiveWork::getFuture() {
  bool late;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (future_) return future_;
    future_ = tensors_future(facts_.device);
    late = completed_;
  }
  if (late) complete(future_);
  return future_;
}

c10::intrusive_ptr<Future> CollectiveWork::getFutureResult() {
  bool late;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (future_result_) return future_result_;
    future_result_ = c10::make_intrusive<Future>(c10::IntType::get());
    late = completed_;
  }
  if (late) complete_result(future_result_);
  return future_result_;
}

float CollectiveWork::getDuration() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::chrono::duration<float, std::milli>(ran_).count();
}

}  // namespace heitu
