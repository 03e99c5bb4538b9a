// Operators that the device implements itself, because the CPU has no kernel for them or computes
// something else than CUDA does.
//
//   HEITU_KERNELS(random) { m.impl("normal_", normal_); }
//
// The functions take and return CUDA tensors. They are installed by installation.cpp, which wraps
// them so that graph capture and accounting see them like any other operator.
#pragma once

#include <ATen/core/boxing/KernelFunction.h>

#include <string>
#include <vector>

namespace heitu {

struct DeviceKernel {
  std::string name;  // "aten::normal_", "aten::random_.from"
  c10::DispatchKey key;
  c10::KernelFunction kernel;
};

std::vector<DeviceKernel>& device_kernels();

class KernelTable {
 public:
  // `name` without namespace means aten. `key` is the key the kernel answers to.
  template <class Function>
  void impl(const char* name, Function* function, c10::DispatchKey key = c10::DispatchKey::CUDA) {
    add(name, key, c10::KernelFunction::makeFromUnboxedRuntimeFunction(function));
  }

 private:
  static void add(std::string name, c10::DispatchKey key, c10::KernelFunction kernel);
};

struct KernelTableRegistration {
  explicit KernelTableRegistration(void (*fill)(KernelTable&)) {
    KernelTable table;
    fill(table);
  }
};

}  // namespace heitu

#define HEITU_KERNELS(area)                                                                      \
  static void heitu_kernels_##area(::heitu::KernelTable&);                                       \
  static const ::heitu::KernelTableRegistration heitu_registration_##area(heitu_kernels_##area); \
  static void heitu_kernels_##area([[maybe_unused]] ::heitu::KernelTable& m)
