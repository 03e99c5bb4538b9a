#include "allocator.h"

#include <c10/util/Exception.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "device_memory.h"
#include "sanitizer.h"
#include "segment_memory.h"

namespace heitu {
namespace {

constexpr size_t kMaxDevices = 128;  // c10::DeviceIndex is 8 bits
constexpr size_t kDefaultCapacity = size_t{16} << 30;

std::array<std::atomic<DeviceMemory*>, kMaxDevices> memories{};
std::mutex creation;
std::array<size_t, kMaxDevices> capacities{};  // set before the device's first use

bool always_idle(c10::Stream) { return true; }
std::atomic<bool (*)(c10::Stream)> stream_is_idle{always_idle};

std::atomic<bool> caching_enabled{[] {
  const char* off = std::getenv("PYTORCH_NO_CUDA_MEMORY_CACHING");
  return !off || !*off;
}()};

std::atomic<bool> reporting{true};

inline void report(const void* address, int64_t change, int64_t allocated, int64_t reserved,
                   c10::DeviceIndex device) {
  c10::reportMemoryUsageToProfiler(const_cast<void*>(address), change, size_t(allocated),
                                   size_t(reserved), c10::Device(c10::DeviceType::CUDA, device));
}

size_t next_division(size_t size, size_t divisions) {
  if (std::has_single_bit(size)) return size;
  size_t step = std::bit_floor(size) / divisions;
  return step ? (size + step - 1) / step * step : std::bit_ceil(size);
}

size_t round_request(size_t bytes, const AllocatorConfig& config) {
  if (bytes < kMinBlock) return kMinBlock;
  if (config.rounds_up) [[unlikely]] {
    size_t divisions = config.divisions(bytes);
    if (divisions > 1 && bytes > kMinBlock * divisions) return next_division(bytes, divisions);
  }
  return (bytes + kMinBlock - 1) & ~(kMinBlock - 1);
}

// A child of fork must find every lock free and every list whole.
void lock_all() {
  creation.lock();
  for (auto& memory : memories)
    if (DeviceMemory* m = memory.load()) m->lock().lock();
}
void unlock_all() {
  for (auto& memory : memories)
    if (DeviceMemory* m = memory.load()) m->lock().unlock();
  creation.unlock();
}

DeviceMemory& create(c10::DeviceIndex device) {
  TORCH_CHECK(device >= 0 && size_t(device) < kMaxDevices, "Invalid device argument ", int(device),
              ": device memory exists for devices 0 to ", kMaxDevices - 1);
  allocator_config();  // its errors belong before the lock
  std::lock_guard<std::mutex> lock(creation);
  static bool fork_handled = pthread_atfork(lock_all, unlock_all, unlock_all) == 0;
  (void)fork_handled;
  DeviceMemory* memory = memories[size_t(device)].load();
  if (!memory) {
    memory = new DeviceMemory(device);
    memory->record_history(current_history());
    if (capacities[size_t(device)]) memory->set_capacity(capacities[size_t(device)]);
    memories[size_t(device)].store(memory, std::memory_order_release);
  }
  return *memory;
}

}  // namespace

void SpinLock::wait() noexcept {
  for (int attempt = 0;; ++attempt) {
    if (!taken_.load(std::memory_order_relaxed) &&
        !taken_.exchange(true, std::memory_order_acquire))
      return;
    if (attempt < 64) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else if (attempt < 1024) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
}

DeviceMemory& device_memory(c10::DeviceIndex device) {
  if (size_t(device) < kMaxDevices) [[likely]]
    if (DeviceMemory* memory = memories[size_t(device)].load(std::memory_order_acquire)) [[likely]]
      return *memory;
  return create(device);
}

std::vector<DeviceMemory*> device_memories() {
  std::vector<DeviceMemory*> result;
  for (auto& memory : memories)
    if (DeviceMemory* m = memory.load(std::memory_order_acquire)) result.push_back(m);
  return result;
}

DeviceMemory::DeviceMemory(c10::DeviceIndex device)
    : device_(device), capacity_(kDefaultCapacity), fraction_(allocator_config().memory_fraction) {
  for (bool small : {false, true}) recent_[small] = &arena_of(default_pool_, small, 0);
}

// ---- allocating ----

Arena& DeviceMemory::arena_of(Pool& pool, bool small, c10::StreamId stream) {
  for (auto& arena : pool.arenas)
    if (arena->stream == stream && arena->small == small) return *arena;
  return *pool.arenas.emplace_back(std::make_unique<Arena>(*this, pool, small, stream));
}

inline Arena& DeviceMemory::arena_for(c10::StreamId stream, size_t size) {
  bool small = size <= kSmallRequest;
  if (!routes_.empty()) [[unlikely]] {
    c10::Stream full(c10::Stream::UNSAFE, c10::Device(c10::DeviceType::CUDA, device_), stream);
    for (Route& route : routes_)
      if (route.filter(full)) return arena_of(*find_pool(route.pool), small, stream);
  }
  Arena*& recent = recent_[small];
  if (recent->stream != stream) recent = &arena_of(default_pool_, small, stream);
  return *recent;
}

inline Block* DeviceMemory::take_cached(Arena& arena, size_t size) {
  const AllocatorConfig& config = allocator_config();
  if (config.garbage_collection_threshold > 0) [[unlikely]]
    ++arena.pool.searches[arena.small];
  Block* block = arena.bins.best_fit(size);
  if (!block) return nullptr;
  // Oversize blocks are kept whole: neither cut for a smaller request, nor wasted on a much
  // smaller.
  bool oversize = size >= config.max_split_size;
  if (!oversize && block->size >= config.max_split_size) return nullptr;
  if (oversize && block->size >= size + config.max_non_split_rounding) return nullptr;
  arena.bins.remove(block);
  return block;
}

inline bool DeviceMemory::should_split(const Block& block, size_t size) const {
  if (block.arena->pool.no_split) return false;
  size_t rest = block.size - size;
  if (block.arena->small) return rest >= kMinBlock;
  return size < allocator_config().max_split_size && rest > kSmallRequest;
}

inline Block* DeviceMemory::split_front(Block* block, size_t size) {
  Block* front = records_.take();
  front->address = block->address;
  front->size = size;
  front->arena = block->arena;
  front->segment = block->segment;
  front->prev = block->prev;
  front->next = block;
  (front->prev ? front->prev->next : front->segment->first) = front;
  block->prev = front;
  block->address += size;
  block->size -= size;
  return front;
}

Block* DeviceMemory::hand_out(Block* block, size_t size, size_t requested, bool split,
                              const StackContext& stack) {
  const bool small = block->arena->small;
  const bool was_split = block->is_split();
  if (split) {
    Block* rest = block;
    block = split_front(rest, size);
    rest->searches_at_release = rest->arena->pool.searches[small];
    rest->arena->bins.insert(rest);
    if (was_split) {
      counters_.decrease(Metric::inactive_split_bytes, small, int64_t(size));
    } else {
      counters_.increase(Metric::inactive_split_bytes, small, int64_t(rest->size));
      counters_.increase(Metric::inactive_split, small, 1);
    }
  } else if (was_split) {
    counters_.decrease(Metric::inactive_split_bytes, small, int64_t(block->size));
    counters_.decrease(Metric::inactive_split, small, 1);
  }
  block->state = BlockState::live;
  block->requested = requested;
  if (block->arena->pool.is_default()) {
    unpoison(block->address, requested);
    poison(block->address + requested, block->size - requested);
  }
  counters_.allocate(small, int64_t(block->size), int64_t(requested));
  if (block->size >= allocator_config().max_split_size) [[unlikely]]
    increase(oversize_allocations_, 1);
  if (stack) [[unlikely]] {
    if (!block->notes) block->notes = std::make_unique<BlockNotes>();
    block->notes->stack = stack;
  }
  if (traces()) [[unlikely]]
    trace(TraceAction::alloc, size_t(block->address), requested, block->arena->stream,
          block->arena->pool.id, stack);
  return block;
}

Block* DeviceMemory::take_from_spare_pool(Request& request) {
  for (PoolId id : spare_pools_)
    if (Pool* pool = find_pool(id))
      if (Block* block =
              take_cached(arena_of(*pool, request.arena.small, request.arena.stream), request.size))
        return block;
  return nullptr;
}

Block* DeviceMemory::allocate(c10::StreamId stream, size_t bytes) {
  constexpr size_t kExbibyte = size_t{1} << 60;
  TORCH_CHECK_WITH(OutOfMemoryError, bytes < kExbibyte,
                   "CUDA out of memory. Tried to allocate more than 1EB memory.");
  StackContext stack = gather(RecordStack::state);
  Lock lock(lock_);
  if (!caching_enabled.load(std::memory_order_relaxed)) [[unlikely]]
    return allocate_lone(stream, bytes);
  if (!pending_.empty() && routes_.empty()) [[unlikely]]
    process_pending(stack, false);

  size_t size = round_request(bytes, allocator_config());
  Arena& arena = arena_for(stream, size);
  Block* block = take_cached(arena, size);
  if (!block) [[unlikely]] {
    const size_t segment =
        size <= kSmallRequest ? kSmallSegment
        : size < kOwnSegment  ? allocator_config().large_segment
                              : (size + kSegmentRounding - 1) / kSegmentRounding * kSegmentRounding;
    Request request{arena, size, segment, stack};
    block = grow(request);
    if (!block) throw_out_of_memory(request, lock);
  }
  block = hand_out(block, size, bytes, should_split(*block, size), stack);
  if (reporting.load(std::memory_order_relaxed)) [[unlikely]] {
    int64_t allocated = counters_.current(Metric::allocated_bytes);
    int64_t reserved = counters_.current(Metric::reserved_bytes);
    lock.unlock();
    report(block->address, int64_t(block->size), allocated, reserved, device_);
  }
  return block;
}

// ---- releasing ----

// Merges a free neighbour into `block`; the neighbour's size.
inline int64_t DeviceMemory::absorb(Block* block, Block* neighbour) {
  neighbour->arena->bins.remove(neighbour);
  if (block->prev == neighbour) {
    block->address = neighbour->address;
    block->prev = neighbour->prev;
    (block->prev ? block->prev->next : block->segment->first) = block;
  } else {
    block->next = neighbour->next;
    if (block->next) block->next->prev = block;
  }
  size_t size = neighbour->size;
  block->size += size;
  records_.give(neighbour);
  return int64_t(size);
}

void DeviceMemory::put_back(Block* block, const StackContext& stack) {
  Arena& arena = *block->arena;
  const bool small = arena.small;
  if (traces()) [[unlikely]]
    trace(TraceAction::free_completed, size_t(block->address), block->requested, arena.stream,
          arena.pool.id,
          stack          ? stack
          : block->notes ? block->notes->stack
                         : nullptr);
  if (block->notes) [[unlikely]]
    block->notes.reset();
  counters_.put_back(small, int64_t(block->requested));
  // In other pools, a graph's replay uses again what its capture released.
  if (arena.pool.is_default()) poison(block->address, block->size);

  int64_t blocks = 0, bytes = 0;  // net change of what is free in split segments
  auto merge = [&](Block* neighbour) {
    if (!neighbour || neighbour->state != BlockState::free) return;
    --blocks;
    bytes -= absorb(block, neighbour);
  };
  merge(block->prev);
  merge(block->next);
  block->state = BlockState::free;
  block->searches_at_release = arena.pool.searches[small];
  arena.bins.insert(block);
  if (block->is_split()) {
    ++blocks;
    bytes += int64_t(block->size);
  }
  if (blocks) counters_.change(Metric::inactive_split, small, blocks);
  if (bytes) counters_.change(Metric::inactive_split_bytes, small, bytes);
}

void DeviceMemory::release_live(Block* block, const StackContext& stack) {
  const bool small = block->arena->small;
  counters_.release(small, int64_t(block->size));
  if (block->size >= allocator_config().max_split_size) [[unlikely]]
    decrease(oversize_allocations_, 1);
  if (traces()) [[unlikely]]
    trace(TraceAction::free_requested, size_t(block->address), block->requested,
          block->arena->stream, block->arena->pool.id,
          stack          ? stack
          : block->notes ? block->notes->stack
                         : nullptr);
  if (block->notes && !block->notes->uses.empty()) [[unlikely]] {
    block->state = BlockState::pending;
    pending_.push_back(block);
    counters_.add_pending(small, 1, int64_t(block->size));
  } else {
    put_back(block, stack);
  }
}

void DeviceMemory::release(Block* block) {
  StackContext stack = gather(RecordStack::all);
  Lock lock(lock_);
  if (block->state != BlockState::live) [[unlikely]] {
    if (block->state == BlockState::lone) return release_lone(block);
    lock.unlock();
    TORCH_WARN("device memory at ", static_cast<void*>(block->address), " was released twice");
    return;
  }
  if (!reporting.load(std::memory_order_relaxed)) [[likely]]
    return release_live(block, stack);
  const char* address = block->address;
  const auto size = int64_t(block->size);
  release_live(block, stack);
  int64_t allocated = counters_.current(Metric::allocated_bytes);
  int64_t reserved = counters_.current(Metric::reserved_bytes);
  lock.unlock();
  report(address, -size, allocated, reserved, device_);
}

void DeviceMemory::record_stream(Block* block, c10::Stream stream) {
  Lock lock(lock_);
  if (block->state != BlockState::live || stream.id() == block->arena->stream) return;
  if (!block->notes) block->notes = std::make_unique<BlockNotes>();
  auto& uses = block->notes->uses;
  if (std::find(uses.begin(), uses.end(), stream) == uses.end()) uses.push_back(stream);
}

// Takes back blocks whose recorded streams are idle; with `all`, every one, as after waiting.
void DeviceMemory::process_pending(const StackContext& stack, bool all) {
  auto idle = stream_is_idle.load(std::memory_order_relaxed);
  auto still_used = [&](Block* block) {
    auto& uses = block->notes->uses;
    std::erase_if(uses, [&](c10::Stream stream) { return all || idle(stream); });
    if (!uses.empty()) return true;
    counters_.add_pending(block->arena->small, -1, -int64_t(block->size));
    put_back(block, stack);
    return false;
  };
  std::erase_if(pending_, [&](Block* block) { return !still_used(block); });
}

// ---- without caching ----

Block* DeviceMemory::allocate_lone(c10::StreamId stream, size_t bytes) {
  size_t size = (bytes + kSegmentRounding - 1) / kSegmentRounding * kSegmentRounding;
  auto reserved = size_t(counters_.current(Metric::reserved_bytes)) + lone_bytes_;
  char* base = reserved + size <= limit() && host_has_room(size) ? map_pages(size) : nullptr;
  TORCH_CHECK_WITH(OutOfMemoryError, base, "CUDA out of memory. Tried to allocate ", size,
                   " bytes of ", limit() - std::min(limit(), reserved), " free, without caching.");
  auto segment = std::make_unique<Segment>();
  Block* block = records_.take();
  block->address = segment->base = base;
  block->size = segment->size = size;
  block->requested = bytes;
  block->arena = &arena_of(default_pool_, size <= kSmallRequest, stream);
  block->segment = segment.get();
  block->state = BlockState::lone;
  segment->first = block;
  segments_.emplace(base, std::move(segment));
  lone_bytes_ += size;
  return block;
}

void DeviceMemory::release_lone(Block* block) {
  lone_bytes_ -= block->size;
  unmap_pages(block->address, block->size);
  segments_.erase(block->address);
  block->notes.reset();
  block->state = BlockState::free;
  records_.give(block);
}

// ---- the interface ----

Block* allocate(c10::DeviceIndex device, c10::StreamId stream, size_t bytes) {
  return bytes ? device_memory(device).allocate(stream, bytes) : nullptr;
}

void release(void* block) noexcept {
  if (!block) return;
  auto* released = static_cast<Block*>(block);
  try {
    released->arena->memory.release(released);
  } catch (...) {  // a warning turned into an error must not end the process
  }
}

void* data(const Block* block) noexcept { return block ? block->address : nullptr; }
size_t block_size(const Block* block) noexcept { return block ? block->size : 0; }
c10::Device block_device(const Block* block) noexcept {
  return {c10::DeviceType::CUDA, block->arena->memory.device()};
}

void record_stream(Block* block, c10::Stream stream) {
  if (block) block->arena->memory.record_stream(block, stream);
}

void set_stream_idle(bool (*stream_idle)(c10::Stream)) {
  stream_is_idle = stream_idle ? stream_idle : always_idle;
}

void report_memory_use(bool enabled) { reporting = enabled; }

void set_caching(bool enabled) { caching_enabled = enabled; }
bool caching() { return caching_enabled; }

void set_capacity(c10::DeviceIndex device, size_t bytes) {
  std::lock_guard<std::mutex> lock(creation);
  TORCH_CHECK(device >= 0 && size_t(device) < kMaxDevices, "Invalid device argument ", int(device));
  capacities[size_t(device)] = bytes;
  if (DeviceMemory* memory = memories[size_t(device)].load()) memory->set_capacity(bytes);
}

std::pair<size_t, size_t> memory_info(c10::DeviceIndex device) {
  return device_memory(device).memory_info();
}
void set_memory_fraction(c10::DeviceIndex device, double fraction) {
  device_memory(device).set_memory_fraction(fraction);
}
double memory_fraction(c10::DeviceIndex device) { return device_memory(device).memory_fraction(); }

void empty_cache(PoolId pool) {
  for (DeviceMemory* memory : device_memories()) memory->empty_cache(pool);
}

}  // namespace heitu
