// What PyTorch's device-generic code asks of a device: guard, streams, events.
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "allocator.h"
#include "block_table.h"
#include "capture.h"
#include "streams.h"
#include "version.h"

namespace heitu {
namespace {

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto previous = current_device();
    if (device.index() != previous) set_current_device(device.index());
    return {c10::kCUDA, previous};
  }
  c10::Device getDevice() const override { return {c10::kCUDA, current_device()}; }
  void setDevice(c10::Device device) const override { set_current_device(device.index()); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.index() >= 0 && device.index() < heitu::device_count())
      set_current_device(device.index());
  }
  c10::Stream getStream(c10::Device device) const override {
    return current_stream(device.index());
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    const auto index = device.has_index() ? device.index() : current_device();
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(c10::kCUDA, index));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool high_priority) const override {
    return pool_stream(device.index(), high_priority ? -1 : 0);
  }
  c10::Stream getNewStream(c10::Device device, int priority) const override {
    return pool_stream(device.index(), priority);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override { return exchange_stream(stream); }
  c10::DeviceIndex deviceCount() const noexcept override { return heitu::device_count(); }

  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }
  void record(void** event, const c10::Stream& stream, c10::DeviceIndex,
              c10::EventFlag flag) const override {
    if (!*event) {
      auto* fresh = new Event;
      fresh->timing = flag == c10::EventFlag::BACKEND_DEFAULT;
      *event = fresh;
    }
    record_event(*static_cast<Event*>(*event), stream);
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event) wait_event(*static_cast<Event*>(event), stream);
  }
  bool queryEvent(void* event) const override {
    return !event || query_event(*static_cast<Event*>(event));
  }
  bool queryStream(const c10::Stream& stream) const override { return stream_idle(stream); }
  void synchronizeStream(const c10::Stream& stream) const override {
    heitu::synchronize_stream(stream);
  }
  void synchronizeEvent(void* event) const override {
    if (event) heitu::synchronize_event(*static_cast<Event*>(event));
  }
  void synchronizeDevice(c10::DeviceIndex device) const override {
    heitu::synchronize_device(device);
  }
  double elapsedTime(void* start, void* end, c10::DeviceIndex) const override {
    TORCH_CHECK(start && end, "Both events must be recorded before calculating elapsed time.");
    return elapsed_ms(*static_cast<Event*>(start), *static_cast<Event*>(end));
  }
  void recordDataPtrOnStream(const c10::DataPtr& pointer,
                             const c10::Stream& stream) const override {
    if (auto* block = BlockTable::find(pointer.get())) record_stream(block, stream);
  }
#if HEITU_TORCH_AT_LEAST(2, 10)
  c10::DeviceCapability getDeviceCapability(c10::Device) const override { return {}; }
#endif
#if HEITU_TORCH_AT_LEAST(2, 11)
  void* getStreamNativeHandle(const c10::Stream stream) const override {
    return reinterpret_cast<void*>(stream.id());
  }
#endif
#if HEITU_TORCH_AT_LEAST(2, 12)
  bool isStreamCapturing(const c10::Stream& stream) const override {
    return stream_capturing(stream);
  }
#endif
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

}  // namespace
}  // namespace heitu
