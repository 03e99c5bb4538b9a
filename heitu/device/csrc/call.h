// The boxed way through the device: any operator, any arguments.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

namespace heitu {

using Stack = torch::jit::Stack;

// Folder of the torchgen package, whose native_functions.yaml tells which operators mix devices.
void set_torchgen_folder(std::string folder);

// Raises PyTorch's error if the tensors of the call do not fit together on one device.
void check_devices(const c10::OperatorHandle& op, c10::ArrayRef<c10::IValue> arguments);

// The kernel that runs `op` on the CPU's kernel for `host_key`.
c10::KernelFunction delegate(const c10::OperatorHandle& op, c10::DispatchKey host_key);

// The kernel that runs what the device implements itself.
c10::KernelFunction native(const c10::OperatorHandle& op, c10::KernelFunction kernel);

// Registers a kernel on CUDA (and its sparse, nested, quantized kin) for every operator known now.
// Returns how many.
int install_kernels();

}  // namespace heitu
