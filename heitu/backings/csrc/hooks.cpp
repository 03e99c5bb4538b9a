// What PyTorch asks of CUDA itself. torch._C caches the hooks when it is initialised, which is why
// this library is opened before it; the plugin comes after.
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>

#include "allocator.h"
#include "generator.h"
#include "labels.h"

namespace heitu {
namespace {

const at::AcceleratorHooksInterface* hooks() {
  return at::isPrivateUse1HooksRegistered() ? &at::detail::getPrivateUse1Hooks() : nullptr;
}

}  // namespace
}  // namespace heitu

namespace at {

// PyTorch looks the class up by this very name.
struct CUDAHooks : public CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}

  void init() const override {
    if (const auto* plugin = heitu::hooks()) plugin->init();
  }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return deviceCount() > 0; }
  bool hasCUDA() const override { return deviceCount() > 0; }
  bool hasCUDART() const override { return true; }
  std::string showConfig() const override { return "  - CUDA: a vendor's plugin, through Heitu\n"; }
  long versionCUDART() const override { return 12080; }

  const Generator& getDefaultGenerator(DeviceIndex device) const override {
    return heitu::default_generator(device);
  }
  Generator getNewGenerator(DeviceIndex device) const override {
    return heitu::new_generator(device);
  }
  Device getDeviceFromPtr(void* data) const override {
    const auto* plugin = heitu::hooks();
    return heitu::cuda_device(plugin ? plugin->getDeviceFromPtr(data)
                                     : heitu::cuda_guard().getDevice());
  }
  bool isPinnedPtr(const void* data) const override {
    const auto* plugin = heitu::hooks();
    return plugin && plugin->isPinnedPtr(data);
  }
  Allocator* getPinnedMemoryAllocator() const override {
    const auto* plugin = heitu::hooks();
    TORCH_CHECK(plugin, "The vendor's plugin is not loaded yet.");
    return plugin->getPinnedMemoryAllocator();
  }
  Allocator* getCUDADeviceAllocator() const override { return &heitu::cuda_allocator(); }

  bool hasPrimaryContext(DeviceIndex device) const override {
    const auto* plugin = heitu::hooks();
    return plugin && plugin->hasPrimaryContext(device);
  }
  DeviceIndex current_device() const override { return heitu::cuda_guard().getDevice().index(); }
  DeviceIndex deviceCount() const override { return heitu::cuda_guard().deviceCount(); }
  int getNumGPUs() const override { return deviceCount(); }
  void setCurrentDevice(DeviceIndex device) const override {
    heitu::cuda_guard().setDevice({kCUDA, device});
  }
  DeviceIndex getCurrentDevice() const override { return current_device(); }
  DeviceIndex exchangeDevice(DeviceIndex device) const override {
    if (device < 0) return current_device();
    return heitu::cuda_guard().exchangeDevice({kCUDA, device}).index();
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex device) const override {
    return exchangeDevice(device);
  }
  void deviceSynchronize(DeviceIndex device) const override {
    heitu::cuda_guard().synchronizeDevice(device);
  }
};

REGISTER_CUDA_HOOKS(CUDAHooks)

}  // namespace at
