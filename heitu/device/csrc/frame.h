// One operator's passage from CUDA tensors to the CPU's kernel and back.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/SmallVector.h>

#include "labels.h"
#include "labels_inline.h"

namespace heitu {

// What must not run again below the device: autograd and autocast have had their turn.
constexpr c10::DispatchKeySet kBelowDevice =
    c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset;
constexpr c10::DispatchKeySet kHostKeys = c10::DispatchKeySet(c10::DispatchKey::CPU);

// Operators leave the fast way (typed kernels) while this is set: graph capture, accounting.
extern std::atomic<bool> observed;

template <int kSlots>
class Frame {
 public:
  Frame() : previous_(thread_.scoped_device), exclude_(kBelowDevice) {}
  ~Frame() {
    for (int i = 0; i < count_; ++i) leave_shadow(thread_.spare_shadows, slots_[i].shadow);
    thread_.scoped_device = previous_;
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  // False once arguments do not live on one device; the boxed way then says what is wrong.
  bool uniform() const { return uniform_; }
  void refuse() { uniform_ = false; }
  c10::Device device() const { return {c10::kCUDA, thread_.scoped_device}; }
  void set_device(c10::DeviceIndex index) { thread_.scoped_device = index; }

  // The shadow of an argument. References stay valid while the frame lives.
  template <bool mix>
  const at::Tensor& take(const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    auto* impl = tensor.unsafeGetTensorImpl();
    const auto device = impl->device();
    if (C10_UNLIKELY(device.type() != c10::kCUDA)) {
      if (!(mix && device.is_cpu() && impl->dim() == 0)) uniform_ = false;
      return tensor;
    }
    if (count_ == 0 && lists_.empty()) {
      thread_.scoped_device = device.index();
    } else if (C10_UNLIKELY(device.index() != thread_.scoped_device)) {
      uniform_ = false;
    }
    if (C10_UNLIKELY(count_ == kSlots || impl->key_set().has_any(kUnusualLayouts) ||
                     !impl->has_storage())) {
      uniform_ = false;
      return tensor;
    }
    auto& slot = slots_[count_++];
    slot.original = &tensor;
    slot.shadow = take_shadow(thread_.spare_shadows, *impl);
    return slot.shadow;
  }

  template <bool mix>
  at::TensorList take_list(at::TensorList tensors) {
    auto& list = lists_.emplace_back();
    list.reserve(tensors.size());
    for (const auto& tensor : tensors) {
      auto* impl = tensor.unsafeGetTensorImpl();
      if (!tensor.defined() || impl->device().type() != c10::kCUDA || !impl->has_storage() ||
          impl->key_set().has_any(kUnusualLayouts)) {
        uniform_ = false;
        list.push_back(tensor);
        continue;
      }
      if (count_ == 0 && lists_.size() == 1 && list.empty()) {
        thread_.scoped_device = impl->device().index();
      } else if (impl->device().index() != thread_.scoped_device) {
        uniform_ = false;
      }
      list.push_back(strided_shadow(*impl));
    }
    list_originals_.push_back(tensors);
    return list;
  }

  at::Tensor give(at::Tensor result) {
    if (!result.defined()) return result;
    auto& impl = *result.unsafeGetTensorImpl();
    if (C10_UNLIKELY(impl.device_type() != c10::kCPU)) return result;
    for (int i = 0; i < count_; ++i) {
      if (slots_[i].shadow.unsafeGetTensorImpl() == &impl) return *slots_[i].original;
    }
    if (C10_LIKELY(impl.has_storage())) {
      auto* storage = impl.unsafe_storage().unsafeGetStorageImpl();
      for (int i = 0; i < count_; ++i) {
        const auto& shadow = *slots_[i].shadow.unsafeGetTensorImpl();
        if (C10_UNLIKELY(shadow.unsafe_storage().unsafeGetStorageImpl() == storage)) {
          return alias(std::move(result), *slots_[i].original);
        }
      }
      if (C10_UNLIKELY(!lists_.empty())) {
        if (const auto* original = owner(storage)) return alias(std::move(result), *original);
      }
    }
    return device_label(std::move(result), device());
  }

  // The argument that the kernel returned by reference.
  const at::Tensor& original(const at::Tensor& shadow) const {
    for (int i = 0; i < count_; ++i)
      if (slots_[i].shadow.is_same(shadow)) return *slots_[i].original;
    return shadow;
  }

  // For arguments that the kernel wrote to.
  const at::Tensor& written(const at::Tensor& tensor) {
    for (int i = 0; i < count_; ++i) {
      if (slots_[i].original == &tensor) {
        write_back_strided(*slots_[i].shadow.unsafeGetTensorImpl(), *tensor.unsafeGetTensorImpl());
        break;
      }
    }
    return tensor;
  }

 private:
  struct Slot {
    const at::Tensor* original = nullptr;
    at::Tensor shadow;
  };

  const at::Tensor* owner(const c10::StorageImpl* storage) const {
    for (size_t i = 0; i < lists_.size(); ++i) {
      for (size_t k = 0; k < lists_[i].size(); ++k) {
        if (lists_[i][k].unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl() == storage)
          return &list_originals_[i][k];
      }
    }
    return nullptr;
  }

  // `result` shares the memory of an argument: it shares its device storage too.
  static at::Tensor alias(at::Tensor result, const at::Tensor& original) {
    if (result.use_count() != 1) result = result.detach();
    auto& impl = *result.unsafeGetTensorImpl();
    Access::storage(impl) = original.unsafeGetTensorImpl()->unsafe_storage();
    Access::keys(impl) = device_keys(impl.key_set());
    Access::device(impl) = original.device();
    return result;
  }

  ThreadState& thread_ = thread_state;
  c10::DeviceIndex previous_;
  c10::impl::ExcludeDispatchKeyGuard exclude_;
  bool uniform_ = true;
  int count_ = 0;
  Slot slots_[kSlots > 0 ? kSlots : 1];
  c10::SmallVector<std::vector<at::Tensor>, 1> lists_;
  c10::SmallVector<at::TensorList, 1> list_originals_;
};

}  // namespace heitu
