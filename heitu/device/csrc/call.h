// The boxed way through the device: any operator, any arguments.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

namespace heitu {

using Stack = torch::jit::Stack;

// How an operator treats tensors on several devices (native_functions.yaml, device_check).
enum class DeviceCheck {
  strict,    // every tensor on one device
  iterator,  // TensorIterator: 0-dim CPU tensors may mix
  none,      // the operator's own business
};
DeviceCheck device_check(const c10::OperatorName& op);
// Folder of the torchgen package whose native_functions.yaml device_check reads.
void set_torchgen_folder(std::string folder);

// Raises PyTorch's error if the tensors of the call do not fit together on one device.
void check_devices(const c10::OperatorHandle& op, DeviceCheck check, const Stack& stack);

// The kernel that runs `op` on the CPU's kernel for `host_key`.
c10::KernelFunction delegate(const c10::OperatorHandle& op, c10::DispatchKey host_key);

// The kernel that runs what the device implements itself.
c10::KernelFunction native(const c10::OperatorHandle& op, c10::KernelFunction kernel);

// Registers a kernel on CUDA (and its sparse, nested, quantized kin) for every operator known now.
// Returns how many.
int install_kernels();

}  // namespace heitu
