// Which device PyTorch takes for "the accelerator". A registered plugin would be it, always.
#pragma once

#include <c10/core/DeviceType.h>

#include <optional>

namespace heitu {

// What at::getAccelerator answers on this thread while the scope lives; nothing: none.
class AcceleratorScope {
 public:
  explicit AcceleratorScope(std::optional<c10::DeviceType> type);
  ~AcceleratorScope();
  AcceleratorScope(const AcceleratorScope&) = delete;
  AcceleratorScope& operator=(const AcceleratorScope&) = delete;

 private:
  int previous_;
};

// What it answers otherwise. Before the device has come to life there is none.
void set_accelerator(std::optional<c10::DeviceType> type);

}  // namespace heitu
