// Statistics, the trace of events and snapshots.
#include <chrono>
#include <mutex>

#include "device_memory.h"

namespace heitu {
namespace {

thread_local std::string user_metadata;
thread_local std::vector<std::string> compile_contexts;

std::mutex observers_mutex;
std::vector<OutOfMemoryObserver>& observers() {
  static auto* list = new std::vector<OutOfMemoryObserver>;
  return *list;
}

// For devices that come into being while history is on.
std::mutex history_mutex;
HistoryOptions history_of_new_devices;

int64_t microseconds_since_epoch() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void reset_accumulated(Stat& stat) { stat.allocated = stat.freed = 0; }
void reset_peak(Stat& stat) { stat.peak = stat.current; }

}  // namespace

// ---- statistics ----

MemoryStats DeviceMemory::stats() {
  Lock lock(lock_);
  MemoryStats result;
  result.allocation = counters_.stats(Metric::allocation);
  result.segment = counters_.stats(Metric::segment);
  result.active = counters_.stats(Metric::active);
  result.inactive_split = counters_.stats(Metric::inactive_split);
  result.allocated_bytes = counters_.stats(Metric::allocated_bytes);
  result.reserved_bytes = counters_.stats(Metric::reserved_bytes);
  result.active_bytes = counters_.stats(Metric::active_bytes);
  result.inactive_split_bytes = counters_.stats(Metric::inactive_split_bytes);
  result.requested_bytes = counters_.stats(Metric::requested_bytes);
  result.reserved_bytes_by_private_pools = reserved_by_pool_;
  result.oversize_allocations = oversize_allocations_;
  result.oversize_segments = oversize_segments_;
  result.num_alloc_retries = num_alloc_retries_;
  result.num_ooms = num_ooms_;
  result.num_sync_all_streams = num_sync_all_streams_;
  result.num_device_alloc = num_device_alloc_;
  result.num_device_free = num_device_free_;
  result.max_split_size = int64_t(allocator_config().max_split_size);
  return result;
}

void DeviceMemory::reset_accumulated_stats() {
  Lock lock(lock_);
  counters_.reset_accumulated();
  for (auto& [id, stats] : reserved_by_pool_)
    for (Stat& stat : stats) reset_accumulated(stat);
  reset_accumulated(oversize_allocations_);
  reset_accumulated(oversize_segments_);
  num_alloc_retries_ = num_ooms_ = num_sync_all_streams_ = 0;
  num_device_alloc_ = num_device_free_ = 0;
}

void DeviceMemory::reset_peak_stats() {
  Lock lock(lock_);
  counters_.reset_peak();
  for (auto& [id, stats] : reserved_by_pool_)
    for (Stat& stat : stats) reset_peak(stat);
  reset_peak(oversize_allocations_);
  reset_peak(oversize_segments_);
}

MemoryStats memory_stats(c10::DeviceIndex device) { return device_memory(device).stats(); }
void reset_accumulated_stats(c10::DeviceIndex device) {
  device_memory(device).reset_accumulated_stats();
}
void reset_peak_stats(c10::DeviceIndex device) { device_memory(device).reset_peak_stats(); }

// ---- trace ----

const char* trace_action_name(TraceAction action) {
  static constexpr std::array<const char*, kTraceActions> names = {
      "alloc",         "free_requested", "free_completed",
      "segment_alloc", "segment_free",   "segment_map",
      "segment_unmap", "snapshot",       "oom"};
  return names[size_t(action)];
}

void TraceBuffer::set_limit(size_t limit) {
  limit_ = limit ? limit : 1;
  if (entries_.size() > limit_) clear();
}

void TraceBuffer::clear() {
  entries_.clear();
  oldest_ = 0;
}

void TraceBuffer::add(TraceEntry entry) {
  if (entries_.size() < limit_) {
    entries_.push_back(std::move(entry));
  } else {
    entries_[oldest_] = std::move(entry);
    oldest_ = (oldest_ + 1) % limit_;
  }
}

std::vector<TraceEntry> TraceBuffer::entries() const {
  std::vector<TraceEntry> result(entries_.begin() + ptrdiff_t(oldest_), entries_.end());
  result.insert(result.end(), entries_.begin(), entries_.begin() + ptrdiff_t(oldest_));
  return result;
}

void DeviceMemory::trace(TraceAction action, size_t address, size_t size, c10::StreamId stream,
                         PoolId pool, const StackContext& stack) {
  if (history_.skip[size_t(action)]) return;
  const bool keep_stack = record_stack_.load(std::memory_order_relaxed) >= RecordStack::alloc;
  trace_.add({action, device_, address, size, stream, pool, microseconds_since_epoch(),
              keep_stack ? stack : nullptr,
              compile_contexts.empty() ? "N/A" : compile_contexts.back(), user_metadata});
}

StackContext DeviceMemory::gather_stack() const {
  GatherStack gather = gather_.load(std::memory_order_acquire);
  return gather ? gather() : nullptr;
}

void DeviceMemory::record_history(const HistoryOptions& options) {
  Lock lock(lock_);
  history_ = options;
  gather_.store(options.enabled ? options.gather : nullptr, std::memory_order_release);
  record_stack_ = options.enabled ? options.when : RecordStack::never;
  trace_.set_limit(options.max_entries);
  if (!options.enabled || options.clear) trace_.clear();
}

void record_history(const HistoryOptions& options) {
  std::lock_guard<std::mutex> lock(history_mutex);
  history_of_new_devices = options;
  for (DeviceMemory* memory : device_memories()) memory->record_history(options);
}

bool history_enabled() {
  std::lock_guard<std::mutex> lock(history_mutex);
  return history_of_new_devices.enabled;
}

HistoryOptions current_history() {
  std::lock_guard<std::mutex> lock(history_mutex);
  return history_of_new_devices;
}

void set_memory_metadata(std::string metadata) { user_metadata = std::move(metadata); }
std::string memory_metadata() { return user_metadata; }
void push_compile_context(std::string context) { compile_contexts.push_back(std::move(context)); }
void pop_compile_context() {
  if (!compile_contexts.empty()) compile_contexts.pop_back();
}

// ---- snapshots ----

void DeviceMemory::snapshot(PoolId pool, bool traces_too, MemorySnapshot& result) {
  Lock lock(lock_);
  size_t total_active = 0;
  for (auto& [base, segment] : segments_) {
    const Arena& arena = *segment->first->arena;
    if (pool != PoolId{0, 0} && arena.pool.id != pool) continue;
    SegmentInfo info{};
    info.device = device_;
    info.address = size_t(base);
    info.total_size = segment->size;
    info.stream = arena.stream;
    info.is_large = !arena.small;
    info.pool = arena.pool.id;
    info.stack = segment->stack;
    for (const Block* block = segment->first; block; block = block->next) {
      const bool live = block->state == BlockState::live || block->state == BlockState::lone;
      const bool active = live || block->state == BlockState::pending;
      if (live) info.allocated_size += block->size;
      if (active) {
        info.active_size += block->size;
        info.requested_size += block->requested;
      }
      info.blocks.push_back({size_t(block->address), block->size, block->requested, live, active,
                             block->notes ? block->notes->stack : nullptr});
    }
    total_active += info.active_size;
    result.segments.push_back(std::move(info));
  }
  if (traces()) trace(TraceAction::snapshot, 0, total_active, 0, {0, 0}, nullptr);
  if (traces_too) result.traces[size_t(device_)] = trace_.entries();
}

MemorySnapshot memory_snapshot(PoolId pool, bool traces) {
  MemorySnapshot result;
  auto memories = device_memories();
  if (!memories.empty()) result.traces.resize(size_t(memories.back()->device()) + 1);
  for (DeviceMemory* memory : memories) memory->snapshot(pool, traces, result);
  return result;
}

StackContext DeviceMemory::stack_of(const void* ptr) {
  Block* block = find_block(ptr, false);
  if (!block) return nullptr;
  Lock lock(lock_);
  return block->notes ? block->notes->stack : nullptr;
}

StackContext allocation_stack(const void* ptr) {
  for (DeviceMemory* memory : device_memories())
    if (StackContext stack = memory->stack_of(ptr)) return stack;
  return nullptr;
}

// ---- out of memory ----

void attach_out_of_memory_observer(OutOfMemoryObserver observer) {
  std::lock_guard<std::mutex> lock(observers_mutex);
  observers().push_back(std::move(observer));
}

void notify_out_of_memory(c10::DeviceIndex device, size_t requested, size_t limit, size_t free) {
  std::vector<OutOfMemoryObserver> copies;
  {
    std::lock_guard<std::mutex> lock(observers_mutex);
    copies = observers();
  }
  for (auto& observer : copies) observer(device, requested, limit, free);
}

}  // namespace heitu
