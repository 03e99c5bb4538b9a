// A thread that runs tasks in the order in which they came: what a stream is to NCCL.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace heitu {

class Lane {
 public:
  Lane();
  // The thread ends by itself once its queue is empty; nobody waits for it here, because the last
  // owner of a lane may be a task that runs on it.
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  void post(std::function<void()> task);
  // Blocks until what was posted so far has run. Returns at once on a lane's own thread.
  void drain();

  // Whether the calling thread is that of some lane.
  static bool on_lane() noexcept;

  // From here on tasks that have run are kept, for the rest of the process. What they hold may be
  // owned by Python, and a thread that lets go of that while the interpreter ends takes the process
  // down. Must be called without Python's lock.
  static void keep_tasks();

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> tasks;
    bool closing = false;
    uint64_t posted = 0;
    uint64_t done = 0;
  };
  static void run(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
};

}  // namespace heitu
