// Life of the emulated device in this process.
#pragma once

#include <c10/core/Device.h>

#include <array>
#include <cstdint>

namespace heitu {

// First use: marks the process as one whose forked children must not use the device.
void initialize();
bool initialized() noexcept;
// True in a child forked after the parent used the device.
bool in_bad_fork() noexcept;

// cuFFT's plan cache has no counterpart; its settings are kept.
struct FftPlanCache {
  int64_t max_size = 4096;
  int64_t size = 0;
};
FftPlanCache& fft_plan_cache(c10::DeviceIndex device);

}  // namespace heitu
