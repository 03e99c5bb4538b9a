#include "accelerator.h"

#include <ATen/DeviceAccelerator.h>

#include <atomic>

namespace heitu {
namespace {

constexpr int kUnset = -2;
constexpr int kNone = -1;

std::atomic<int> standing{kNone};
thread_local int scoped = kUnset;

int number(std::optional<c10::DeviceType> type) { return type ? static_cast<int>(*type) : kNone; }

}  // namespace

AcceleratorScope::AcceleratorScope(std::optional<c10::DeviceType> type) : previous_(scoped) {
  scoped = number(type);
}
AcceleratorScope::~AcceleratorScope() { scoped = previous_; }

void set_accelerator(std::optional<c10::DeviceType> type) { standing = number(type); }

}  // namespace heitu

namespace at::accelerator {

// This library is opened before PyTorch's, for all to see: PyTorch's calls of these come here.
__attribute__((visibility("default"))) std::optional<c10::DeviceType> getAccelerator(bool checked) {
  const int type = heitu::scoped == heitu::kUnset ? heitu::standing.load() : heitu::scoped;
  if (type != heitu::kNone) return static_cast<c10::DeviceType>(type);
  TORCH_CHECK(!checked, "Cannot access accelerator device when none is available.");
  return std::nullopt;
}

// The plugin's device is none: the autograd engine would look for the streams of its nodes, which
// have none beside cuda's (bridge.cpp takes care of them).
__attribute__((visibility("default"))) bool isAccelerator(c10::DeviceType type) {
  return getAccelerator(false) == type;
}

}  // namespace at::accelerator
