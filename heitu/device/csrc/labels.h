// A CUDA tensor of the emulated device is a label over host memory: its StorageImpl (device cuda:i)
// owns, through the context of its DataPtr, a host StorageImpl (device cpu) over the same bytes.
// Kernels of the CPU work on shadows, tensors labelled cpu over that host storage; what they
// return is relabelled in place.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/StorageImpl.h>

namespace heitu {

struct Block;

// ---- storages ----

// DataPtr for a device storage; takes ownership of `block`.
c10::DataPtr make_device_data_ptr(Block* block, size_t bytes, c10::Device device);

// Memory on the current stream of the device, for a device storage.
c10::DataPtr allocate_device(size_t bytes, c10::Device device);

// The host storage under a device storage. For memory that Heitu did not allocate (dlpack, IPC) a
// non-owning one is made; it must not outlive `device`.
c10::intrusive_ptr<c10::StorageImpl> host_storage(const c10::StorageImpl& device);

// A device storage that owns `host`.
c10::intrusive_ptr<c10::StorageImpl> device_storage(c10::intrusive_ptr<c10::StorageImpl> host,
                                                    c10::Device device);

// After a kernel resized the host storage: the device storage follows. True if anything changed.
bool follow_host_storage(c10::StorageImpl& device);

// Gives a device storage memory of another size; what it holds is kept as far as it fits.
void resize_storage(c10::StorageImpl& device, size_t bytes);

// ---- tensors ----

// CPU-labelled tensor over the same memory, of the same layout (strided, sparse, nested).
at::Tensor host_view(const at::Tensor& device);

// Relabels a fresh result of a CPU kernel; `host` must not be used afterwards.
at::Tensor device_label(at::Tensor host, c10::Device device);

// Writes what a kernel did to the shadow's metadata (out= resize, set_) back to the tensor.
void write_back(const at::Tensor& shadow, const at::Tensor& tensor);

// While alive, memory that this thread allocates for CPU tensors is the device's.
class DeviceMemoryScope {
 public:
  explicit DeviceMemoryScope(c10::Device device);
  ~DeviceMemoryScope();
  DeviceMemoryScope(const DeviceMemoryScope&) = delete;
  DeviceMemoryScope& operator=(const DeviceMemoryScope&) = delete;

 private:
  c10::DeviceIndex previous_;
};

// Puts the allocator of CPU tensors that honours DeviceMemoryScope in place; once.
void install_host_allocator();

}  // namespace heitu
