#include "stream.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <random>
#include <stdexcept>
#include <thread>

#include "settings.h"

namespace heitu::cann {

struct Stream::State {
  std::mutex mutex;
  std::condition_variable arrived;
  std::condition_variable finished;
  std::deque<Task> waiting;
  uint64_t submitted = 0;
  uint64_t done = 0;
  bool retired = false;
  std::string failure;
  std::shared_ptr<Graph> capture;
};

Stream::Stream(int device, uint32_t) : device_(device), state_(std::make_shared<State>()) {
  static std::atomic<int> next_id{0};
  id_ = next_id++;
  std::thread(work, state_).detach();
}

void Stream::work(std::shared_ptr<State> state) {
  pthread_setname_np(pthread_self(), "npu-stream");
  // Streams that are late by turns: what no event orders comes in another order each time.
  std::minstd_rand random(std::random_device{}());
  std::uniform_int_distribution<size_t> delay(0, settings().delay);
  std::unique_lock<std::mutex> lock(state->mutex);
  while (true) {
    state->arrived.wait(lock, [&] { return !state->waiting.empty() || state->retired; });
    if (state->waiting.empty()) return;
    Task task = std::move(state->waiting.front());
    state->waiting.pop_front();
    lock.unlock();
    if (delay.max() > 0) std::this_thread::sleep_for(std::chrono::microseconds(delay(random)));
    std::string failure;
    try {
      task();
      task = nullptr;
    } catch (const std::exception& error) {
      failure = error.what();
    }
    lock.lock();
    if (!failure.empty() && state->failure.empty()) {
      state->failure = failure;
      // Said at once, because the program may ask for results long after, or never.
      std::fprintf(stderr, "heitu: emulated CANN: %s\n", failure.c_str());
    }
    ++state->done;
    state->finished.notify_all();
  }
}

void Stream::submit(Task task) {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    if (state_->capture) {
      state_->capture->tasks.push_back(std::move(task));
      return;
    }
    state_->waiting.push_back(std::move(task));
    ++state_->submitted;
  }
  state_->arrived.notify_one();
}

bool Stream::synchronize(int milliseconds) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  const uint64_t last = state_->submitted;
  const auto reached = [&] { return state_->done >= last; };
  if (milliseconds < 0) {
    state_->finished.wait(lock, reached);
    return true;
  }
  return state_->finished.wait_for(lock, std::chrono::milliseconds(milliseconds), reached);
}

bool Stream::idle() {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->done == state_->submitted;
}

void Stream::retire() {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->retired = true;
  }
  state_->arrived.notify_one();
}

std::string Stream::take_failure() {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return std::exchange(state_->failure, "");
}

void Stream::set_capture(std::shared_ptr<Graph> graph) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->capture = std::move(graph);
}

std::shared_ptr<Graph> Stream::capture() {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->capture;
}

void Event::record(Stream& stream) {
  auto record = std::make_shared<Record>();
  const auto graph = stream.capture();
  if (graph) {
    // Order within a recording is that of submission; what matters is which streams belong to it.
    record->capture = graph;
    record->done = true;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    last_ = record;
  }
  if (graph) return;
  stream.submit([record] {
    std::lock_guard<std::mutex> lock(record->mutex);
    record->done = true;
    record->nanoseconds = static_cast<uint64_t>(
        std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
    record->reached.notify_all();
  });
}

void Event::Record::wait() {
  std::unique_lock<std::mutex> lock(mutex);
  reached.wait(lock, [&] { return done; });
}

std::shared_ptr<Event::Record> Event::last() {
  std::lock_guard<std::mutex> lock(mutex_);
  return last_;
}

void Event::wait(Stream& stream) {
  const auto record = last();
  if (!record) return;
  if (auto graph = record->capture.lock()) {
    stream.set_capture(graph);
    return;
  }
  if (stream.capture()) return;
  stream.submit([record] { record->wait(); });
}

void Event::synchronize() {
  if (const auto record = last()) record->wait();
}

bool Event::complete() {
  const auto record = last();
  if (!record) return true;
  std::lock_guard<std::mutex> lock(record->mutex);
  return record->done;
}

uint64_t Event::nanoseconds() {
  const auto record = last();
  if (!record) return 0;
  std::lock_guard<std::mutex> lock(record->mutex);
  return record->nanoseconds;
}

namespace {

struct Register {
  std::mutex mutex;
  std::map<Stream*, std::shared_ptr<Stream>> live;
  std::map<int, Stream*> defaults;
};

Register& all_streams() {
  static auto* only = new Register;  // outlives the threads of streams
  return *only;
}

}  // namespace

Stream* create_stream(int device, uint32_t priority) {
  auto stream = std::make_shared<Stream>(device, priority);
  std::lock_guard<std::mutex> lock(all_streams().mutex);
  all_streams().live[stream.get()] = stream;
  return stream.get();
}

Stream& default_stream(int device) {
  {
    std::lock_guard<std::mutex> lock(all_streams().mutex);
    const auto found = all_streams().defaults.find(device);
    if (found != all_streams().defaults.end()) return *found->second;
  }
  Stream* made = create_stream(device, 0);
  std::lock_guard<std::mutex> lock(all_streams().mutex);
  return *all_streams().defaults.emplace(device, made).first->second;
}

std::vector<std::shared_ptr<Stream>> streams_of(int device) {
  std::vector<std::shared_ptr<Stream>> found;
  std::lock_guard<std::mutex> lock(all_streams().mutex);
  for (auto& [_, stream] : all_streams().live) {
    if (stream->device() == device) found.push_back(stream);
  }
  return found;
}

void destroy_stream(Stream* stream) {
  std::lock_guard<std::mutex> lock(all_streams().mutex);
  const auto found = all_streams().live.find(stream);
  if (found == all_streams().live.end()) return;
  found->second->retire();
  all_streams().live.erase(found);
}

}  // namespace heitu::cann
