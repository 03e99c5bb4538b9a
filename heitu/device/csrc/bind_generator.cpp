// The generator as Python sees it.
#include <torch/csrc/Generator.h>
#include <torch/csrc/utils/pybind.h>

#include "generator.h"
#include "streams.h"

namespace heitu {

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
  m.def("begin_generator_capture", [](const at::Generator& generator) {
    at::check_generator<PhiloxGenerator>(generator)->begin_capture();
  });
  m.def("end_generator_capture", [](const at::Generator& generator) {
    return at::check_generator<PhiloxGenerator>(generator)->end_capture();
  });
}

}  // namespace heitu
