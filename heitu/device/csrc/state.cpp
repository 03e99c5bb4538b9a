#include "state.h"

#include <pthread.h>

#include <atomic>

#include "properties.h"
#include "streams.h"

namespace heitu {
namespace {

std::atomic<bool> is_initialized{false};
std::atomic<bool> is_bad_fork{false};

}  // namespace

void initialize() {
  if (is_initialized.exchange(true)) return;
  pthread_atfork(nullptr, nullptr, [] {
    is_bad_fork = true;
    is_initialized = false;
  });
}

bool initialized() noexcept { return is_initialized; }
bool in_bad_fork() noexcept { return is_bad_fork; }

FftPlanCache& fft_plan_cache(c10::DeviceIndex device) {
  static auto* caches = new std::array<FftPlanCache, 64>;
  return (*caches)[device < 0 ? current_device() : device];
}

DeviceProperties& properties(c10::DeviceIndex device) {
  static auto* all = new std::array<DeviceProperties, 64>;
  return (*all)[device < 0 ? current_device() : device];
}

}  // namespace heitu
