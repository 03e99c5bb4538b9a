// Streams, events, guard and hooks. Work is done when it is called; a stream is a number that each
// kernel's call is counted under.
#pragma once

#include <ATen/core/GeneratorForPrivateuseone.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <chrono>

#include "generator.h"
#include "host_call.h"

namespace standin {

inline thread_local std::array<c10::StreamId, kMostDevices> current_stream{};
inline std::atomic<c10::StreamId> last_stream{0};

struct Event {
  std::chrono::steady_clock::time_point time;
  c10::DeviceIndex device;
};

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  using Device = c10::Device;
  using Stream = c10::Stream;

  c10::DeviceType type() const override { return c10::kPrivateUse1; }
  Device exchangeDevice(Device device) const override {
    const auto before = getDevice();
    setDevice(device);
    return before;
  }
  Device getDevice() const override { return {c10::kPrivateUse1, current_device}; }
  void setDevice(Device device) const override {
    TORCH_CHECK(device.index() < process.devices, "The stand-in has ", process.devices,
                " devices, so there is no ", device);
    if (device.has_index()) current_device = device.index();
  }
  void uncheckedSetDevice(Device device) const noexcept override {
    if (device.has_index()) current_device = device.index();
  }
  Stream getStream(Device device) const override {
    return Stream(Stream::UNSAFE, resolve(device), current_stream[resolve(device).index()]);
  }
  Stream getDefaultStream(Device device) const override {
    return Stream(Stream::DEFAULT, resolve(device));
  }
  Stream getStreamFromGlobalPool(Device device, bool) const override { return fresh(device); }
  Stream getNewStream(Device device, int) const override { return fresh(device); }
  Stream exchangeStream(Stream stream) const override {
    auto& current = current_stream[stream.device_index()];
    const Stream before(Stream::UNSAFE, stream.device(), current);
    current = stream.id();
    return before;
  }
  void* getStreamNativeHandle(const Stream stream) const override {
    return reinterpret_cast<void*>(stream.id());
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }
  void record(void** event, const Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) *event = new Event;
    *static_cast<Event*>(*event) = {std::chrono::steady_clock::now(), stream.device_index()};
    calls.count("record_event");
  }
  void block(void* event, const Stream&) const override {
    if (event != nullptr) calls.count("wait_event");
  }
  bool queryEvent(void*) const override { return true; }
  c10::DeviceIndex deviceCount() const noexcept override {
    return static_cast<c10::DeviceIndex>(process.devices);
  }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override { calls.count("synchronize_stream"); }
  void synchronizeEvent(void*) const override { calls.count("synchronize_event"); }
  void synchronizeDevice(c10::DeviceIndex) const override { calls.count("synchronize_device"); }
  void recordDataPtrOnStream(const c10::DataPtr& data, const Stream& stream) const override {
    allocator.recordStream(data, stream);
  }
  double elapsedTime(void* from, void* to, c10::DeviceIndex) const override {
    TORCH_CHECK(from && to, "Both events must be recorded before calculating elapsed time.");
    const auto passed = static_cast<Event*>(to)->time - static_cast<Event*>(from)->time;
    return std::chrono::duration<double, std::milli>(passed).count();
  }

 private:
  static Device resolve(Device device) {
    return device.has_index() ? device : Device(c10::kPrivateUse1, current_device);
  }
  static Stream fresh(Device device) {
    return Stream(Stream::UNSAFE, resolve(device), ++last_stream);
  }
};

inline void Calls::count(const std::string& name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++counts_[name];
  ++by_stream_[std::to_string(current_device) + ":" +
               std::to_string(current_stream[current_device]) + ":" + name];
}

inline std::array<std::atomic<bool>, kMostDevices> contexts{};

class Hooks final : public at::PrivateUse1HooksInterface {
 public:
  void init() const override { contexts[current_device] = true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return process.devices > 0; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex device) const override {
    return default_generator(device);
  }
  at::Generator getNewGenerator(c10::DeviceIndex device) const override {
    return at::make_generator<Generator>(device < 0 ? current_device : device);
  }
  at::Device getDeviceFromPtr(void* address) const override {
    for (int i = 0; i < process.devices; ++i)
      if (memories[i].host(address) != nullptr)
        return {c10::kPrivateUse1, static_cast<c10::DeviceIndex>(i)};
    TORCH_CHECK(false, "The address ", address, " is not memory of the stand-in.");
  }
  bool isPinnedPtr(const void* address) const override { return PinnedAllocator::holds(address); }
  at::Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  bool hasPrimaryContext(c10::DeviceIndex device) const override {
    return device >= 0 && device < process.devices && contexts[device];
  }
  c10::DeviceIndex deviceCount() const override {
    return static_cast<c10::DeviceIndex>(process.devices);
  }
  void setCurrentDevice(c10::DeviceIndex device) const override {
    Guard().setDevice({c10::kPrivateUse1, device});
  }
  c10::DeviceIndex getCurrentDevice() const override { return current_device; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return Guard().exchangeDevice({c10::kPrivateUse1, device}).index();
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    if (device >= process.devices) return -1;
    return exchangeDevice(device);
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto* own = dynamic_cast<VendorStorage*>(storage.unsafeGetStorageImpl());
    TORCH_CHECK(own != nullptr, "The stand-in resizes only storages of its own.");
    resize_storage(*own, bytes);
  }
};

inline Hooks hooks;
static c10::impl::DeviceGuardImplRegistrar register_guard(c10::kPrivateUse1, new Guard);

}  // namespace standin
