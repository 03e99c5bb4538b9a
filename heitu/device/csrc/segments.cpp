// Taking segments from the host, giving them back, and what happens when there are no more.
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <string>

#include "device_memory.h"
#include "sanitizer.h"
#include "segment_memory.h"
#include "version.h"

namespace heitu {
namespace {

std::string format_size(size_t bytes) {
  constexpr double kKiB = 1024, kMiB = kKiB * 1024, kGiB = kMiB * 1024;
  char text[48];
  if (bytes <= size_t(kKiB))
    std::snprintf(text, sizeof text, "%zu bytes", bytes);
  else if (bytes <= size_t(kMiB))
    std::snprintf(text, sizeof text, "%.2f KiB", double(bytes) / kKiB);
  else if (bytes <= size_t(kGiB))
    std::snprintf(text, sizeof text, "%.2f MiB", double(bytes) / kMiB);
  else
    std::snprintf(text, sizeof text, "%.2f GiB", double(bytes) / kGiB);
  return text;
}

}  // namespace

size_t DeviceMemory::limit() const noexcept {
  return fraction_ >= 0 ? size_t(fraction_ * double(capacity_)) : capacity_;
}

// ---- growing ----

Block* DeviceMemory::map_segment(Request& request, bool retry) {
  if (retry) ++num_alloc_retries_;
  const size_t size = request.segment_size;
  size_t reserved = size_t(counters_.current(Metric::reserved_bytes)) + lone_bytes_;
  request.host_refused = false;
  if (reserved + size > limit()) return nullptr;
  char* base = host_has_room(size) ? map_pages(size) : nullptr;
  if (!base) {
    request.host_refused = true;
    return nullptr;
  }
  Arena& arena = request.arena;
  if (arena.pool.is_default()) poison(base, size);
  auto segment = std::make_unique<Segment>();
  segment->base = base;
  segment->size = size;
  segment->stack = request.stack;
  Block* block = records_.take();
  block->address = base;
  block->size = size;
  block->arena = &arena;
  block->segment = segment.get();
  segment->first = block;
  segments_.emplace(base, std::move(segment));

  ++arena.pool.segments;
  ++num_device_alloc_;
  counters_.increase(Metric::segment, arena.small, 1);
  counters_.increase(Metric::reserved_bytes, arena.small, int64_t(size));
  if (!arena.pool.is_default()) {
    StatArray& stats = reserved_by_pool_[arena.pool.id];
    increase(stats[0], int64_t(size));
    increase(stats[arena.small ? 1 : 2], int64_t(size));
  }
  if (size >= allocator_config().max_split_size) increase(oversize_segments_, 1);
  if (traces())
    trace(TraceAction::segment_alloc, size_t(base), size, arena.stream, arena.pool.id,
          request.stack);
  return block;
}

// A block that no cache had: CUDA's order of means, each followed by another try.
Block* DeviceMemory::grow(Request& request) {
  if (fraction_ >= 0 && allocator_config().garbage_collection_threshold > 0)
    collect_garbage(request.stack);
  if (Block* block = map_segment(request, false)) return block;
  if (release_oversize(request))
    if (Block* block = map_segment(request, false)) return block;
  if (routes_.empty()) {
    release_cached(request.stack, {0, 0});
    if (Block* block = map_segment(request, true)) return block;
    if (Block* block = take_from_spare_pool(request)) return block;
  }
  return nullptr;
}

// ---- giving back ----

void DeviceMemory::unmap_segment(Block* block, const StackContext& stack) {
  Arena& arena = *block->arena;
  Segment& segment = *block->segment;
  const size_t size = segment.size;
  ++num_device_free_;
  if (traces())
    trace(TraceAction::segment_free, size_t(segment.base), size, arena.stream, arena.pool.id,
          stack ? stack : segment.stack);
  --arena.pool.segments;
  counters_.decrease(Metric::segment, arena.small, 1);
  counters_.decrease(Metric::reserved_bytes, arena.small, int64_t(size));
  if (!arena.pool.is_default()) {
    StatArray& stats = reserved_by_pool_[arena.pool.id];
    decrease(stats[0], int64_t(size));
    decrease(stats[arena.small ? 1 : 2], int64_t(size));
  }
  if (size >= allocator_config().max_split_size) decrease(oversize_segments_, 1);
  arena.bins.remove(block);
  records_.give(block);
  unmap_pages(segment.base, size);
  close_memory_file(segment);
  segments_.erase(segment.base);
}

// Returns oversize blocks of the stream, one that is large enough or else the largest, until their
// sum is.
bool DeviceMemory::release_oversize(Request& request) {
  const size_t oversize = allocator_config().max_split_size;
  if (oversize == std::numeric_limits<size_t>::max()) return false;
  const size_t wanted = std::max(request.size, oversize);
  if (Block* block = request.arena.bins.best_fit(wanted)) {
    if (block->is_split()) return false;
    unmap_segment(block, request.stack);
    return true;
  }
  std::vector<Block*> candidates;
  request.arena.bins.for_each([&](Block* block) {
    if (block->size >= oversize && !block->is_split()) candidates.push_back(block);
  });
  size_t released = 0;
  for (auto block = candidates.rbegin(); block != candidates.rend() && released < wanted; ++block) {
    released += (*block)->size;
    unmap_segment(*block, request.stack);
  }
  return released >= wanted;
}

void DeviceMemory::release_pool_segments(Pool& pool, const StackContext& stack) {
  std::vector<Block*> whole;
  for (auto& arena : pool.arenas)
    arena->bins.for_each([&](Block* block) {
      if (!block->is_split()) whole.push_back(block);
    });
  for (Block* block : whole) unmap_segment(block, stack);
}

void DeviceMemory::release_cached(const StackContext& stack, PoolId id) {
  const bool everything = id == PoolId{0, 0};
  if (routes_.empty()) {
    ++num_sync_all_streams_;
    process_pending(stack, true);
  }
  if (everything) release_pool_segments(default_pool_, stack);
  for (auto entry = pools_.begin(); entry != pools_.end();) {
    Pool& pool = *entry->second;
    if (pool.uses == 0 && (everything || pool.id == id)) release_pool_segments(pool, stack);
    if (pool.uses == 0 && pool.segments == 0) {
      std::erase(spare_pools_, pool.id);
      entry = pools_.erase(entry);
    } else {
      ++entry;
    }
  }
}

void DeviceMemory::empty_cache(PoolId pool) {
  StackContext stack = gather(RecordStack::all);
  Lock lock(lock_);
  release_cached(stack, pool);
}

// Above the threshold, returns whole large segments, those longest unused first.
void DeviceMemory::collect_garbage(const StackContext& stack) {
  const auto threshold = int64_t(allocator_config().garbage_collection_threshold * double(limit()));
  const int64_t excess = counters_.current(Metric::reserved_bytes) - threshold;
  if (excess <= 0) return;
  std::vector<Block*> candidates;
  int64_t total_age = 0;
  auto age = [](const Block* block) {
    return block->arena->pool.searches[0] - block->searches_at_release;
  };
  for (auto& arena : default_pool_.arenas)
    if (!arena->small)
      arena->bins.for_each([&](Block* block) {
        if (block->is_split()) return;
        candidates.push_back(block);
        total_age += age(block);
      });
  int64_t reclaimed = 0;
  for (bool any = true; any && reclaimed < excess && !candidates.empty();) {
    any = false;
    const double mean = double(total_age) / double(candidates.size());
    std::erase_if(candidates, [&](Block* block) {
      if (double(age(block)) < mean) return false;
      any = true;
      reclaimed += int64_t(block->size);
      total_age -= age(block);
      unmap_segment(block, stack);
      return true;
    });
  }
}

// ---- out of memory ----

void DeviceMemory::throw_out_of_memory(Request& request, Lock& lock) {
  ++num_ooms_;
  const auto allocated = size_t(counters_.current(Metric::allocated_bytes));
  const auto reserved = size_t(counters_.current(Metric::reserved_bytes));
  const size_t in_use = reserved + lone_bytes_;
  const size_t free = capacity_ - std::min(capacity_, in_use);
  const size_t capacity = capacity_, allowed = limit();
  const bool limited = fraction_ >= 0, host_refused = request.host_refused;
  size_t cached_in_pools = 0;
  for (auto& [id, pool] : pools_)
    for (auto& arena : pool->arenas)
      arena->bins.for_each([&](Block* block) { cached_in_pools += block->size; });
  if (traces())
    trace(TraceAction::oom, free, request.size, request.arena.stream, request.arena.pool.id,
          request.stack);
  lock.unlock();

  c10::reportOutOfMemoryToProfiler(int64_t(request.size), allocated, reserved,
                                   c10::Device(c10::DeviceType::CUDA, device_));
  notify_out_of_memory(device_, request.segment_size, limited ? allowed : capacity, free);

  std::string in_pools;
  if (cached_in_pools > 0)
    in_pools = "with " + format_size(cached_in_pools) +
               " allocated in private pools (e.g., CUDA Graphs), ";
  std::string host;
  if (host_refused)
    host =
        " The limit that was met is the memory of the host, which backs the emulated device "
        "and has room for " +
        format_size(host_room()) +
        " more: use a smaller model or batch, or a host with more memory.";
#if HEITU_TORCH_AT_LEAST(2, 9)
  constexpr const char* kVariable = "PYTORCH_ALLOC_CONF";
#else
  constexpr const char* kVariable = "PYTORCH_CUDA_ALLOC_CONF";
#endif
  TORCH_CHECK_WITH(
      OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ",
      format_size(request.segment_size), ". GPU ", int(device_), " has a total capacity of ",
      format_size(capacity), " of which ", format_size(free), " is free. ",
      "Including non-PyTorch memory, this process has ", format_size(in_use), " memory in use. ",
      limited ? format_size(allowed) + " allowed; " : "", "Of the allocated memory ",
      format_size(allocated + cached_in_pools), " is allocated by PyTorch, ", in_pools, "and ",
      format_size(reserved - std::min(reserved, allocated + cached_in_pools)),
      " is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try "
      "setting ",
      kVariable,
      "=expandable_segments:True to avoid fragmentation.  See documentation for Memory Management  "
      "(https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)",
      host);
}

// ---- capacity ----

void DeviceMemory::set_capacity(size_t bytes) {
  Lock lock(lock_);
  capacity_ = bytes;
}

std::pair<size_t, size_t> DeviceMemory::memory_info() {
  Lock lock(lock_);
  size_t used = size_t(counters_.current(Metric::reserved_bytes)) + lone_bytes_;
  return {capacity_ - std::min(capacity_, used), capacity_};
}

void DeviceMemory::set_memory_fraction(double fraction) {
  TORCH_CHECK(fraction >= 0 && fraction <= 1, "invalid fraction:", fraction,
              ". Please set within [0, 1].");
  Lock lock(lock_);
  fraction_ = fraction;
}

double DeviceMemory::memory_fraction() {
  Lock lock(lock_);
  return fraction_ >= 0 ? fraction_ : 1.0;
}

}  // namespace heitu
