// The allocator's statistics, cheap enough to keep on every allocation: per size class a current
// value, its peak and the sum of increases; totals and decreases follow from these.
#pragma once

#include "allocator.h"

#include <algorithm>
#include <cstdint>

namespace heitu {

enum class Metric {
  allocation,
  active,
  allocated_bytes,
  active_bytes,
  requested_bytes,
  inactive_split,
  inactive_split_bytes,
  segment,
  reserved_bytes
};
constexpr int kMetrics = 9;

class Counters {
 public:
  void increase(Metric metric, bool small, int64_t amount) noexcept {
    Counter& counter = of_class_[small][int(metric)];
    counter.current += amount;
    counter.increases += amount;
    counter.peak = std::max(counter.peak, counter.current);
    int64_t total = counter.current + of_class_[!small][int(metric)].current;
    peak_[int(metric)] = std::max(peak_[int(metric)], total);
  }

  void decrease(Metric metric, bool small, int64_t amount) noexcept {
    of_class_[small][int(metric)].current -= amount;
  }

  void change(Metric metric, bool small, int64_t amount) noexcept {
    amount >= 0 ? increase(metric, small, amount) : decrease(metric, small, -amount);
  }

  int64_t current(Metric metric) const noexcept {
    return of_class_[0][int(metric)].current + of_class_[1][int(metric)].current;
  }

  StatArray stats(Metric metric) const noexcept {
    StatArray result;
    for (int small : {0, 1}) {
      const Counter& counter = of_class_[small][int(metric)];
      Stat& stat = result[small ? 1 : 2];
      stat.current = counter.current;
      stat.peak = counter.peak;
      stat.allocated = counter.increases;
      stat.freed = counter.at_reset + counter.increases - counter.current;
      result[0].current += stat.current;
      result[0].allocated += stat.allocated;
      result[0].freed += stat.freed;
    }
    result[0].peak = peak_[int(metric)];
    return result;
  }

  void reset_accumulated() noexcept {
    for (auto& counters : of_class_)
      for (Counter& counter : counters) {
        counter.increases = 0;
        counter.at_reset = counter.current;
      }
  }

  void reset_peak() noexcept {
    for (auto& counters : of_class_)
      for (Counter& counter : counters) counter.peak = counter.current;
    for (int metric = 0; metric < kMetrics; ++metric) peak_[metric] = current(Metric(metric));
  }

 private:
  struct Counter {
    int64_t current = 0;
    int64_t increases = 0;  // since the last reset
    int64_t peak = 0;
    int64_t at_reset = 0;
  };
  Counter of_class_[2][kMetrics];  // large pool, small pool
  int64_t peak_[kMetrics] = {};    // of both together
};

inline void increase(Stat& stat, int64_t amount) noexcept {
  stat.current += amount;
  stat.allocated += amount;
  stat.peak = std::max(stat.peak, stat.current);
}

inline void decrease(Stat& stat, int64_t amount) noexcept {
  stat.current -= amount;
  stat.freed += amount;
}

}  // namespace heitu
