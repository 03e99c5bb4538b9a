// What torch.compile asks of tensors and storages to keep trees of CUDA graphs (its mode
// "reduce-overhead"). Storages are named by the address of their StorageImpl.
#include <ATen/core/Tensor.h>
#include <torch/csrc/Dtype.h>

#include "allocator.h"
#include "bindings.h"
#include "labels.h"
#include "ownership.h"

namespace py = pybind11;

namespace heitu {
namespace {

c10::StorageImpl& storage_at(size_t address) {
  return *reinterpret_cast<c10::StorageImpl*>(address);
}

at::Tensor tensor_over_storage(const py::dict& metadata, at::Storage storage) {
  const py::object dtype = metadata["dtype"];
  const auto type = reinterpret_cast<THPDtype*>(dtype.ptr())->scalar_type;
  at::Tensor tensor = at::detail::make_tensor_base<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CUDA),
      c10::scalarTypeToTypeMeta(type));
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(
      metadata["size"].cast<std::vector<int64_t>>(),
      metadata["stride"].cast<std::vector<int64_t>>(), metadata["storage_offset"].cast<int64_t>());
  return tensor;
}

bool tensors_lie_at(const std::vector<std::optional<at::Tensor>>& tensors,
                    const std::vector<std::optional<int64_t>>& addresses,
                    const std::vector<size_t>& indices) {
  return std::all_of(indices.begin(), indices.end(), [&](size_t i) {
    const auto& tensor = tensors.at(i);
    return tensor && addresses.at(i) &&
           reinterpret_cast<int64_t>(tensor->const_data_ptr()) == *addresses[i];
  });
}

void free_storage_memory(size_t address) {
  auto& storage = storage_at(address);
  const auto* memory = storage.data_ptr().get();
  TORCH_CHECK(disown_memory(storage), "Expected standard deleter");
  if (Block* block = find_block(memory)) {
    adopt_address(memory, nullptr);
    release(block);
  }
}

}  // namespace

void bind_graph_trees(py::module_& m) {
  m.def("tensor_over_storage", &tensor_over_storage);
  m.def("tensors_lie_at", &tensors_lie_at);
  m.def("storage_owns_memory", [](size_t address) { return owns_memory(storage_at(address)); });
  m.def("free_storage_memory", &free_storage_memory);
  m.def("refuse_tensor_access", [](const at::Tensor& tensor, std::string why) {
    tensor.unsafeGetTensorImpl()->release_storage_and_set_meta_custom_data_ptr_error_msg_(
        std::move(why));
  });
  m.def("refuse_storage_access", [](size_t address, std::string why) {
    storage_at(address).release_data_and_set_meta_custom_data_ptr_error_msg_(std::move(why));
  });
}

}  // namespace heitu
