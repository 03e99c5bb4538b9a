#include "labels.h"

#include <ATen/SparseCsrTensorImpl.h>
#include <ATen/SparseCsrTensorUtils.h>
#include <ATen/native/SparseTensorUtils.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/DeviceGuard.h>

#include <array>
#include <mutex>
#include <unordered_map>

#include "allocator.h"

namespace heitu {

using c10::BackendComponent;
using c10::DispatchKey;
using c10::DispatchKeySet;
using c10::StorageImpl;
using c10::TensorImpl;

namespace {

// TensorImpl has no setter for these; a derived class may name its protected members.
struct Access : TensorImpl {
  static DispatchKeySet& keys(TensorImpl& t) { return t.*(&Access::key_set_); }
  static std::optional<c10::Device>& device(TensorImpl& t) { return t.*(&Access::device_opt_); }
  static c10::Storage& storage(TensorImpl& t) { return t.*(&Access::storage_); }
  static void copy_metadata(const TensorImpl* from, TensorImpl* to) {
    copy_generic_tensor_metadata(from, to);
  }
};

constexpr DispatchKeySet kSparse = DispatchKeySet({DispatchKey::Sparse, DispatchKey::SparseCsr});

constexpr DispatchKeySet kLazySigns =
    DispatchKeySet({DispatchKey::Conjugate, DispatchKey::Negative});

// The living CUDA storage over each of the plugin's: there is one, so that tensors over the same
// memory share a storage, by which autograd and programs know that they do.
class StorageTable {
 public:
  c10::intrusive_ptr<StorageImpl> find(const StorageImpl* plugin) {
    auto& part = part_of(plugin);
    const std::lock_guard lock(part.mutex);
    const auto found = part.cuda.find(plugin);
    return found == part.cuda.end() ? nullptr : found->second.lock();
  }
  void put(const StorageImpl* plugin, const c10::intrusive_ptr<StorageImpl>& cuda) {
    auto& part = part_of(plugin);
    const std::lock_guard lock(part.mutex);
    part.cuda.insert_or_assign(plugin, c10::weak_intrusive_ptr<StorageImpl>(cuda));
  }
  // When a CUDA storage has gone, unless another has taken its place.
  void forget(const StorageImpl* plugin) {
    auto& part = part_of(plugin);
    const std::lock_guard lock(part.mutex);
    const auto found = part.cuda.find(plugin);
    if (found != part.cuda.end() && found->second.expired()) part.cuda.erase(found);
  }

 private:
  struct Part {
    std::mutex mutex;
    std::unordered_map<const StorageImpl*, c10::weak_intrusive_ptr<StorageImpl>> cuda;
  };
  static constexpr size_t kParts = 64;
  Part& part_of(const StorageImpl* plugin) {
    return parts_[(reinterpret_cast<uintptr_t>(plugin) >> 6) % kParts];
  }
  std::array<Part, kParts> parts_;
};

StorageTable& storage_table() {
  static auto* table = new StorageTable;
  return *table;
}

void release_plugin_storage(void* storage) {
  storage_table().forget(static_cast<StorageImpl*>(storage));
  c10::intrusive_ptr<StorageImpl>::reclaim(static_cast<StorageImpl*>(storage));
}

// As above, of memory that PyTorch's allocator interface gave: whose storage is not known yet.
void release_unlisted_storage(void* storage) { release_plugin_storage(storage); }

c10::DataPtr owning_data_ptr(c10::intrusive_ptr<StorageImpl> plugin,
                             c10::DeleterFnPtr release = &release_plugin_storage) {
  void* memory = plugin->_mutable_data_ptr_no_checks().mutable_get();
  const auto device = cuda_device(plugin->device());
  return {memory, plugin.release(), release, device};
}

bool owns_plugin_storage(const c10::DataPtr& pointer) {
  return pointer.get_deleter() == &release_plugin_storage ||
         pointer.get_deleter() == &release_unlisted_storage;
}

at::Tensor empty_on_plugin(at::IntArrayRef size, c10::Device device, at::ScalarType dtype) {
  return at::empty(size, at::TensorOptions().dtype(dtype).device(plugin_device(device)));
}

// Plugins have TensorImpl classes of their own, and only they can make them: copies of a specimen.
c10::intrusive_ptr<TensorImpl> plugin_impl(c10::Device device) {
  constexpr size_t kMost = 64;
  static auto* specimens = new std::array<std::atomic<TensorImpl*>, kMost>{};
  const auto index = static_cast<size_t>(device.index());
  TORCH_CHECK(index < kMost, "Heitu serves device indices below ", kMost, ", not ", index);
  auto* specimen = (*specimens)[index].load(std::memory_order_acquire);
  if (C10_UNLIKELY(!specimen)) {
    static auto* mutex = new std::mutex;
    const std::lock_guard lock(*mutex);
    specimen = (*specimens)[index].load();
    if (!specimen) {
      specimen = empty_on_plugin({0}, device, at::kFloat).unsafeReleaseTensorImpl();
      (*specimens)[index].store(specimen, std::memory_order_release);
    }
  }
  return specimen->shallow_copy_and_detach(c10::VariableVersion(), false);
}

at::Tensor shadow_sparse(const at::Tensor& cuda) {
  auto* source = at::sparse::get_sparse_impl(cuda);
  auto impl = c10::make_intrusive<at::SparseTensorImpl>(plugin_keys(cuda.key_set()), cuda.dtype());
  impl->raw_resize_(source->sparse_dim(), source->dense_dim(), source->sizes());
  impl->set_indices_and_values_unsafe(shadow(source->indices()), shadow(source->values()));
  impl->set_coalesced(source->coalesced());
  return at::Tensor(std::move(impl));
}

at::Tensor shadow_compressed(const at::Tensor& cuda) {
  auto* source = at::sparse_csr::get_sparse_csr_impl(cuda);
  auto impl = c10::make_intrusive<at::SparseCsrTensorImpl>(
      plugin_keys(cuda.key_set()), plugin_device(cuda.device()), cuda.layout(), cuda.dtype());
  impl->set_member_tensors(shadow(source->compressed_indices()), shadow(source->plain_indices()),
                           shadow(source->values()), source->sym_sizes());
  return at::Tensor(std::move(impl));
}

at::Tensor wrap_sparse(const at::Tensor& plugin) {
  auto* source = at::sparse::get_sparse_impl(plugin);
  auto impl =
      c10::make_intrusive<at::SparseTensorImpl>(cuda_keys(plugin.key_set()), plugin.dtype());
  impl->raw_resize_(source->sparse_dim(), source->dense_dim(), source->sizes());
  impl->set_indices_and_values_unsafe(wrap(source->indices()), wrap(source->values()));
  impl->set_coalesced(source->coalesced());
  return at::Tensor(std::move(impl));
}

at::Tensor wrap_compressed(const at::Tensor& plugin) {
  auto* source = at::sparse_csr::get_sparse_csr_impl(plugin);
  auto impl = c10::make_intrusive<at::SparseCsrTensorImpl>(
      cuda_keys(plugin.key_set()), cuda_device(plugin.device()), plugin.layout(), plugin.dtype());
  impl->set_member_tensors(wrap(source->compressed_indices()), wrap(source->plain_indices()),
                           wrap(source->values()), source->sym_sizes());
  return at::Tensor(std::move(impl));
}

}  // namespace

DispatchKeySet plugin_keys(DispatchKeySet keys) {
  return (keys.remove_backend(BackendComponent::CUDABit) -
          DispatchKeySet(DispatchKey::AutocastCUDA)) |
         DispatchKeySet(BackendComponent::PrivateUse1Bit) |
         DispatchKeySet(DispatchKey::AutocastPrivateUse1);
}

DispatchKeySet cuda_keys(DispatchKeySet keys) {
  return (keys.remove_backend(BackendComponent::PrivateUse1Bit) -
          DispatchKeySet(DispatchKey::AutocastPrivateUse1)) |
         DispatchKeySet(BackendComponent::CUDABit) | DispatchKeySet(DispatchKey::AutocastCUDA);
}

c10::intrusive_ptr<StorageImpl> plugin_storage(const StorageImpl& cuda) {
  const auto& pointer = cuda.data_ptr();
  if (C10_LIKELY(owns_plugin_storage(pointer))) {
    auto* plugin = static_cast<StorageImpl*>(pointer.get_context());
    if (C10_UNLIKELY(pointer.get_deleter() == &release_unlisted_storage))
      storage_table().put(
          plugin, c10::intrusive_ptr<StorageImpl>::reclaim_copy(const_cast<StorageImpl*>(&cuda)));
    return c10::intrusive_ptr<StorageImpl>::reclaim_copy(plugin);
  }
  // Memory from elsewhere, in a storage such as the plugin makes.
  const auto bytes = static_cast<int64_t>(cuda.nbytes());
  auto made = empty_on_plugin({0}, pointer.device(), at::kByte);
  auto* storage = made.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(
      c10::DataPtr(const_cast<void*>(pointer.get()), plugin_device(pointer.device())));
  storage->set_nbytes(bytes);
  return c10::intrusive_ptr<StorageImpl>::reclaim_copy(storage);
}

c10::intrusive_ptr<StorageImpl> cuda_storage(StorageImpl* plugin) {
  auto& table = storage_table();
  if (c10::raw::intrusive_ptr::use_count(plugin) >
      1) {  // else nobody but the tensor at hand knows it
    if (auto known = table.find(plugin)) return known;
  }
  auto cuda = c10::make_intrusive<StorageImpl>(
      StorageImpl::use_byte_size_t(), plugin->nbytes(),
      owning_data_ptr(c10::intrusive_ptr<StorageImpl>::reclaim_copy(plugin)), &cuda_allocator(),
      plugin->resizable());
  table.put(plugin, cuda);
  return cuda;
}

c10::DataPtr allocate(size_t bytes, c10::Device cuda) {
  auto made = empty_on_plugin({static_cast<int64_t>(bytes)}, cuda, at::kByte);
  return owning_data_ptr(
      c10::intrusive_ptr<StorageImpl>::reclaim_copy(made.storage().unsafeGetStorageImpl()),
      &release_unlisted_storage);
}

void follow(StorageImpl& cuda) {
  auto& pointer = cuda._mutable_data_ptr_no_checks();
  if (!owns_plugin_storage(pointer)) return;
  auto* plugin = static_cast<StorageImpl*>(pointer.get_context());
  if (plugin->data_ptr().get() == pointer.get() && plugin->nbytes() == cuda.nbytes()) return;
  cuda.set_data_ptr_noswap(owning_data_ptr(c10::intrusive_ptr<StorageImpl>::reclaim_copy(plugin)));
  cuda.set_nbytes(plugin->nbytes());
}

at::Tensor shadow(const at::Tensor& cuda) {
  if (!cuda.defined()) return cuda;
  auto& source = *cuda.unsafeGetTensorImpl();
  if (source.device_type() != c10::kCUDA) return cuda;
  if (C10_UNLIKELY(source.key_set().has_any(kSparse)))
    return cuda.is_sparse() ? shadow_sparse(cuda) : shadow_compressed(cuda);
  if (C10_UNLIKELY(!source.has_storage())) return cuda;
  if (C10_UNLIKELY(cuda._is_zerotensor()))
    return at::zeros(cuda.sizes(), cuda.options().device(plugin_device(cuda.device())));
  auto impl = plugin_impl(source.device());
  Access::storage(*impl) =
      c10::Storage(plugin_storage(*source.unsafe_storage().unsafeGetStorageImpl()));
  Access::copy_metadata(&source, impl.get());
  Access::device(*impl) = plugin_device(source.device());
  Access::keys(*impl) = plugin_keys(source.key_set());
  if (!source.is_inference()) impl->set_version_counter(source.version_counter());
  return at::Tensor(std::move(impl));
}

at::Tensor wrap(const at::Tensor& plugin) {
  if (!is_plugin(plugin)) return plugin;
  auto& source = *plugin.unsafeGetTensorImpl();
  if (C10_UNLIKELY(source.key_set().has_any(kSparse)))
    return plugin.is_sparse() ? wrap_sparse(plugin) : wrap_compressed(plugin);
  auto impl = c10::make_intrusive<TensorImpl>(
      c10::Storage(cuda_storage(source.unsafe_storage().unsafeGetStorageImpl())),
      DispatchKeySet(DispatchKey::CUDA), source.dtype());
  Access::copy_metadata(&source, impl.get());
  Access::device(*impl) = cuda_device(source.device());
  Access::keys(*impl) = cuda_keys(source.key_set());
  if (!source.is_inference()) impl->set_version_counter(source.version_counter());
  return at::Tensor(std::move(impl));
}

void write_back(const at::Tensor& shadow, const at::Tensor& cuda) {
  auto& to = *cuda.unsafeGetTensorImpl();
  auto& from = *shadow.unsafeGetTensorImpl();
  if (C10_UNLIKELY(to.key_set().has_any(kSparse))) {
    if (cuda.is_sparse()) {
      auto* source = static_cast<at::SparseTensorImpl*>(&from);
      auto* target = static_cast<at::SparseTensorImpl*>(&to);
      target->raw_resize_(source->sparse_dim(), source->dense_dim(), source->sizes());
      target->set_indices_and_values_unsafe(wrap(source->indices()), wrap(source->values()));
      target->set_coalesced(source->coalesced());
    } else {
      auto* source = static_cast<at::SparseCsrTensorImpl*>(&from);
      static_cast<at::SparseCsrTensorImpl*>(&to)->set_member_tensors(
          wrap(source->compressed_indices()), wrap(source->plain_indices()), wrap(source->values()),
          source->sym_sizes());
    }
    return;
  }
  auto* storage = to.unsafe_storage().unsafeGetStorageImpl();
  auto* plugin = from.unsafe_storage().unsafeGetStorageImpl();
  if (plugin == storage->data_ptr().get_context()) {
    follow(*storage);
  } else if (plugin->data_ptr().get() != storage->data_ptr().get()) {
    // The kernel gave the shadow another storage (set_).
    Access::storage(to) = c10::Storage(cuda_storage(plugin));
  }
  if (from.storage_offset() != to.storage_offset() || from.sizes() != to.sizes() ||
      from.strides() != to.strides())
    to.set_sizes_and_strides(from.sizes(), from.strides(), from.storage_offset());
  if ((from.key_set() & kLazySigns) != (to.key_set() & kLazySigns))
    Access::keys(to) = (to.key_set() - kLazySigns) | (from.key_set() & kLazySigns);
}

}  // namespace heitu
