#include "allocator.h"

#include <c10/core/CachingDeviceAllocator.h>

#include "labels.h"
#include "version.h"

namespace heitu {
namespace {

#if HEITU_TORCH_AT_LEAST(2, 9)
using AllocatorBase = c10::DeviceAllocator;

// The plugin's own, if it is one of those that PyTorch can ask for statistics.
c10::DeviceAllocator* plugin_allocator() {
  return dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(kPlugin));
}

c10::DeviceAllocator& asked(const char* what) {
  auto* allocator = plugin_allocator();
  TORCH_CHECK_NOT_IMPLEMENTED(allocator, "The vendor's plugin does not tell PyTorch its ", what,
                              " (its allocator is no c10::DeviceAllocator).");
  return *allocator;
}
#else
using AllocatorBase = c10::Allocator;  // PyTorch asks no allocator for statistics yet
#endif

class Allocator final : public AllocatorBase {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    return heitu::allocate(bytes, cuda_guard().getDevice());
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, size_t) const override {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "Memory of a chip cannot be copied by address.");
  }

#if HEITU_TORCH_AT_LEAST(2, 9)
  bool initialized() override {
    auto* allocator = plugin_allocator();
    return !allocator || allocator->initialized();
  }
  void emptyCache(c10::MempoolId_t pool) override { asked("cache").emptyCache(pool); }
  void recordStream(const c10::DataPtr& pointer, c10::Stream stream) override {
    cuda_guard().recordDataPtrOnStream(pointer, stream);
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    return asked("memory statistics").getDeviceStats(device);
  }
  void resetAccumulatedStats(c10::DeviceIndex device) override {
    asked("memory statistics").resetAccumulatedStats(device);
  }
  void resetPeakStats(c10::DeviceIndex device) override {
    asked("memory statistics").resetPeakStats(device);
  }
#if HEITU_TORCH_AT_LEAST(2, 10)
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override {
    return asked("memory").getMemoryInfo(device);
  }
#endif
#endif
};

}  // namespace

c10::Allocator& cuda_allocator() {
  static auto* allocator = new Allocator;
  return *allocator;
}

void register_allocator() { c10::SetAllocator(c10::kCUDA, &cuda_allocator(), /*priority=*/100); }

}  // namespace heitu
