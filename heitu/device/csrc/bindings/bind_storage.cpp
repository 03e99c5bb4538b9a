// Storages of the device, for Python: made, resized, sent to other processes; events that they
// share.
#include <c10/core/DeviceGuard.h>

#include "allocator.h"
#include "bindings.h"
#include "cuda_error.h"
#include "ipc.h"
#include "state.h"
#include "streams.h"

namespace py = pybind11;

namespace heitu {
namespace {

c10::Device own_or_current(int64_t device) {
  if (device < 0) device = current_device();
  if (device >= device_count()) throw_cuda_error(kInvalidDevice);
  return {c10::kCUDA, c10::DeviceIndex(device)};
}

at::Storage new_storage(size_t bytes, int64_t device) {
  const c10::DeviceGuard guard(own_or_current(device));
  initialize();
  return at::Storage(at::Storage::use_byte_size_t(), bytes, &device_allocator(),
                     /*resizable=*/true);
}

using WordTuple = std::tuple<int64_t, int64_t, uint64_t, int64_t>;
using MemoryTuple = std::tuple<int64_t, int64_t, uint64_t, size_t, size_t>;

WordHandle word_of(const WordTuple& counter) {
  const auto& [pid, fd, inode, index] = counter;
  return {pid, fd, inode, index};
}

WordTuple tuple_of(const WordHandle& word) { return {word.pid, word.fd, word.inode, word.index}; }

std::pair<MemoryTuple, WordTuple> send(const at::Storage& storage) {
  const auto [memory, counter] = send_storage(storage);
  return {{memory.pid, memory.fd, memory.inode, memory.size, memory.offset}, tuple_of(counter)};
}

at::Storage receive(const MemoryTuple& memory, const WordTuple& counter, size_t bytes,
                    int64_t device) {
  const auto& [pid, fd, inode, size, offset] = memory;
  const auto where = own_or_current(device);
  initialize();
  return receive_storage({{pid, fd, inode, size, offset}, word_of(counter)}, bytes, where);
}

// With the methods of core.Event.
void bind_shared_event(py::module_& m) {
  py::class_<SharedEvent>(m, "SharedEvent")
      .def(py::init([](int64_t device) { return SharedEvent(own_or_current(device).index()); }))
      .def(py::init([](const WordTuple& handle, int64_t device) {
        return SharedEvent(word_of(handle), own_or_current(device).index());
      }))
      .def_property_readonly("handle", [](const SharedEvent& e) { return tuple_of(e.handle()); })
      .def_property_readonly("recorded",
                             [](const SharedEvent& e) { return e.event().done_at >= 0; })
      .def_property_readonly("device", [](const SharedEvent& e) { return e.event().device; })
      .def("record",
           [](SharedEvent& e, int64_t id, int64_t device) { e.record(stream_of(id, device)); })
      .def("wait", [](const SharedEvent& e, int64_t id,
                      int64_t device) { wait_event(e.event(), stream_of(id, device)); })
      .def("query", [](const SharedEvent& e) { return query_event(e.event()); })
      .def(
          "synchronize", [](const SharedEvent& e) { synchronize_event(e.event()); },
          py::call_guard<py::gil_scoped_release>());
}

}  // namespace

void bind_storage(py::module_& m) {
  m.def("new_storage", &new_storage);
  m.def("send_storage", &send);
  m.def("receive_storage", &receive);
  m.def("release_sent", [](const WordTuple& counter) { release_sent(word_of(counter)); });
  m.def("collect_sent", &collect_sent);
  bind_shared_event(m);
}

}  // namespace heitu
