// Random number generators of the cuda device: each holds one of the plugin's.
#pragma once

#include <ATen/core/Generator.h>

#include <vector>

namespace heitu {

// The plugin's generator under one of cuda; others come back as they are.
at::Generator plugin_generator(const at::Generator& generator);

// The plugin's default generators, one a device, for plugins that only Python can ask for them
// (torch_npu 2.10 and before).
void tell_default_generators(std::vector<at::Generator> generators);

at::Generator new_generator(c10::DeviceIndex device);
const at::Generator& default_generator(c10::DeviceIndex device);

}  // namespace heitu
