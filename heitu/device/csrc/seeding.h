// Random operators that only the CPU implements draw from the device's generator.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/ivalue.h>

#include <mutex>

namespace heitu {

// While alive, the CPU's default generator stands in for the device's: it is seeded from the
// device generator's (seed, offset), which moves on, and gets its own state back afterwards.
class SeededScope {
 public:
  explicit SeededScope(c10::DeviceIndex device);
  ~SeededScope();
  SeededScope(const SeededScope&) = delete;
  SeededScope& operator=(const SeededScope&) = delete;

  // Puts a CPU generator in place of a Generator? argument of the device.
  void replace(c10::IValue& generator);

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  c10::DeviceIndex device_;
  at::Generator saved_;
};

}  // namespace heitu
