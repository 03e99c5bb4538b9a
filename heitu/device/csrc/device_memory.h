// The caching allocator of one device.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "allocator_config.h"
#include "block.h"
#include "counters.h"

namespace heitu {

// Critical sections are tens of nanoseconds, a segment's mapping apart: spin, then give way.
class SpinLock {
 public:
  void lock() noexcept {
    if (taken_.exchange(true, std::memory_order_acquire)) [[unlikely]]
      wait();
  }
  void unlock() noexcept { taken_.store(false, std::memory_order_release); }

 private:
  void wait() noexcept;
  std::atomic<bool> taken_{false};
};

using Lock = std::unique_lock<SpinLock>;

// The last `limit` events, oldest first.
class TraceBuffer {
 public:
  void set_limit(size_t limit);
  void clear();
  void add(TraceEntry entry);
  std::vector<TraceEntry> entries() const;

 private:
  std::vector<TraceEntry> entries_;
  size_t limit_ = 1;
  size_t oldest_ = 0;
};

class DeviceMemory {
 public:
  explicit DeviceMemory(c10::DeviceIndex device);

  Block* allocate(c10::StreamId stream, size_t bytes);
  void release(Block* block);
  void record_stream(Block* block, c10::Stream stream);
  void empty_cache(PoolId pool);

  void set_capacity(size_t bytes);
  std::pair<size_t, size_t> memory_info();
  void set_memory_fraction(double fraction);
  double memory_fraction();

  void acquire_pool(PoolId pool);
  void release_pool(PoolId pool);
  int pool_use_count(PoolId pool);
  void set_pool_use_on_oom(PoolId pool, bool use_on_oom);
  void set_pool_no_split(PoolId pool);
  void begin_allocate_to_pool(PoolId pool, StreamFilter filter);
  void end_allocate_to_pool(PoolId pool);
  bool pool_live_blocks_equal(PoolId pool, std::vector<const void*> addresses);
  std::shared_ptr<PoolCheckpoint> checkpoint_pool(PoolId pool);
  RestoredPool restore_pool(const PoolCheckpoint& checkpoint);

  MemoryStats stats();
  void reset_accumulated_stats();
  void reset_peak_stats();

  void record_history(const HistoryOptions& options);
  void snapshot(PoolId pool, bool traces, MemorySnapshot& result);
  StackContext stack_of(const void* ptr);

  Block* find_block(const void* ptr, bool inside);
  SharedMemoryHandle share(Block* block);

  c10::DeviceIndex device() const noexcept { return device_; }
  SpinLock& lock() noexcept { return lock_; }

 private:
  struct Request {
    Arena& arena;
    size_t size;          // rounded
    size_t segment_size;  // of a new segment
    const StackContext& stack;
    bool host_refused = false;
  };
  struct Route {
    PoolId pool;
    StreamFilter filter;
  };

  // allocator.cpp; the lock is held
  Arena& arena_for(c10::StreamId stream, size_t size);
  Arena& arena_of(Pool& pool, bool small, c10::StreamId stream);
  Block* take_cached(Arena& arena, size_t size);
  Block* hand_out(Block* block, size_t size, size_t requested, bool split,
                  const StackContext& stack);
  bool should_split(const Block& block, size_t size) const;
  Block* split_front(Block* block, size_t size);
  void release_live(Block* block, const StackContext& stack);
  void put_back(Block* block, const StackContext& stack);
  int64_t absorb(Block* block, Block* neighbour);
  void process_pending(const StackContext& stack, bool all);
  Block* allocate_lone(c10::StreamId stream, size_t bytes);
  void release_lone(Block* block);

  // segments.cpp; the lock is held
  Block* grow(Request& request);
  Block* map_segment(Request& request, bool retry);
  Block* take_from_spare_pool(Request& request);
  void unmap_segment(Block* block, const StackContext& stack);
  bool release_oversize(Request& request);
  void release_cached(const StackContext& stack, PoolId pool);
  void release_pool_segments(Pool& pool, const StackContext& stack);
  void collect_garbage(const StackContext& stack);
  [[noreturn]] void throw_out_of_memory(Request& request, Lock& lock);
  size_t limit() const noexcept;

  // memory_pools.cpp; the lock is held
  template <class Visit>
  void for_each_segment(const Pool& pool, Visit visit) {
    for (auto& [base, segment] : segments_)
      if (&segment->first->arena->pool == &pool) visit(*segment);
  }
  Pool* find_pool(PoolId pool);
  Pool& pool_or_throw(PoolId pool);

  // memory_history.cpp; the lock is held
  void trace(TraceAction action, size_t address, size_t size, c10::StreamId stream, PoolId pool,
             const StackContext& stack);
  bool traces() const noexcept { return history_.enabled; }
  StackContext gather(RecordStack level) const {  // before taking the lock: it may need the GIL
    if (record_stack_.load(std::memory_order_relaxed) < level) [[likely]]
      return nullptr;
    return gather_stack();
  }
  StackContext gather_stack() const;

  SpinLock lock_;
  const c10::DeviceIndex device_;
  Pool default_pool_;
  // The arenas of the default pool last used, by size class: large, small.
  Arena* recent_[2];
  std::vector<Block*> pending_;
  std::vector<Route> routes_;
  Counters counters_;
  BlockRecords records_;

  std::map<PoolId, std::unique_ptr<Pool>> pools_;
  std::vector<PoolId> spare_pools_;  // usable when memory runs out
  std::map<PoolId, StatArray> reserved_by_pool_;
  std::map<const char*, std::unique_ptr<Segment>> segments_;  // by base address

  size_t capacity_;
  size_t lone_bytes_ = 0;
  double fraction_ = -1;  // not set
  Stat oversize_allocations_, oversize_segments_;
  int64_t num_alloc_retries_ = 0, num_ooms_ = 0, num_sync_all_streams_ = 0;
  int64_t num_device_alloc_ = 0, num_device_free_ = 0;

  HistoryOptions history_;
  std::atomic<RecordStack> record_stack_{RecordStack::never};
  std::atomic<GatherStack> gather_{nullptr};
  TraceBuffer trace_;
};

// Created at first use; never destroyed, as releases may come while the process exits.
DeviceMemory& device_memory(c10::DeviceIndex device);
// Those created so far.
std::vector<DeviceMemory*> device_memories();
// Of record_history, for devices created since.
HistoryOptions current_history();
// Runs observers; no lock may be held.
void notify_out_of_memory(c10::DeviceIndex device, size_t requested, size_t limit, size_t free);

}  // namespace heitu
