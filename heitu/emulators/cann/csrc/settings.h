// The machine that is emulated, read once from the environment.
#pragma once

#include <cstddef>
#include <string>

namespace heitu::cann {

struct Settings {
  std::string soc;      // HEITU_CANN_SOC, as the runtime names its chip
  int devices;          // HEITU_CANN_DEVICES, or LOCAL_WORLD_SIZE
  size_t memory_bytes;  // HEITU_CANN_MEMORY, of one device
  std::string version;  // HEITU_CANN_VERSION, of the toolkit
  size_t delay;         // HEITU_CANN_DELAY, in microseconds, the longest before a task of a stream
};

const Settings& settings();

}  // namespace heitu::cann
