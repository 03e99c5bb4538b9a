#include "labels.h"

#include <ATen/NestedTensorImpl.h>
#include <ATen/SparseCsrTensorImpl.h>
#include <ATen/SparseCsrTensorUtils.h>
#include <ATen/native/Resize.h>
#include <ATen/native/SparseTensorUtils.h>
#include <ATen/quantized/QTensorImpl.h>
#include <c10/core/CPUAllocator.h>

#include "allocator.h"
#include "block_table.h"
#include "dry.h"
#include "labels_inline.h"
#include "ownership.h"
#include "streams.h"
#include "tape.h"

namespace heitu {

using c10::BackendComponent;
using c10::DispatchKey;
using c10::DispatchKeySet;
using c10::StorageImpl;
using c10::TensorImpl;

thread_local constinit ThreadState thread_state;

namespace {

c10::Allocator& plain_allocator() { return *c10::GetDefaultCPUAllocator(); }

void leave_memory(void*) {}

// Takes back memory of the device and plain memory alike: by the raw interface either may come.
void release_memory(void* address) {
  const auto* tape = thread_state.replaying_tape;
  if (C10_UNLIKELY(tape != nullptr) && tape->holds(address)) return;
  if (auto* block = BlockTable::find(address)) {
    BlockTable::set(address, nullptr);
    release(block);
  } else if (!dry_run() || !unmap_untouched(address)) {
    plain_allocator().raw_deallocate(address);
  }
}

c10::DataPtr host_data_ptr(Block* block) {
  void* address = data(block);
  if (address) BlockTable::set(address, block);
  return {address, address, &release_memory, c10::Device(c10::kCPU)};
}

// Graphs: what a recorded operator takes is noted, and its replay gets the very same.
c10::DataPtr taped(ThreadState& thread, c10::DeviceIndex device, size_t bytes) {
  if (thread.replaying_tape) {
    if (void* address = thread.replaying_tape->next(bytes))
      return {address, address, &leave_memory, c10::Device(c10::kCPU)};
  }
  auto memory = host_data_ptr(heitu::allocate(device, current_stream(device).id(), bytes));
  if (thread.recording_tape) thread.recording_tape->record(memory.get(), bytes);
  return memory;
}

c10::DataPtr device_memory(ThreadState& thread, c10::DeviceIndex device, size_t bytes) {
  if (C10_UNLIKELY(thread.recording_tape || thread.replaying_tape))
    return taped(thread, device, bytes);
  return host_data_ptr(heitu::allocate(device, thread.streams[device], bytes));
}

c10::DataPtr plain_memory(size_t bytes) {
  if (C10_UNLIKELY(dry_run()) && bytes > kMostBytesComputed) {
    if (void* address = map_untouched(bytes))
      return {address, address, &release_memory, c10::Device(c10::kCPU)};
  }
  return plain_allocator().allocate(bytes);
}

// Memory for CPU tensors: the device's inside a DeviceMemoryScope, else the allocator that was
// there before.
class HostAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    auto& thread = thread_state;
    if (C10_LIKELY(thread.scoped_device < 0)) return plain_memory(bytes);
    return device_memory(thread, thread.scoped_device, bytes);
  }
  void copy_data(void* dest, const void* src, size_t count) const override {
    default_copy_data(dest, src, count);
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release_memory; }
};

HostAllocator& host_allocator() {
  static auto* allocator = new HostAllocator;
  return *allocator;
}

void release_host_storage(void* host) {
  c10::intrusive_ptr<StorageImpl>::reclaim(static_cast<StorageImpl*>(host));
}

c10::DataPtr owning_data_ptr(c10::intrusive_ptr<StorageImpl> host, c10::Device device) {
  void* memory = host->_mutable_data_ptr_no_checks().mutable_get();
  return {memory, host.release(), &release_host_storage, device};
}

}  // namespace

void open_spare_shadows() {
  struct Open {
    SpareShadows& spares = thread_state.spare_shadows;
    Open() { spares.open = true; }
    ~Open() {
      spares.open = false;
      while (spares.count > 0)
        c10::intrusive_ptr<TensorImpl>::reclaim(spares.shadows[--spares.count]);
    }
  };
  static thread_local const Open open;  // not opened again while the thread ends
}

void install_host_allocator() { c10::SetCPUAllocator(&host_allocator(), /*priority=*/100); }

DeviceMemoryScope::DeviceMemoryScope(c10::Device device) : previous_(thread_state.scoped_device) {
  thread_state.scoped_device = device.index();
}
DeviceMemoryScope::~DeviceMemoryScope() { thread_state.scoped_device = previous_; }

c10::DataPtr make_device_data_ptr(Block* block, size_t bytes, c10::Device device) {
  auto host = c10::make_intrusive<StorageImpl>(StorageImpl::use_byte_size_t(), bytes,
                                               host_data_ptr(block), &host_allocator(),
                                               /*resizable=*/true);
  return owning_data_ptr(std::move(host), device);
}

c10::DataPtr allocate_device(size_t bytes, c10::Device device) {
  auto host = c10::make_intrusive<StorageImpl>(StorageImpl::use_byte_size_t(), bytes,
                                               device_memory(thread_state, device.index(), bytes),
                                               &host_allocator(), /*resizable=*/true);
  return owning_data_ptr(std::move(host), device);
}

c10::intrusive_ptr<StorageImpl> host_storage(const StorageImpl& device) {
  const auto& pointer = device.data_ptr();
  if (C10_LIKELY(pointer.get_deleter() == &release_host_storage)) {
    return c10::intrusive_ptr<StorageImpl>::reclaim_copy(
        static_cast<StorageImpl*>(pointer.get_context()));
  }
  return c10::make_intrusive<StorageImpl>(
      StorageImpl::use_byte_size_t(), device.nbytes(),
      c10::DataPtr(const_cast<void*>(pointer.get()), c10::Device(c10::kCPU)), &host_allocator(),
      device.resizable());
}

c10::intrusive_ptr<StorageImpl> device_storage(c10::intrusive_ptr<StorageImpl> host,
                                               c10::Device device) {
  const auto bytes = host->nbytes();
  return c10::make_intrusive<StorageImpl>(StorageImpl::use_byte_size_t(), bytes,
                                          owning_data_ptr(std::move(host), device),
                                          &device_allocator(), /*resizable=*/true);
}

void resize_storage(c10::StorageImpl& device, size_t bytes) {
  TORCH_CHECK(device.resizable(), "Trying to resize storage that is not resizable");
  const auto host = host_storage(device);
  DeviceMemoryScope scope(device.device());
  at::native::resize_bytes_cpu(host.get(), bytes);
  follow_host_storage(device);
}

bool follow_host_storage(StorageImpl& device) {
  auto& pointer = device._mutable_data_ptr_no_checks();
  if (pointer.get_deleter() != &release_host_storage) return false;
  auto* host = static_cast<StorageImpl*>(pointer.get_context());
  if (host->data_ptr().get() == pointer.get() && host->nbytes() == device.nbytes()) return false;
  device.set_data_ptr_noswap(
      owning_data_ptr(c10::intrusive_ptr<StorageImpl>::reclaim_copy(host), pointer.device()));
  device.set_nbytes(host->nbytes());
  return true;
}

void adopt_address(const void* address, Block* block) { BlockTable::set(address, block); }

bool disown_memory(StorageImpl& device) {
  const auto host = host_storage(device);
  return host->_mutable_data_ptr_no_checks().compare_exchange_deleter(&release_memory,
                                                                      &leave_memory);
}

bool owns_memory(const StorageImpl& device) {
  return host_storage(device)->data_ptr().get_deleter() == &release_memory;
}

void own_memory(StorageImpl& device, Block* block) {
  TORCH_CHECK(!owns_memory(device), "Not expecting deleter function");
  device.set_data_ptr_noswap(make_device_data_ptr(block, device.nbytes(), device.device()));
}

// ---- tensors ----

namespace {

at::Tensor shadow_sparse(const at::Tensor& device) {
  auto* source = at::sparse::get_sparse_impl(device);
  auto shadow =
      c10::make_intrusive<at::SparseTensorImpl>(host_keys(device.key_set()), device.dtype());
  shadow->raw_resize_(source->sparse_dim(), source->dense_dim(), source->sizes());
  shadow->set_indices_and_values_unsafe(host_view(source->indices()), host_view(source->values()));
  shadow->set_coalesced(source->coalesced());
  return at::Tensor(std::move(shadow));
}

at::Tensor shadow_compressed(const at::Tensor& device) {
  auto* source = at::sparse_csr::get_sparse_csr_impl(device);
  auto shadow = c10::make_intrusive<at::SparseCsrTensorImpl>(
      host_keys(device.key_set()), c10::Device(c10::kCPU), device.layout(), device.dtype());
  shadow->set_member_tensors(host_view(source->compressed_indices()),
                             host_view(source->plain_indices()), host_view(source->values()),
                             source->sym_sizes());
  return at::Tensor(std::move(shadow));
}

at::Tensor shadow_nested(const at::Tensor& device) {
  auto* source = at::native::get_nested_tensor_impl(device);
  auto shadow = c10::make_intrusive<at::native::NestedTensorImpl>(
      c10::Storage(host_storage(*device.storage().unsafeGetStorageImpl())),
      host_keys(device.key_set()), device.dtype(), source->get_nested_sizes(),
      source->get_nested_strides(), source->get_storage_offsets());
  return at::Tensor(std::move(shadow));
}

at::Tensor shadow_quantized(const at::Tensor& device) {
  auto* source = static_cast<at::QTensorImpl*>(device.unsafeGetTensorImpl());
  auto shadow = c10::make_intrusive<at::QTensorImpl>(
      c10::Storage(host_storage(*device.storage().unsafeGetStorageImpl())),
      host_keys(device.key_set()), device.dtype(), source->quantizer());
  Access::copy_metadata(source, shadow.get());
  Access::device(*shadow) = c10::Device(c10::kCPU);
  return at::Tensor(std::move(shadow));
}

// A result that something else holds too must not change its label under that holder.
at::Tensor fresh(at::Tensor host) {
  return host.use_count() == 1 ? std::move(host) : host.detach();
}

}  // namespace

at::Tensor host_view(const at::Tensor& device) {
  auto* impl = device.unsafeGetTensorImpl();
  if (!device.defined() || impl->device_type() != c10::kCUDA) return device;
  const auto keys = impl->key_set();
  if (C10_UNLIKELY(keys.has_any(kUnusualLayouts))) {
    if (device.is_sparse()) return shadow_sparse(device);
    if (device.is_nested()) return shadow_nested(device);
    if (device.is_quantized()) return shadow_quantized(device);
    return shadow_compressed(device);
  }
  if (C10_UNLIKELY(!impl->has_storage())) return device;
  return strided_shadow(*impl);
}

at::Tensor device_label(at::Tensor host, c10::Device device) {
  if (!host.defined() || host.device().type() != c10::kCPU) return host;
  host = fresh(std::move(host));
  auto& impl = *host.unsafeGetTensorImpl();
  const auto relabel = [&] {
    Access::keys(impl) = device_keys(impl.key_set());
    Access::device(impl) = device;
  };
  if (C10_UNLIKELY(host.is_sparse())) {
    auto& sparse = static_cast<at::SparseTensorImpl&>(impl);
    auto indices = device_label(sparse.indices(), device);
    auto values = device_label(sparse.values(), device);
    const bool coalesced = sparse.coalesced();
    relabel();
    sparse.set_indices_and_values_unsafe(indices, values);  // which forgets it
    sparse.set_coalesced(coalesced);
  } else if (C10_UNLIKELY(at::sparse_csr::is_sparse_compressed(host))) {
    auto& compressed = static_cast<at::SparseCsrTensorImpl&>(impl);
    auto outer = device_label(compressed.compressed_indices(), device);
    auto inner = device_label(compressed.plain_indices(), device);
    auto values = device_label(compressed.values(), device);
    relabel();
    compressed.set_member_tensors(outer, inner, values, compressed.sym_sizes());
  } else {
    if (impl.has_storage() && impl.unsafe_storage()) {
      auto* storage = Access::storage(impl).unsafeReleaseStorageImpl();
      Access::storage(impl) =
          c10::Storage(device_storage(c10::intrusive_ptr<StorageImpl>::reclaim(storage), device));
    }
    relabel();
  }
  return host;
}

void write_back(const at::Tensor& shadow, const at::Tensor& tensor) {
  auto& to = *tensor.unsafeGetTensorImpl();
  auto& from = *shadow.unsafeGetTensorImpl();
  const auto device = to.device();
  if (C10_UNLIKELY(to.key_set().has_any(kUnusualLayouts))) {
    if (tensor.is_sparse()) {
      auto* source = static_cast<at::SparseTensorImpl*>(&from);
      auto* target = static_cast<at::SparseTensorImpl*>(&to);
      const auto relabelled = [&](const at::Tensor& host, const at::Tensor& before) {
        // Unchanged memory keeps its device storage, so that views of it stay views.
        if (host.has_storage() && before.has_storage() && host.sizes() == before.sizes() &&
            host.const_data_ptr() == before.const_data_ptr())
          return before;
        return device_label(host.alias(), device);
      };
      auto indices = relabelled(source->indices(), target->indices());
      auto values = relabelled(source->values(), target->values());
      target->raw_resize_(source->sparse_dim(), source->dense_dim(), source->sizes());
      target->set_indices_and_values_unsafe(indices, values);
      target->set_coalesced(source->coalesced());
    } else if (at::sparse_csr::is_sparse_compressed(tensor)) {
      auto* source = static_cast<at::SparseCsrTensorImpl*>(&from);
      auto* target = static_cast<at::SparseCsrTensorImpl*>(&to);
      target->set_member_tensors(device_label(source->compressed_indices().alias(), device),
                                 device_label(source->plain_indices().alias(), device),
                                 device_label(source->values().alias(), device),
                                 source->sym_sizes());
    } else if (tensor.has_storage()) {
      follow_host_storage(*tensor.storage().unsafeGetStorageImpl());
    }
    return;
  }
  write_back_strided(from, to);
}

}  // namespace heitu
