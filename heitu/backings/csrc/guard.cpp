// What PyTorch's device-generic code asks of cuda: guard, streams, events. All of it is the
// plugin's.
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "../../device/csrc/cuda_error.h"
#include "labels.h"
#include "version.h"

namespace heitu {
namespace {

const c10::impl::DeviceGuardImplInterface* loaded() {
  return c10::impl::device_guard_impl_registry[static_cast<size_t>(kPlugin)].load();
}

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device device) const override {
    check(device);
    return cuda_device(plugin().exchangeDevice(plugin_device(device)));
  }
  c10::Device getDevice() const override { return cuda_device(plugin().getDevice()); }
  void setDevice(c10::Device device) const override {
    check(device);
    plugin().setDevice(plugin_device(device));
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (const auto* guard = loaded()) guard->uncheckedSetDevice(plugin_device(device));
  }
  c10::Stream getStream(c10::Device device) const override {
    return cuda_stream(plugin().getStream(plugin_device(device)));
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return cuda_stream(plugin().getDefaultStream(plugin_device(device)));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool high_priority) const override {
    return cuda_stream(plugin().getStreamFromGlobalPool(plugin_device(device), high_priority));
  }
  c10::Stream getNewStream(c10::Device device, int priority) const override {
    return cuda_stream(plugin().getNewStream(plugin_device(device), priority));
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return cuda_stream(plugin().exchangeStream(plugin_stream(stream)));
  }
  c10::DeviceIndex deviceCount() const noexcept override {
    const auto* guard = loaded();
    return guard ? guard->deviceCount() : 0;
  }

  void destroyEvent(void* event, c10::DeviceIndex device) const noexcept override {
    if (const auto* guard = loaded()) guard->destroyEvent(event, device);
  }
  void record(void** event, const c10::Stream& stream, c10::DeviceIndex device,
              c10::EventFlag flag) const override {
    plugin().record(event, plugin_stream(stream), device, flag);
  }
  void block(void* event, const c10::Stream& stream) const override {
    plugin().block(event, plugin_stream(stream));
  }
  bool queryEvent(void* event) const override { return plugin().queryEvent(event); }
  bool queryStream(const c10::Stream& stream) const override {
    return plugin().queryStream(plugin_stream(stream));
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    plugin().synchronizeStream(plugin_stream(stream));
  }
  void synchronizeEvent(void* event) const override { plugin().synchronizeEvent(event); }
  void synchronizeDevice(c10::DeviceIndex device) const override {
    plugin().synchronizeDevice(device);
  }
  double elapsedTime(void* start, void* end, c10::DeviceIndex device) const override {
    return plugin().elapsedTime(start, end, device);
  }
  void recordDataPtrOnStream(const c10::DataPtr& pointer,
                             const c10::Stream& stream) const override {
    auto* storage = static_cast<c10::StorageImpl*>(pointer.get_context());
    if (storage) plugin().recordDataPtrOnStream(storage->data_ptr(), plugin_stream(stream));
  }
#if HEITU_TORCH_AT_LEAST(2, 10)
  c10::DeviceCapability getDeviceCapability(c10::Device device) const override {
    return plugin().getDeviceCapability(plugin_device(device));
  }
#endif
#if HEITU_TORCH_AT_LEAST(2, 11)
  void* getStreamNativeHandle(const c10::Stream stream) const override {
    return plugin().getStreamNativeHandle(plugin_stream(stream));
  }
#endif
#if HEITU_TORCH_AT_LEAST(2, 12)
  bool isStreamCapturing(const c10::Stream& stream) const override {
    return plugin().isStreamCapturing(plugin_stream(stream));
  }
#endif

 private:
  void check(c10::Device device) const {
    if (C10_UNLIKELY(device.index() >= deviceCount())) throw_cuda_error(kInvalidDevice);
  }

  static const c10::impl::DeviceGuardImplInterface& plugin() {
    const auto* guard = loaded();
    TORCH_CHECK(guard, "The vendor's plugin is not loaded yet.");
    return *guard;
  }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

}  // namespace
}  // namespace heitu
