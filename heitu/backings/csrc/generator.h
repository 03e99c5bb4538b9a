// Random number generators of the cuda device: each holds one of the plugin's.
#pragma once

#include <ATen/core/Generator.h>

namespace heitu {

// The plugin's generator under one of cuda; others come back as they are.
at::Generator plugin_generator(const at::Generator& generator);

at::Generator new_generator(c10::DeviceIndex device);
const at::Generator& default_generator(c10::DeviceIndex device);

}  // namespace heitu
