// The library as Python sees it.
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/DeviceGuard.h>
#include <pthread.h>
#include <torch/csrc/Generator.h>
#include <torch/csrc/utils/device_lazy_init.h>
#include <torch/csrc/utils/pybind.h>

#include "../../device/csrc/call.h"
#include "accelerator.h"
#include "allocator.h"
#include "bindings.h"
#include "forward.h"
#include "generator.h"

namespace py = pybind11;

namespace heitu {

namespace {

void bind_storages(py::module_& m) {
  // A tensor of one byte an element over new memory.
  m.def("new_memory", [](int64_t bytes, c10::DeviceIndex index) {
    const c10::Device device(c10::kCUDA, index < 0 ? cuda_guard().getDevice().index() : index);
    const c10::DeviceGuard guard(device);  // which refuses devices that are not there
    return at::empty({bytes}, at::TensorOptions().dtype(at::kByte).device(device));
  });
  // Gives a storage memory of another size.
  m.def("resize_storage", [](const at::Storage& storage, size_t bytes) {
    auto& cuda = *storage.unsafeGetStorageImpl();
    const auto plugin = plugin_storage(cuda);
    at::detail::getPrivateUse1Hooks().resizePrivateUse1Bytes(c10::Storage(plugin), bytes);
    follow(cuda);
  });
  // The plugin's tensor over the same memory, and the reverse: for what only the plugin's own
  // Python can do. It shares the memory and must not reach the program.
  m.def("plugin_tensor", &shadow);
  m.def("cuda_tensor", [](const at::Tensor& tensor) { return wrap(tensor); });
}

}  // namespace

// Chips cannot be used in a process that was forked from one that used them.
bool initialised = false;
bool bad_fork = false;

PYBIND11_MODULE(heitu_forwarding, m) {
  bind_storages(m);
  bind_streams(m);
  bind_collectives(m);
  bind_profiler(m);
  bind_notes(m);
  bind_legacy_types(m);
  m.def("set_accelerator", [](std::optional<std::string> type) {
    set_accelerator(type ? std::make_optional(c10::Device(*type).type()) : std::nullopt);
  });
  m.def("install", [](const std::string& torchgen_folder) {
    set_torchgen_folder(torchgen_folder);
    register_allocator();
    return install_kernels();
  });
  m.def("device_count", [] { return static_cast<int>(cuda_guard().deviceCount()); });
  m.def("current_device", [] { return static_cast<int>(cuda_guard().getDevice().index()); });
  m.def("set_device", [](int index) {
    cuda_guard().setDevice({c10::kCUDA, static_cast<c10::DeviceIndex>(index)});
  });
  m.def("has_primary_context", [](int index) {
    return at::detail::getPrivateUse1Hooks().hasPrimaryContext(
        static_cast<c10::DeviceIndex>(index));
  });
  m.def("in_bad_fork", [] { return bad_fork; });
  m.def("initialised", [] { return initialised; });
  m.def("note_initialised", [] {
    if (initialised) return;
    initialised = true;
    pthread_atfork(nullptr, nullptr, [] {
      bad_fork = true;
      torch::utils::set_requires_device_init(c10::kCUDA, true);
    });
  });
  m.def("plugin_generator", [](const at::Generator& g) { return plugin_generator(g); });
  m.def("tell_default_generators", &tell_default_generators);
  m.def("default_generators", [] {
    const auto count = cuda_guard().deviceCount();
    py::tuple generators(count);
    for (c10::DeviceIndex i = 0; i < count; ++i)
      generators[i] = py::reinterpret_steal<py::object>(
          THPGenerator_initDefaultGenerator(default_generator(i)));
    return generators;
  });
}

}  // namespace heitu
