// The generator as Python sees it.
#include <pybind11/pybind11.h>
#include <torch/csrc/Generator.h>

#include "generator.h"
#include "streams.h"

namespace heitu {
namespace {

PhiloxGenerator* unwrap(pybind11::handle generator) {
  TORCH_CHECK_TYPE(THPGenerator_Check(generator.ptr()), "expected a torch.Generator, but got ",
                   Py_TYPE(generator.ptr())->tp_name);
  return at::check_generator<PhiloxGenerator>(THPGenerator_Unwrap(generator.ptr()));
}

}  // namespace

void bind_generator(pybind11::module_& m) {
  // torch.cuda.default_generators: one torch.Generator a device, in order.
  m.def("default_generators", [] {
    const c10::DeviceIndex count = device_count();
    pybind11::tuple generators(count);
    for (c10::DeviceIndex i = 0; i < count; ++i) {
      generators[i] = pybind11::reinterpret_steal<pybind11::object>(
          THPGenerator_initDefaultGenerator(default_generator(i)));
    }
    return generators;
  });
  // A graph's capture keeps a generator's state to itself; the increment of one replay comes back.
  m.def("begin_generator_capture", [](pybind11::handle g) { unwrap(g)->begin_capture(); });
  m.def("end_generator_capture", [](pybind11::handle g) { return unwrap(g)->end_capture(); });
}

}  // namespace heitu
