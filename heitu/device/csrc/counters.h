// The allocator's statistics, cheap enough to keep on every allocation: per size class a current
// value, its peak and the sum of increases; totals, decreases and what is active follow from these.
#pragma once

#include <algorithm>
#include <cstdint>

#include "allocator.h"

namespace heitu {

// Bytes and counts that change independently. Active is what is allocated and what is pending.
enum class Metric {
  allocation,
  allocated_bytes,
  requested_bytes,  // of active blocks
  inactive_split,
  inactive_split_bytes,
  segment,
  reserved_bytes,
  active,  // from here on: kept up to date only while blocks are pending
  active_bytes
};
constexpr int kMetrics = 9;

class Counters {
 public:
  void increase(Metric metric, bool small, int64_t amount) noexcept {
    Counter& counter = at(metric, small);
    int64_t current = counter.current += amount;
    counter.increases += amount;
    if (current > counter.peak) counter.peak = current;
    raise_total_peak(metric, current + at(metric, !small).current);
  }

  void decrease(Metric metric, bool small, int64_t amount) noexcept {
    at(metric, small).current -= amount;
  }

  void change(Metric metric, bool small, int64_t amount) noexcept {
    amount >= 0 ? increase(metric, small, amount) : decrease(metric, small, -amount);
  }

  // A block was handed out.
  void allocate(bool small, int64_t bytes, int64_t requested) noexcept {
    increase(Metric::allocation, small, 1);
    increase(Metric::allocated_bytes, small, bytes);
    increase(Metric::requested_bytes, small, requested);
    if (pending_[0].count | pending_[1].count) [[unlikely]]
      note_active();
  }
  // A block was released; it stays active until `put_back`.
  void release(bool small, int64_t bytes) noexcept {
    decrease(Metric::allocation, small, 1);
    decrease(Metric::allocated_bytes, small, bytes);
  }
  void put_back(bool small, int64_t requested) noexcept {
    decrease(Metric::requested_bytes, small, requested);
  }
  // A released block waits for other streams, or no longer.
  void add_pending(bool small, int64_t blocks, int64_t bytes) noexcept {
    pending_[small].count += blocks;
    pending_[small].bytes += bytes;
  }

  int64_t current(Metric metric) const noexcept {
    return at(metric, false).current + at(metric, true).current;
  }

  StatArray stats(Metric metric) const noexcept {
    if (metric == Metric::active) return active_stats(Metric::allocation, metric);
    if (metric == Metric::active_bytes) return active_stats(Metric::allocated_bytes, metric);
    StatArray result;
    for (bool small : {false, true}) {
      const Counter& counter = at(metric, small);
      Stat& stat = result[small ? 1 : 2];
      stat.current = counter.current;
      stat.peak = counter.peak;
      stat.allocated = counter.increases;
      stat.freed = counter.at_reset + counter.increases - counter.current;
      add_to_total(result[0], stat);
    }
    result[0].peak = peak_[int(metric)];
    return result;
  }

  void reset_accumulated() noexcept {
    for (bool small : {false, true}) {
      for (Counter& counter : of_class_[small]) {
        counter.increases = 0;
        counter.at_reset = counter.current;
      }
      at(Metric::active, small).at_reset = active(Metric::allocation, small);
      at(Metric::active_bytes, small).at_reset = active(Metric::allocated_bytes, small);
    }
  }

  void reset_peak() noexcept {
    for (auto& counters : of_class_)
      for (Counter& counter : counters) counter.peak = counter.current;
    for (int metric = 0; metric < kMetrics; ++metric) peak_[metric] = current(Metric(metric));
    note_active();
  }

 private:
  // `current` and `increases` stand apart lest they be loaded as one vector: after a lone store to
  // `current` the processor cannot forward that.
  struct Counter {
    int64_t current = 0;
    int64_t peak = 0;
    int64_t increases = 0;  // since the last reset
    int64_t at_reset = 0;
  };
  struct Pending {
    int64_t count = 0, bytes = 0;
  };

  Counter& at(Metric metric, bool small) noexcept { return of_class_[small][int(metric)]; }
  const Counter& at(Metric metric, bool small) const noexcept {
    return of_class_[small][int(metric)];
  }
  void raise_total_peak(Metric metric, int64_t total) noexcept {
    if (total > peak_[int(metric)]) peak_[int(metric)] = total;
  }
  static void add_to_total(Stat& total, const Stat& stat) noexcept {
    total.current += stat.current;
    total.allocated += stat.allocated;
    total.freed += stat.freed;
  }

  int64_t active(Metric allocated, bool small) const noexcept {
    return at(allocated, small).current +
           (allocated == Metric::allocation ? pending_[small].count : pending_[small].bytes);
  }

  // Peaks of what is active, where they can exceed those of what is allocated.
  void note_active() noexcept {
    for (auto [allocated, metric] : {std::pair{Metric::allocation, Metric::active},
                                     std::pair{Metric::allocated_bytes, Metric::active_bytes}}) {
      int64_t total = 0;
      for (bool small : {false, true}) {
        int64_t now = active(allocated, small);
        at(metric, small).peak = std::max(at(metric, small).peak, now);
        total += now;
      }
      raise_total_peak(metric, total);
    }
  }

  // Every block becomes active when it is allocated, so the increases are the same.
  StatArray active_stats(Metric allocated, Metric metric) const noexcept {
    StatArray result;
    for (bool small : {false, true}) {
      const Counter& counter = at(allocated, small);
      Stat& stat = result[small ? 1 : 2];
      stat.current = active(allocated, small);
      stat.peak = std::max(counter.peak, at(metric, small).peak);
      stat.allocated = counter.increases;
      stat.freed = at(metric, small).at_reset + counter.increases - stat.current;
      add_to_total(result[0], stat);
    }
    result[0].peak = std::max(peak_[int(allocated)], peak_[int(metric)]);
    return result;
  }

  Counter of_class_[2][kMetrics];  // large pool, small pool
  int64_t peak_[kMetrics] = {};    // of both together
  Pending pending_[2];
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
