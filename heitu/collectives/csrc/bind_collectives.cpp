// The nccl process group as Python sees it, and what c10d looks up by device type.
#include <pybind11/chrono.h>
#include <pybind11/stl.h>

#include <torch/csrc/distributed/c10d/reducer_timer.hpp>

#include "bindings/bindings.h"
#include "process_group_nccl.h"
#include "streams.h"

namespace heitu {

// The last reference may go while Python holds its lock; joining gloo's threads under it deadlocks.
template <class T>
class WithoutGil {
 public:
  WithoutGil() = default;
  explicit WithoutGil(T* raw) : held_(c10::intrusive_ptr<T>::unsafe_steal_from_new(raw)) {}
  explicit WithoutGil(c10::intrusive_ptr<T> held) : held_(std::move(held)) {}
  ~WithoutGil() {
    if (held_ && PyGILState_Check()) {
      pybind11::gil_scoped_release release;
      held_.reset();
    }
  }
  WithoutGil(const WithoutGil&) = default;
  WithoutGil(WithoutGil&&) = default;
  WithoutGil& operator=(const WithoutGil&) = default;
  WithoutGil& operator=(WithoutGil&&) = default;
  T& operator*() const { return *held_; }
  T* operator->() const { return held_.get(); }
  T* get() const { return held_.get(); }
  operator c10::intrusive_ptr<T>() const { return held_; }

 private:
  c10::intrusive_ptr<T> held_;
};

// DistributedDataParallel's reducer times its phases by a timer of the device's type. Kernels run
// when they are called here, so the host's clock is the device's.
class DeviceTimer final : public c10d::Timer {
 public:
  explicit DeviceTimer(c10::Device) {}

  std::optional<int64_t> measureDifference(Event start, Event end) override {
    const auto from = getTimestamp(start), to = getTimestamp(end);
    if (!from || !to || *to < *from) return std::nullopt;
    return *to - *from;
  }
};

}  // namespace heitu

PYBIND11_DECLARE_HOLDER_TYPE(T, heitu::WithoutGil<T>, true)

namespace heitu {
namespace {

namespace py = pybind11;
using NoGil = py::call_guard<py::gil_scoped_release>;

// The rest of what Python expects of the classes is added in heitu/collectives/process_group.py:
// binding it here costs seconds of compiling.
void bind_work(py::module_& m, const py::object& base) {
  py::class_<CollectiveWork, c10::intrusive_ptr<CollectiveWork>>(m, "WorkNCCL", base)
      .def("_settle", &CollectiveWork::settle, NoGil())
      .def_property_readonly("_timeout", &CollectiveWork::timeout);
}

void bind_group(py::module_& m, const py::object& base) {
  py::class_<ProcessGroupNccl, WithoutGil<ProcessGroupNccl>>(m, "ProcessGroupNCCL", base)
      .def(py::init([](const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                       const c10::intrusive_ptr<c10d::Backend::Options>& options) {
        return WithoutGil(c10::make_intrusive<ProcessGroupNccl>(store, rank, size, options));
      }))
      .def("_is_initialized", &ProcessGroupNccl::connected)
      .def("_abort", &ProcessGroupNccl::abort, NoGil())
      .def("_shutdown", &ProcessGroupNccl::shutdown, NoGil())
      .def("_extend_timeout", &ProcessGroupNccl::extend_timeout)
      .def("_set_enable_nan_check", &ProcessGroupNccl::set_nan_check, py::arg("enable_nan_check"))
      .def("get_error", &ProcessGroupNccl::getError, NoGil())
      .def("comm_split_count", &ProcessGroupNccl::splits)
      .def_property_readonly("options", &ProcessGroupNccl::getBackendOptions)
      .def_property_readonly("uid", &ProcessGroupNccl::getGroupUid)
      .def("_bound_device",
           [](const ProcessGroupNccl& self) -> std::optional<int> {
             const auto device = self.getBoundDeviceId();
             return device ? std::optional<int>(device->index()) : std::nullopt;
           })
      .def("_bind_device", [](ProcessGroupNccl& self, std::optional<int> index) {
        self.setBoundDeviceId(
            index ? std::optional(c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(*index)))
                  : std::nullopt);
      });
}

}  // namespace

void bind_collectives(py::module_& m) {
  m.attr("nccl_version") = std::make_tuple(kNcclMajor, kNcclMinor, kNcclPatch);
  // Called once torch._C._distributed_c10d is there. `gpus`: (uuid, PCI bus id) of each device;
  // `open_gloo(store, rank, size, timeout)` gives the backend underneath.
  m.def("bind_nccl", [m](const py::object& work, const py::object& backend,
                         const std::vector<std::pair<std::string, int64_t>>& gpus,
                         py::object open_gloo) mutable {
    std::vector<Gpu> all;
    for (const auto& [uuid, bus_id] : gpus) all.push_back({uuid, bus_id});
    set_gpus(std::move(all));
    // Never destroyed: a thread may still need it while the interpreter ends.
    auto* open = new py::object(std::move(open_gloo));
    set_open_gloo([open](const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                         std::chrono::milliseconds timeout) {
      py::gil_scoped_acquire acquire;
      return py::cast<c10::intrusive_ptr<c10d::Backend>>((*open)(store, rank, size, timeout));
    });
    set_keep_options([](const c10::intrusive_ptr<c10d::Backend::Options>& options) {
      py::gil_scoped_acquire acquire;
      return std::shared_ptr<void>(new py::object(py::cast(options)), [](void* held) {
        if (!Py_IsInitialized()) return;
        py::gil_scoped_acquire acquire_again;
        delete static_cast<py::object*>(held);
      });
    });
    bind_work(m, work);
    bind_group(m, backend);
    set_drain(&drain_communicators);
  });
  m.def("keep_ended_collectives", &Lane::keep_tasks, NoGil());
}

}  // namespace heitu

namespace c10d {
C10_REGISTER_TYPED_CLASS(TimerRegistry, c10::kCUDA, heitu::DeviceTimer)
}  // namespace c10d
