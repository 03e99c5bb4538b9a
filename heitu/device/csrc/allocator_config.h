// PYTORCH_ALLOC_CONF (PYTORCH_CUDA_ALLOC_CONF), as PyTorch's CUDA allocator reads it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <limits>
#include <map>
#include <string>

namespace heitu {

struct AllocatorConfig {
  size_t max_split_size = std::numeric_limits<size_t>::max();  // bytes
  size_t max_non_split_rounding = size_t{20} << 20;            // bytes
  size_t large_segment = size_t{20} << 20;                     // bytes
  double garbage_collection_threshold = 0;                     // fraction of the allowed memory
  double memory_fraction = -1;                                 // not set
  // Divisions of the octave that begins at 1 MiB << i, the ends standing for all beyond.
  std::array<size_t, 16> roundup_divisions{};
  bool rounds_up = false;                     // any division above 1
  bool expandable_segments = false;           // accepted; host pages need no growing segments
  std::map<std::string, std::string> unused;  // keys that tune CUDA itself, with their values
  std::string settings;                       // as given

  size_t divisions(size_t size) const noexcept;
};

// Throws c10::ValueError with PyTorch's text.
AllocatorConfig parse_allocator_config(const std::string& settings);

// Replaced, never changed: readers hold plain references, so old ones stay.
extern std::atomic<const AllocatorConfig*> current_allocator_config;
const AllocatorConfig& allocator_config_of_environment();

// Of the environment, until set_allocator_settings was called. Throws like the parser.
inline const AllocatorConfig& allocator_config() {
  const AllocatorConfig* config = current_allocator_config.load(std::memory_order_acquire);
  if (!config) [[unlikely]]
    return allocator_config_of_environment();
  return *config;
}
void set_allocator_settings(const std::string& settings);

}  // namespace heitu
