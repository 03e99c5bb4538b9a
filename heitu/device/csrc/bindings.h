// What each area offers to Python.
#pragma once

#include <torch/csrc/utils/pybind.h>

namespace heitu {

void bind_device(pybind11::module_& m);
void bind_memory(pybind11::module_& m);
void bind_generator(pybind11::module_& m);
void bind_graph(pybind11::module_& m);
void bind_collectives(pybind11::module_& m);
void bind_hooks(pybind11::module_& m);
void bind_storage(pybind11::module_& m);
void bind_legacy_types(pybind11::module_& m);

}  // namespace heitu
