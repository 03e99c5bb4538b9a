// What each area offers to Python.
#pragma once

#include <c10/core/Stream.h>
#include <torch/csrc/utils/pybind.h>

namespace heitu {

// What Python names by two numbers.
inline c10::Stream stream_of(int64_t id, int64_t device) {
  return c10::Stream(c10::Stream::UNSAFE,
                     c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(device)), id);
}

void bind_device(pybind11::module_& m);
void bind_memory(pybind11::module_& m);
void bind_generator(pybind11::module_& m);
void bind_graph(pybind11::module_& m);
void bind_graph_trees(pybind11::module_& m);
void bind_collectives(pybind11::module_& m);
void bind_hooks(pybind11::module_& m);
void bind_storage(pybind11::module_& m);
void bind_legacy_types(pybind11::module_& m);
void bind_rules(pybind11::module_& m);

}  // namespace heitu
