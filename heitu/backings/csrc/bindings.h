// What binds the library's parts to Python.
#pragma once

#include <pybind11/pybind11.h>

namespace heitu {

void bind_streams(pybind11::module_& m);
void bind_notes(pybind11::module_& m);
void bind_profiler(pybind11::module_& m);
void bind_collectives(pybind11::module_& m);
void bind_legacy_types(pybind11::module_& m);

}  // namespace heitu
