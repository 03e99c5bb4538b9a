// The memory one recorded operator took, in order, so that its replay gets the same.
#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>
#include <unordered_set>
#include <vector>

namespace heitu {

struct Taken {
  void* address = nullptr;
  size_t bytes = 0;
};

class Tape {
 public:
  void record(void* address, size_t bytes) { taken_.push_back({address, bytes}); }

  // The memory that the recording took at this point; null if it took another amount.
  void* next(size_t bytes) {
    if (position_ >= taken_.size() || taken_[position_].bytes != bytes) {
      position_ = taken_.size();
      return nullptr;
    }
    return taken_[position_++].address;
  }
  bool holds(const void* address) const {
    for (const auto& taken : taken_)
      if (taken.address == address) return true;
    return false;
  }
  // Memory that the recording gave an argument: replays find the argument with it already.
  void forget(const void* address) {
    std::erase_if(taken_, [&](const Taken& taken) { return taken.address == address; });
  }
  void rewind() { position_ = 0; }
  const std::vector<Taken>& taken() const { return taken_; }

 private:
  std::vector<Taken> taken_;
  size_t position_ = 0;
};

class TapeScope {
 public:
  TapeScope(Tape*& place, Tape* tape) : place_(place), previous_(place) { place = tape; }
  ~TapeScope() { place_ = previous_; }
  TapeScope(const TapeScope&) = delete;
  TapeScope& operator=(const TapeScope&) = delete;

 private:
  Tape*& place_;
  Tape* previous_;
};

}  // namespace heitu
