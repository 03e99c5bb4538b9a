// Streams, events and recorded graphs. A stream is a thread that does its tasks in their order, so
// that what a program must wait for is really not there yet.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace heitu::cann {

using Task = std::function<void()>;

// Tasks that were recorded while a stream was captured, in the order of their submission.
struct Graph {
  uint32_t id;
  std::vector<Task> tasks;
};

class Stream {
 public:
  Stream(int device, uint32_t priority);

  int device() const { return device_; }
  int id() const { return id_; }

  // Appends a task; while the stream is captured, records it instead. It may throw.
  void submit(Task task);
  // Waits until all that was submitted is done, for at most `milliseconds` (negative: without end).
  bool synchronize(int milliseconds);
  bool idle();
  // Ends the thread when it is done with what was submitted.
  void retire();

  // What the first failing task said since the last call; "" if none failed.
  std::string take_failure();

  void set_capture(std::shared_ptr<Graph> graph);
  std::shared_ptr<Graph> capture();

 private:
  struct State;
  static void work(std::shared_ptr<State> state);

  int device_;
  int id_;
  std::shared_ptr<State> state_;
};

class Event {
 public:
  void record(Stream& stream);
  void wait(Stream& stream);
  void synchronize();
  bool complete();
  // When the last record was reached, in nanoseconds of the steady clock.
  uint64_t nanoseconds();

 private:
  // One record, which waits keep: another one, on any stream, does not end them.
  struct Record {
    std::mutex mutex;
    std::condition_variable reached;
    bool done = false;
    uint64_t nanoseconds = 0;
    std::weak_ptr<Graph> capture;
    void wait();
  };
  std::shared_ptr<Record> last();

  std::mutex mutex_;
  std::shared_ptr<Record> last_;  // none: never recorded
};

// The stream that a null handle stands for.
Stream& default_stream(int device);
// Every stream of a device that lives.
std::vector<std::shared_ptr<Stream>> streams_of(int device);
Stream* create_stream(int device, uint32_t priority);
void destroy_stream(Stream* stream);

}  // namespace heitu::cann
