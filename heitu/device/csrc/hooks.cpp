// What PyTorch asks of CUDA itself. torch._C caches the hooks when it is initialised, which is why
// this library is opened before it.
#include <ATen/detail/CUDAHooksInterface.h>

#include "allocator.h"
#include "generator.h"
#include "host_memory.h"
#include "rules.h"
#include "state.h"
#include "streams.h"
#include "version.h"

namespace at {

// PyTorch looks the class up by this very name.
struct CUDAHooks : public CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}

  void init() const override { heitu::initialize(); }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return heitu::device_count() > 0; }
  bool hasCUDA() const override { return heitu::device_count() > 0; }
  bool hasCUDART() const override { return true; }
  bool hasMAGMA() const override { return true; }
  bool hasCuSOLVER() const override { return true; }
  bool hasCuBLASLt() const override { return true; }
  bool hasROCM() const override { return false; }
  // PyTorch takes its cuDNN ways; what they end in is in native/: the networks behind nn.LSTM and
  // nn.GRU, batch norm, CTC and grid sampling. Convolutions go to the CPU's kernels before that.
  // A chip whose plugin brings a device of its own is not asked for cuDNN.
  bool hasCuDNN() const override { return heitu::has_cudnn(); }
  bool compiledWithCuDNN() const override { return heitu::has_cudnn(); }
  long versionCuDNN() const override { return 91002; }
#if HEITU_TORCH_AT_LEAST(2, 9)
  long versionRuntimeCuDNN() const override { return 91002; }
  long versionCuDNNFrontend() const override { return 11200; }
#endif
  long versionCUDART() const override { return 12080; }
  bool supportsDilatedConvolutionWithCuDNN() const override { return true; }
  bool supportsDepthwiseConvolutionWithCuDNN() const override { return true; }
#if HEITU_TORCH_AT_LEAST(2, 10)
  bool supportsBFloat16RNNWithCuDNN() const override { return true; }
#endif
  bool supportsBFloat16ConvolutionWithCuDNNv8() const override { return true; }
  double batchnormMinEpsilonCuDNN() const override { return 0.0; }
  std::string showConfig() const override { return "  - CUDA: emulated on the CPU by Heitu\n"; }

  const Generator& getDefaultGenerator(DeviceIndex device) const override {
    return heitu::default_generator(device);
  }
  Generator getNewGenerator(DeviceIndex device) const override {
    return heitu::new_generator(device);
  }
  Device getDeviceFromPtr(void* data) const override {
    if (auto* block = heitu::find_containing_block(data)) return heitu::block_device(block);
    return {kCUDA, heitu::current_device()};
  }
  bool isPinnedPtr(const void* data) const override { return heitu::is_pinned(data); }
  Allocator* getPinnedMemoryAllocator() const override { return heitu::pinned_allocator(); }
  Allocator* getCUDADeviceAllocator() const override { return &heitu::device_allocator(); }

  bool hasPrimaryContext(DeviceIndex device) const override {
    return heitu::initialized() && device >= 0 && device < heitu::device_count();
  }
  DeviceIndex current_device() const override { return heitu::current_device(); }
  DeviceIndex deviceCount() const override { return heitu::device_count(); }
  int getNumGPUs() const override { return heitu::device_count(); }
  void setCurrentDevice(DeviceIndex device) const override { heitu::set_current_device(device); }
  DeviceIndex getCurrentDevice() const override { return heitu::current_device(); }
  DeviceIndex exchangeDevice(DeviceIndex device) const override {
    const auto previous = heitu::current_device();
    if (device >= 0 && device != previous) heitu::set_current_device(device);
    return previous;
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex device) const override {
    return exchangeDevice(device);
  }
  void deviceSynchronize(DeviceIndex device) const override { heitu::synchronize_device(device); }

  int64_t cuFFTGetPlanCacheMaxSize(DeviceIndex device) const override {
    return heitu::fft_plan_cache(device).max_size;
  }
  void cuFFTSetPlanCacheMaxSize(DeviceIndex device, int64_t max_size) const override {
    TORCH_CHECK(max_size >= 0, "cuFFT plan cache size must be non-negative, but got ", max_size);
    heitu::fft_plan_cache(device).max_size = max_size;
  }
  int64_t cuFFTGetPlanCacheSize(DeviceIndex device) const override {
    return heitu::fft_plan_cache(device).size;
  }
  void cuFFTClearPlanCache(DeviceIndex device) const override {
    heitu::fft_plan_cache(device).size = 0;
  }
};

REGISTER_CUDA_HOOKS(CUDAHooks)

}  // namespace at
