#include "saved_tensors.h"

#include <ATen/SavedTensorHooks.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/PyInterpreter.h>
#include <torch/csrc/utils/pybind.h>

#include "labels.h"

namespace heitu {
namespace {

namespace py = pybind11;

// The two hooks around the program's.
std::pair<py::object, py::object> around(py::object pack, py::object unpack) {
  auto packing = py::cpp_function(
      [pack = std::move(pack)](const at::Tensor& tensor) { return pack(wrap(tensor)); });
  auto unpacking = py::cpp_function([unpack = std::move(unpack)](const py::object& packed) {
    return shadow(unpack(packed).cast<at::Tensor>());
  });
  return {std::move(packing), std::move(unpacking)};
}

}  // namespace

SavedTensorScope::SavedTensorScope() {
  if (C10_LIKELY(!at::SavedTensorDefaultHooks::is_enabled())) return;
  const auto hooks = at::SavedTensorDefaultHooks::get_hooks();
  if (C10_LIKELY(!hooks)) return;
  const py::gil_scoped_acquire gil;
  auto [pack, unpack] =
      around(py::reinterpret_borrow<py::object>(hooks->first.ptr(getPyInterpreter())),
             py::reinterpret_borrow<py::object>(hooks->second.ptr(getPyInterpreter())));
  at::SavedTensorDefaultHooks::push_hooks(
      c10::SafePyObject(pack.release().ptr(), getPyInterpreter()),
      c10::SafePyObject(unpack.release().ptr(), getPyInterpreter()));
  pushed_ = true;
}

SavedTensorScope::~SavedTensorScope() {
  if (C10_UNLIKELY(pushed_)) {
    const py::gil_scoped_acquire gil;
    at::SavedTensorDefaultHooks::pop_hooks();
  }
}

}  // namespace heitu
