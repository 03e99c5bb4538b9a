// The allocator as torch's C++ knows it.
#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "allocator.h"
#include "allocator_config.h"
#include "host_memory.h"
#include "labels.h"
#include "streams.h"
#include "version.h"

#if HEITU_TORCH_AT_LEAST(2, 9)
#include <c10/core/AllocatorConfig.h>
#endif

namespace heitu {
namespace {

#if HEITU_TORCH_AT_LEAST(2, 9)
using DeviceAllocatorBase = c10::DeviceAllocator;
#else
using DeviceAllocatorBase = c10::Allocator;
#endif

class DeviceAllocator final : public DeviceAllocatorBase {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::DeviceIndex device = current_device();
    return allocate_device(bytes, c10::Device(c10::kCUDA, device));
  }
  void copy_data(void* dest, const void* src, size_t count) const override {
    default_copy_data(dest, src, count);
  }

#if HEITU_TORCH_AT_LEAST(2, 9)
  bool initialized() override { return device_count() > 0; }
  void emptyCache(c10::MempoolId_t pool) override { empty_cache({pool.first, pool.second}); }
  void recordStream(const c10::DataPtr& ptr, c10::Stream stream) override {
    record_stream(find_containing_block(ptr.get()), stream);
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    const MemoryStats stats = memory_stats(device);
    auto copy = [](auto& to, const Stat& from) {
      to.current = from.current;
      to.peak = from.peak;
      to.allocated = from.allocated;
      to.freed = from.freed;
    };
    auto copy_array = [&](auto& to, const StatArray& from) {
      for (size_t i = 0; i < from.size(); ++i) copy(to[i], from[i]);
    };
    c10::CachingDeviceAllocator::DeviceStats result;
    copy_array(result.allocation, stats.allocation);
    copy_array(result.segment, stats.segment);
    copy_array(result.active, stats.active);
    copy_array(result.inactive_split, stats.inactive_split);
    copy_array(result.allocated_bytes, stats.allocated_bytes);
    copy_array(result.reserved_bytes, stats.reserved_bytes);
    copy_array(result.active_bytes, stats.active_bytes);
    copy_array(result.inactive_split_bytes, stats.inactive_split_bytes);
    copy_array(result.requested_bytes, stats.requested_bytes);
    copy(result.oversize_allocations, stats.oversize_allocations);
    copy(result.oversize_segments, stats.oversize_segments);
    result.num_alloc_retries = stats.num_alloc_retries;
    result.num_ooms = stats.num_ooms;
    result.num_sync_all_streams = stats.num_sync_all_streams;
    result.num_device_alloc = stats.num_device_alloc;
    result.num_device_free = stats.num_device_free;
    result.max_split_size = stats.max_split_size;
    return result;
  }
  void resetAccumulatedStats(c10::DeviceIndex device) override { reset_accumulated_stats(device); }
  void resetPeakStats(c10::DeviceIndex device) override { reset_peak_stats(device); }
#if HEITU_TORCH_AT_LEAST(2, 10)
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override {
    return memory_info(device);
  }
#endif
#endif
};

}  // namespace

c10::Allocator& device_allocator() {
  static auto* allocator = new DeviceAllocator;
  return *allocator;
}

void register_device_allocator() {
  c10::SetAllocator(c10::kCUDA, &device_allocator());
  pinned_allocator();
  set_stream_idle(&stream_idle);
#if HEITU_TORCH_AT_LEAST(2, 9)
  // torch parses the settings common to all devices first; ours reads the whole again.
  c10::CachingAllocator::AcceleratorAllocatorConfig::registerDeviceConfigParserHook(
      [](const std::string& settings) { set_allocator_settings(settings); },
      {"backend", "release_lock_on_cudamalloc", "pinned_use_cuda_host_register",
       "pinned_num_register_threads", "pinned_reserve_segment_size_mb",
       "graph_capture_record_stream_reuse", "per_process_memory_fraction",
       "throw_on_cudamalloc_oom"});
#endif
}

}  // namespace heitu
