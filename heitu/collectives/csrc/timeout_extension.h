// What a process group adds to its time-outs for a while.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>

namespace heitu {

// An extension holds for every operation from now on, until the first of them has ended; what is
// added in the meantime, until the first that began after that.
class TimeoutExtension {
 public:
  using Duration = std::chrono::milliseconds;

  // One operation's part. When it is let go of, what the operation was the first to use is over.
  struct Part {
    Duration duration{0};
    std::shared_ptr<void> use;
  };

  void add(Duration extra) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->active += extra;
  }

  Part take() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    const auto first = state_->active - state_->in_use;
    Part part{state_->active, nullptr};
    if (first == Duration(0)) return part;
    state_->in_use = state_->active;
    part.use = std::shared_ptr<void>(nullptr, [state = state_, first](void*) {
      const std::lock_guard<std::mutex> lock(state->mutex);
      state->active -= first;
      state->in_use -= first;
    });
    return part;
  }

 private:
  struct State {
    std::mutex mutex;
    Duration active{0}, in_use{0};
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace heitu
