// Device memory that only "the device" can reach: programs hold addresses of a mapping without
// access, kernels use the same bytes at a distance. A host read or write faults, as on a chip.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Storage.h>
#include <sys/mman.h>

#include <array>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace standin {

constexpr int kMostDevices = 8;
constexpr size_t kGranule = 512;

struct Process {
  int devices = 0;
  size_t memory = 0;  // bytes of one device
};
inline Process process;

inline thread_local c10::DeviceIndex current_device = 0;

class DeviceMemory {
 public:
  void* take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    open();
    const size_t size = std::max(kGranule, (bytes + kGranule - 1) / kGranule * kGranule);
    size_t offset;
    auto found = free_.lower_bound(size);
    if (found != free_.end() && found->first <= 2 * size) {
      offset = found->second;
      sizes_[offset] = found->first;
      free_.erase(found);
    } else {
      if (end_ + size > process.memory) {
        statistics.num_ooms++;
        TORCH_CHECK_WITH(OutOfMemoryError, false,
                         "Stand-in device out of memory. Tried to allocate ", bytes,
                         " bytes. The device has a total capacity of ", process.memory,
                         " bytes of which ", process.memory - end_, " bytes are free.");
      }
      offset = end_;
      end_ += size;
      sizes_[offset] = size;
    }
    const auto taken = static_cast<int64_t>(sizes_[offset]);
    for (auto& count : statistics.allocation) count.increase(1);
    statistics.allocated_bytes[0].increase(taken);
    statistics.active_bytes[0].increase(taken);
    statistics.requested_bytes[0].increase(static_cast<int64_t>(bytes));
    statistics.reserved_bytes[0].increase(static_cast<int64_t>(end_) -
                                          statistics.reserved_bytes[0].current);
    return device_ + offset;
  }

  void give(void* address) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto offset = static_cast<size_t>(static_cast<char*>(address) - device_);
    const size_t size = sizes_.at(offset);
    sizes_.erase(offset);
    free_.emplace(size, offset);
    for (auto& count : statistics.allocation) count.decrease(1);
    statistics.allocated_bytes[0].decrease(size);
    statistics.active_bytes[0].decrease(size);
  }

  // Where a kernel finds the bytes at `address`, or null where that is not this device's memory.
  void* host(const void* address) const {
    const auto* byte = static_cast<const char*>(address);
    if (device_ == nullptr || byte < device_ || byte >= device_ + process.memory) return nullptr;
    return host_ + (byte - device_);
  }

  size_t unused() const { return process.memory - end_; }

  c10::CachingDeviceAllocator::DeviceStats statistics;
  std::mutex mutex_;

 private:
  void open() {
    if (device_ != nullptr) return;
    device_ = map(PROT_NONE);
    host_ = map(PROT_READ | PROT_WRITE);
  }
  static char* map(int access) {
    void* made =
        mmap(nullptr, process.memory, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(made != MAP_FAILED, "the stand-in's memory cannot be mapped");
    return static_cast<char*>(made);
  }

  char* device_ = nullptr;
  char* host_ = nullptr;
  size_t end_ = 0;
  std::multimap<size_t, size_t> free_;        // size to offset
  std::unordered_map<size_t, size_t> sizes_;  // offset to size, of what is in use
};

inline std::array<DeviceMemory, kMostDevices> memories;

// The bytes of a device address, for kernels.
inline void* host_address(const void* address) {
  if (address == nullptr) return nullptr;
  for (auto& memory : memories)
    if (void* found = memory.host(address)) return found;
  TORCH_CHECK(false, "A kernel of the stand-in got the address ", address,
              ", which is not memory of its device.");
}

class Allocator final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const auto device = current_device;
    void* address = bytes == 0 ? nullptr : memories[device].take(bytes);
    return {address, address, &release, c10::Device(c10::kPrivateUse1, device)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(host_address(to), host_address(from), bytes);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override { emptied++; }
  void recordStream(const c10::DataPtr&, c10::Stream) override { recorded++; }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    const std::lock_guard<std::mutex> lock(memories[device].mutex_);
    return memories[device].statistics;
  }
  void resetAccumulatedStats(c10::DeviceIndex device) override {
    each(device, [](auto& count) { count.reset_accumulated(); });
  }
  void resetPeakStats(c10::DeviceIndex device) override {
    each(device, [](auto& count) { count.reset_peak(); });
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override {
    return {memories[device].unused(), process.memory};
  }

  int64_t emptied = 0;
  int64_t recorded = 0;

 private:
  static void release(void* address) {
    if (address == nullptr) return;
    for (auto& memory : memories)
      if (memory.host(address) != nullptr) return memory.give(address);
  }
  template <class F>
  static void each(c10::DeviceIndex device, const F& act) {
    const std::lock_guard<std::mutex> lock(memories[device].mutex_);
    auto& of = memories[device].statistics;
    for (auto* counts : {&of.allocation, &of.allocated_bytes, &of.active_bytes, &of.reserved_bytes,
                         &of.requested_bytes})
      for (auto& count : *counts) act(count);
  }
};

inline Allocator allocator;

// Pinned memory: the host's own, and known to be pinned.
class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    auto made = c10::GetDefaultCPUAllocator()->allocate(bytes);
    void* address = made.get();
    if (address == nullptr) return made;
    const std::lock_guard<std::mutex> lock(mutex());
    blocks()[static_cast<char*>(address)] = {bytes, std::move(made)};
    return {address, address, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  static bool holds(const void* address) {
    const std::lock_guard<std::mutex> lock(mutex());
    auto* byte = static_cast<char*>(const_cast<void*>(address));
    auto after = blocks().upper_bound(byte);
    if (after == blocks().begin()) return false;
    --after;
    return byte < after->first + after->second.first;
  }

 private:
  using Blocks = std::map<char*, std::pair<size_t, c10::DataPtr>>;
  static Blocks& blocks() {
    static auto* made = new Blocks;
    return *made;
  }
  static std::mutex& mutex() {
    static auto* made = new std::mutex;
    return *made;
  }
  static void release(void* address) {
    const std::lock_guard<std::mutex> lock(mutex());
    blocks().erase(static_cast<char*>(address));
  }
};

inline PinnedAllocator pinned_allocator;

}  // namespace standin
