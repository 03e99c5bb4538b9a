#include "host_memory.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "counters.h"
#include "streams.h"
#include "version.h"

#if HEITU_TORCH_AT_LEAST(2, 8)
#include <ATen/core/CachingHostAllocator.h>
#endif

namespace heitu {
namespace {

constexpr size_t kPage = 4096;  // CUDA's pinned memory begins on a page

struct PinnedBlock {
  void* address;
  size_t size;  // a power of two
  bool live = true;
  int64_t busy_until = 0;  // when the streams that copy from or to it have come that far
};

class PinnedMemory {
 public:
  PinnedBlock* allocate(size_t bytes) {
    const size_t size = std::bit_ceil(bytes);
    std::lock_guard<std::mutex> lock(mutex_);
    auto& cached = free_[size_t(std::countr_zero(size))];
    PinnedBlock* block = nullptr;
    const auto idle = std::find_if(cached.rbegin(), cached.rend(), [](const PinnedBlock* block) {
      return block->busy_until == 0 || block->busy_until <= now_ns();
    });
    if (idle != cached.rend()) {
      block = *idle;
      cached.erase(std::next(idle).base());
      block->live = true;
      block->busy_until = 0;
    } else {
      block = create(size);
    }
    increase(stats_.active_requests, 1);
    increase(stats_.active_bytes, int64_t(size));
    return block;
  }

  void release(PinnedBlock* block) {
    std::lock_guard<std::mutex> lock(mutex_);
    block->live = false;
    decrease(stats_.active_requests, 1);
    decrease(stats_.active_bytes, int64_t(block->size));
    free_[size_t(std::countr_zero(block->size))].push_back(block);
  }

  void empty_cache() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& cached : free_) {
      for (PinnedBlock* block : cached) destroy(block);
      cached.clear();
    }
  }

  bool record_use(const void* ptr, int64_t until) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (PinnedBlock* block = find(static_cast<const char*>(ptr))) {
      block->busy_until = std::max(block->busy_until, until);
      return true;
    }
    return false;
  }

  bool contains(const void* ptr) {
    if (regions_.load(std::memory_order_relaxed) == 0) return false;
    std::lock_guard<std::mutex> lock(mutex_);
    auto* address = static_cast<const char*>(ptr);
    if (find(address)) return true;
    auto region = registered_.upper_bound(address);
    return region != registered_.begin() &&
           address < std::prev(region)->first + std::prev(region)->second;
  }

  bool add_region(const void* ptr, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    bool added = registered_.emplace(static_cast<const char*>(ptr), bytes).second;
    regions_ += added;
    return added;
  }

  bool remove_region(const void* ptr) {
    std::lock_guard<std::mutex> lock(mutex_);
    bool removed = registered_.erase(static_cast<const char*>(ptr)) > 0;
    regions_ -= removed;
    return removed;
  }

  HostMemoryStats stats() {
    std::lock_guard<std::mutex> lock(mutex_);
    return stats_;
  }

  void reset_accumulated() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (Stat* stat : all_stats()) stat->allocated = stat->freed = 0;
    for (DurationStat* time : {&stats_.alloc_time, &stats_.free_time})
      time->total = time->count = 0;
    stats_.num_alloc = stats_.num_free = 0;
  }

  void reset_peak() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (Stat* stat : all_stats()) stat->peak = stat->current;
    for (DurationStat* time : {&stats_.alloc_time, &stats_.free_time}) time->min = time->max = 0;
  }

 private:
  class Stopwatch {
   public:
    explicit Stopwatch(DurationStat& stat) : stat_(stat) {}
    ~Stopwatch() {
      int64_t elapsed = std::chrono::duration_cast<std::chrono::microseconds>(
                            std::chrono::steady_clock::now() - start_)
                            .count();
      stat_.total += elapsed;
      stat_.max = std::max(stat_.max, elapsed);
      stat_.min = stat_.min == 0 ? elapsed : std::min(stat_.min, elapsed);
      ++stat_.count;
    }

   private:
    DurationStat& stat_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  };

  // The block in use that the address lies in, or null.
  PinnedBlock* find(const char* address) {
    auto after = blocks_.upper_bound(address);
    if (after == blocks_.begin()) return nullptr;
    PinnedBlock& block = *std::prev(after)->second;
    const bool inside = address < static_cast<char*>(block.address) + block.size;
    return block.live && inside ? &block : nullptr;
  }

  PinnedBlock* create(size_t size) {
    Stopwatch watch(stats_.alloc_time);
    void* address = std::aligned_alloc(kPage, std::max(size, kPage));
    TORCH_CHECK_WITH(OutOfMemoryError, address, "CUDA error: out of memory. Tried to pin ", size,
                     " bytes of host memory.");
    auto block = std::make_unique<PinnedBlock>(PinnedBlock{address, size});
    PinnedBlock* result = block.get();
    blocks_.emplace(static_cast<const char*>(address), std::move(block));
    ++regions_;
    ++stats_.num_alloc;
    increase(stats_.allocations, 1);
    increase(stats_.allocated_bytes, int64_t(size));
    return result;
  }

  void destroy(PinnedBlock* block) {
    Stopwatch watch(stats_.free_time);
    ++stats_.num_free;
    decrease(stats_.allocations, 1);
    decrease(stats_.allocated_bytes, int64_t(block->size));
    --regions_;
    std::free(block->address);
    blocks_.erase(static_cast<const char*>(block->address));
  }

  std::array<Stat*, 4> all_stats() {
    return {&stats_.allocations, &stats_.allocated_bytes, &stats_.active_requests,
            &stats_.active_bytes};
  }

  std::mutex mutex_;
  std::map<const char*, std::unique_ptr<PinnedBlock>> blocks_;  // by address
  std::map<const char*, size_t> registered_;
  std::atomic<int64_t> regions_{0};                 // entries of both
  std::array<std::vector<PinnedBlock*>, 64> free_;  // by the power of two
  HostMemoryStats stats_;
};

PinnedMemory& pinned_memory() {
  static auto* memory = new PinnedMemory;  // releases may come while the process exits
  return *memory;
}

void release_pinned(void* block) { pinned_memory().release(static_cast<PinnedBlock*>(block)); }

#if HEITU_TORCH_AT_LEAST(2, 8)
using HostAllocatorBase = at::HostAllocator;
#else
using HostAllocatorBase = c10::Allocator;
#endif

class PinnedAllocator final : public HostAllocatorBase {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &release_nothing, c10::Device(c10::kCPU)};
    PinnedBlock* block = pinned_memory().allocate(bytes);
    return {block->address, block, &release_pinned, c10::Device(c10::kCPU)};
  }
  void copy_data(void* dest, const void* src, size_t count) const override {
    default_copy_data(dest, src, count);
  }

#if HEITU_TORCH_AT_LEAST(2, 8)
  bool record_event(void* ptr, void*, c10::Stream stream) override {
    return record_pinned_use(ptr, stream);
  }
  void empty_cache() override { empty_host_cache(); }
  at::HostStats get_stats() override {
    HostMemoryStats stats = host_memory_stats();
    auto copy = [](auto& to, const Stat& from) {
      to.current = from.current;
      to.peak = from.peak;
      to.allocated = from.allocated;
      to.freed = from.freed;
    };
    at::HostStats result;
#if HEITU_TORCH_AT_LEAST(2, 10)
    copy(result.allocations, stats.allocations);
    copy(result.active_requests, stats.active_requests);
    copy(result.active_bytes, stats.active_bytes);
#endif
    copy(result.allocated_bytes, stats.allocated_bytes);
    result.num_host_alloc = stats.num_alloc;
    result.num_host_free = stats.num_free;
    return result;
  }
  void reset_accumulated_stats() override { reset_accumulated_host_stats(); }
  void reset_peak_stats() override { reset_peak_host_stats(); }
#endif

 private:
  static void release_nothing(void*) {}
};

}  // namespace

c10::Allocator* pinned_allocator() {
  static auto* allocator = [] {
    auto* pinned = new PinnedAllocator;
#if HEITU_TORCH_AT_LEAST(2, 8)
    at::setHostAllocator(at::kCUDA, pinned);
#endif
    return pinned;
  }();
  return allocator;
}

bool record_pinned_use(const void* ptr, c10::Stream stream) {
  return pinned_memory().record_use(ptr, stream_ready_at(stream));
}

bool is_pinned(const void* ptr) { return pinned_memory().contains(ptr); }
bool register_pinned(const void* ptr, size_t bytes) {
  return pinned_memory().add_region(ptr, bytes);
}
bool unregister_pinned(const void* ptr) { return pinned_memory().remove_region(ptr); }

HostMemoryStats host_memory_stats() { return pinned_memory().stats(); }
void reset_accumulated_host_stats() { pinned_memory().reset_accumulated(); }
void reset_peak_host_stats() { pinned_memory().reset_peak(); }
void empty_host_cache() { pinned_memory().empty_cache(); }

}  // namespace heitu
