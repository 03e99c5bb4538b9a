// Devices, streams, events and installation, for Python.
#include <torch/csrc/Exceptions.h>

#include "allocator.h"
#include "bindings.h"
#include "call.h"
#include "cuda_error.h"
#include "dry.h"
#include "host_waits.h"
#include "labels.h"
#include "properties.h"
#include "state.h"
#include "streams.h"
#include "typed.h"

namespace py = pybind11;

namespace heitu {
namespace {

using StreamTriple = std::tuple<int64_t, int64_t, int64_t>;  // id, device index, device type

StreamTriple triple(c10::Stream stream) {
  return {stream.id(), stream.device_index(), static_cast<int64_t>(stream.device_type())};
}

c10::DeviceIndex checked(int64_t device) {
  if (device < 0 || device >= device_count()) throw_cuda_error(kInvalidDevice);
  return static_cast<c10::DeviceIndex>(device);
}

void bind_properties(py::module_& m) {
  py::class_<DeviceProperties>(m, "DeviceProperties")
      .def_readwrite("name", &DeviceProperties::name)
      .def_readwrite("major", &DeviceProperties::major)
      .def_readwrite("minor", &DeviceProperties::minor)
      .def_readwrite("total_memory", &DeviceProperties::total_memory)
      .def_readwrite("multi_processor_count", &DeviceProperties::multi_processor_count)
      .def_readwrite("max_threads_per_multi_processor",
                     &DeviceProperties::max_threads_per_multi_processor)
      .def_readwrite("max_threads_per_block", &DeviceProperties::max_threads_per_block)
      .def_readwrite("warp_size", &DeviceProperties::warp_size)
      .def_readwrite("shared_memory_per_block", &DeviceProperties::shared_memory_per_block)
      .def_readwrite("shared_memory_per_block_optin",
                     &DeviceProperties::shared_memory_per_block_optin)
      .def_readwrite("shared_memory_per_multiprocessor",
                     &DeviceProperties::shared_memory_per_multiprocessor)
      .def_readwrite("regs_per_multiprocessor", &DeviceProperties::regs_per_multiprocessor)
      .def_readwrite("L2_cache_size", &DeviceProperties::l2_cache_size)
      .def_readwrite("clock_rate", &DeviceProperties::clock_rate)
      .def_readwrite("memory_clock_rate", &DeviceProperties::memory_clock_rate)
      .def_readwrite("memory_bus_width", &DeviceProperties::memory_bus_width);
  m.def(
      "properties", [](int64_t device) -> DeviceProperties& { return properties(checked(device)); },
      py::return_value_policy::reference);
}

void bind_streams(py::module_& m) {
  m.def("current_stream", [](int64_t device) {
    return triple(current_stream(static_cast<c10::DeviceIndex>(device)));
  });
  m.def("set_stream", [](int64_t id, int64_t device) {
    set_current_device(checked(device));
    exchange_stream(stream_of(id, device));
  });
  m.def("pool_stream", [](int64_t device, int priority) {
    return triple(pool_stream(static_cast<c10::DeviceIndex>(device), priority));
  });
  m.def("stream_priority",
        [](int64_t id, int64_t device) { return stream_priority(stream_of(id, device)); });
  m.def("stream_idle",
        [](int64_t id, int64_t device) { return stream_idle(stream_of(id, device)); });
  m.def(
      "synchronize_stream",
      [](int64_t id, int64_t device) {
        {
          const torch::PyWarningHandler warnings;
          report_wait();
        }
        synchronize_stream(stream_of(id, device));
      },
      py::call_guard<py::gil_scoped_release>());
  m.def(
      "synchronize_device", [](int64_t device) { synchronize_device(checked(device)); },
      py::call_guard<py::gil_scoped_release>());
  m.def("set_sync_debug", [](int mode) { sync_debug = static_cast<SyncDebug>(mode); });
  m.def("occupy_stream",
        [](int64_t nanoseconds) { occupy_stream(current_stream(-1), nanoseconds); });
  py::class_<Event, std::shared_ptr<Event>>(m, "Event")
      .def(py::init<>())
      .def_property_readonly("recorded", [](const Event& e) { return e.done_at >= 0; })
      .def_readonly("device", &Event::device)
      .def("record",
           [](Event& e, int64_t id, int64_t device) { record_event(e, stream_of(id, device)); })
      .def("wait",
           [](const Event& e, int64_t id, int64_t device) { wait_event(e, stream_of(id, device)); })
      .def("query", &query_event)
      .def("synchronize", &synchronize_event, py::call_guard<py::gil_scoped_release>())
      .def("elapsed_ms", &elapsed_ms);
}

}  // namespace

void bind_device(py::module_& m) {
  bind_properties(m);
  bind_streams(m);
  m.def("install", [](const std::string& torchgen_folder) {
    set_torchgen_folder(torchgen_folder);
    install_host_allocator();
    register_device_allocator();
    set_stream_idle(&stream_idle);
    const int count = install_kernels();
    install_dry_kernels();
    return count;
  });
  m.def("begin_dry_run", &begin_dry_run);
  m.def("dry_counts", [] {
    const auto counts = dry_counts();
    return std::make_pair(counts.not_computed, counts.in_full);
  });
  m.def("initialize", &initialize);
  m.def("initialized", &initialized);
  m.def("in_bad_fork", &in_bad_fork);
  m.def("device_count", [] { return static_cast<int>(device_count()); });
  m.def("set_device_count", [](int n) { set_device_count(static_cast<c10::DeviceIndex>(n)); });
  m.def("current_device", [] { return static_cast<int>(current_device()); });
  m.def("set_current_device", [](int64_t device) { set_current_device(checked(device)); });
  // A CPU tensor over the same memory: shares it, and must not outlive it.
  m.def("host_view", &host_view);
}

}  // namespace heitu
