// What torch.cuda.get_device_properties reports, one record a device.
#pragma once

#include <c10/core/Device.h>

#include <cstddef>
#include <string>

namespace heitu {

// Defaults: NVIDIA H200 SXM (CUDA 9.0 device attributes; memory as cudaMemGetInfo reports it).
struct DeviceProperties {
  std::string name = "NVIDIA H200 (emulated by Heitu)";
  int major = 9;
  int minor = 0;
  size_t total_memory = 150110011392;  // bytes
  int multi_processor_count = 132;
  int max_threads_per_multi_processor = 2048;
  int max_threads_per_block = 1024;
  int warp_size = 32;
  size_t shared_memory_per_block = 49152;            // bytes
  size_t shared_memory_per_block_optin = 232448;     // bytes
  size_t shared_memory_per_multiprocessor = 233472;  // bytes
  int regs_per_multiprocessor = 65536;
  size_t l2_cache_size = 62914560;  // bytes
  int clock_rate = 1980000;         // kHz
  int memory_clock_rate = 3201000;  // kHz
  int memory_bus_width = 6144;      // bits
};

DeviceProperties& properties(c10::DeviceIndex device);

}  // namespace heitu
