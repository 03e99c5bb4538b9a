// Streams and events for Python, from what the plugin tells PyTorch's generic code.
#include <torch/csrc/utils/pybind.h>

#include "bindings.h"
#include "labels.h"
#include "version.h"

namespace py = pybind11;

namespace heitu {
namespace {

c10::Stream stream(int64_t id, int64_t index) {
  return c10::Stream(c10::Stream::UNSAFE,
                     c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)), id);
}

std::pair<int64_t, int64_t> place(const c10::Stream& s) { return {s.id(), s.device_index()}; }

// An event of torch.cuda.Event: made when it is first recorded, as CUDA's is.
class Event {
 public:
  explicit Event(bool timing) : timing_(timing) {}
  ~Event() {
    if (event_) cuda_guard().destroyEvent(event_, device_);
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(int64_t id, int64_t index) {
    const c10::DeviceIndex device = static_cast<c10::DeviceIndex>(index);
    cuda_guard().record(
        &event_, stream(id, index), device,
        timing_ ? c10::EventFlag::BACKEND_DEFAULT : c10::EventFlag::PYTORCH_DEFAULT);
    device_ = device;
  }
  void wait(int64_t id, int64_t index) const {
    if (event_) cuda_guard().block(event_, stream(id, index));
  }
  bool query() const { return !event_ || cuda_guard().queryEvent(event_); }
  void synchronize() const {
    if (event_) cuda_guard().synchronizeEvent(event_);
  }
  double elapsed_ms(const Event& end) const {
    TORCH_CHECK(event_ && end.event_,
                "Both events must be recorded before calculating elapsed time.");
    return cuda_guard().elapsedTime(event_, end.event_, device_);
  }
  bool recorded() const { return event_ != nullptr; }
  int device() const { return device_; }

 private:
  bool timing_;
  void* event_ = nullptr;
  c10::DeviceIndex device_ = -1;
};

}  // namespace

void bind_streams(py::module_& m) {
  const auto free_gil = py::call_guard<py::gil_scoped_release>();
  // Streams are named by (id, device).
  m.def("new_stream", [](int64_t device, int priority) {
    return place(cuda_guard().getNewStream(stream(0, device).device(), priority));
  });
  m.def("current_stream",
        [](int64_t device) { return place(cuda_guard().getStream(stream(0, device).device())); });
  m.def("default_stream", [](int64_t device) {
    return place(cuda_guard().getDefaultStream(stream(0, device).device()));
  });
  m.def("set_stream", [](int64_t id, int64_t device) {
    const auto chosen = stream(id, device);
    cuda_guard().setDevice(chosen.device());
    cuda_guard().exchangeStream(chosen);
  });
  m.def("stream_idle",
        [](int64_t id, int64_t device) { return cuda_guard().queryStream(stream(id, device)); });
  m.def(
      "synchronize_stream",
      [](int64_t id, int64_t device) { cuda_guard().synchronizeStream(stream(id, device)); },
      free_gil);
  m.def(
      "synchronize_device",
      [](int64_t device) { cuda_guard().synchronizeDevice(static_cast<c10::DeviceIndex>(device)); },
      free_gil);
  // The vendor's own handle of a stream, 0 where the plugin does not tell it.
  m.def("stream_handle", [](int64_t id, int64_t device) -> int64_t {
#if HEITU_TORCH_AT_LEAST(2, 11)
    try {
      return reinterpret_cast<int64_t>(cuda_guard().getStreamNativeHandle(stream(id, device)));
    } catch (const c10::Error&) {
      return 0;
    }
#else
    return 0;
#endif
  });
  py::class_<Event>(m, "Event")
      .def(py::init<bool>())
      .def_property_readonly("recorded", &Event::recorded)
      .def_property_readonly("device", &Event::device)
      .def("record", &Event::record)
      .def("wait", &Event::wait)
      .def("query", &Event::query)
      .def("synchronize", &Event::synchronize, free_gil)
      .def("elapsed_ms", &Event::elapsed_ms);
}

}  // namespace heitu
