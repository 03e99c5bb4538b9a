// torch.cuda.FloatTensor and its kin. A CPU build of torch has these types, but refuses to make a
// tensor from one: it looks at a flag in the type. Here the flag is off while torch does the work.
#include <cstring>

#include "bindings.h"

namespace py = pybind11;

namespace heitu {
namespace {

// How torch lays out its legacy tensor types (torch/csrc/tensor/python_tensor.cpp, 2.7 to 2.13).
struct TensorType {
  PyTypeObject type;
  void* dtype;
  void* layout;
  bool is_cuda;
  bool is_xpu;
  char name[64];
};

newfunc torch_new = nullptr;

// The GIL is held throughout.
class WithoutFlag {
 public:
  explicit WithoutFlag(PyTypeObject* type) : type_(reinterpret_cast<TensorType*>(type)) {
    type_->is_cuda = false;
  }
  ~WithoutFlag() { type_->is_cuda = true; }
  WithoutFlag(const WithoutFlag&) = delete;
  WithoutFlag& operator=(const WithoutFlag&) = delete;

 private:
  TensorType* type_;
};

PyObject* construct(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  const WithoutFlag without(type);
  return torch_new(type, args, kwargs);
}

TensorType& checked(const py::handle& type) {
  auto* tensor_type = reinterpret_cast<TensorType*>(type.ptr());
  const bool known = PyType_Check(type.ptr()) &&
                     Py_TYPE(type.ptr())->tp_basicsize == sizeof(PyTypeObject) &&
                     tensor_type->type.tp_name == tensor_type->name && tensor_type->is_cuda;
  TORCH_CHECK_TYPE(known, py::str(type).cast<std::string>(),
                   " is not a tensor type of the cuda device as this version of Heitu knows them");
  return *tensor_type;
}

}  // namespace

void bind_legacy_types(py::module_& m) {
  // Lets the type make tensors; calling it twice changes nothing.
  m.def("enable_tensor_type", [](py::handle type) {
    auto& slot = checked(type).type.tp_new;
    if (slot == &construct) return;
    torch_new = slot;
    slot = &construct;
  });
  m.def("disable_tensor_type", [](py::handle type) {
    auto& slot = checked(type).type.tp_new;
    if (slot == &construct) slot = torch_new;
  });
  // Calls `function` on the type as if it were none of CUDA's.
  m.def("without_cuda_flag", [](py::handle type, const py::function& function) {
    const WithoutFlag without(&checked(type).type);
    return function(type);
  });
}

}  // namespace heitu
