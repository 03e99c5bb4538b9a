// Bytes between the ranks of a group, by gloo. One primitive, `exchange`, carries every collective.
#pragma once

#include <c10/util/ArrayRef.h>

#include <chrono>
#include <mutex>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

namespace heitu {

using Deadline = std::chrono::steady_clock::time_point;

// `bytes` of host memory that go to or come from `peer`.
struct Parcel {
  int peer;
  void* data;
  int64_t bytes;
};

// What both ends must agree on before a parcel is taken in; gloo ends the process where sizes
// differ.
struct Label {
  uint64_t sequence = 0;
  int64_t op = 0;
};

class Wire {
 public:
  Wire(c10::intrusive_ptr<c10d::Backend> gloo, int rank, int size)
      : gloo_(std::move(gloo)), rank_(rank), size_(size) {}

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Sends and receives all parcels at once. A parcel to oneself is copied. `channel` keeps
  // concurrent users apart: 0 collectives, 1 point to point.
  // Throws DistBackendError where the ends disagree, or what gloo throws.
  void exchange(c10::ArrayRef<Parcel> outgoing, c10::ArrayRef<Parcel> incoming, Label label,
                int channel, Deadline deadline);

  // Makes exchanges under way on other threads fail.
  void abort();

 private:
  class Transfers;
  c10::intrusive_ptr<c10d::Backend> opened();

  c10::intrusive_ptr<c10d::Backend> gloo_;
  int rank_;
  int size_;
  std::mutex mutex_;
  bool aborted_ = false;
  std::vector<c10::intrusive_ptr<c10d::Work>> pending_;
};

}  // namespace heitu
