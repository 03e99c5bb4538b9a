#include "process_group.h"

#include <pybind11/chrono.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <torch/csrc/distributed/c10d/reducer_timer.hpp>

#include "bindings.h"

namespace heitu {
namespace {

namespace py = pybind11;

std::vector<at::Tensor> shadows(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> made;
  made.reserve(tensors.size());
  for (const auto& tensor : tensors) made.push_back(shadow(tensor));
  return made;
}

std::vector<std::vector<at::Tensor>> shadows(const std::vector<std::vector<at::Tensor>>& lists) {
  std::vector<std::vector<at::Tensor>> made;
  made.reserve(lists.size());
  for (const auto& list : lists) made.push_back(shadows(list));
  return made;
}

// The value of a future, with cuda tensors in the place of the plugin's.
c10::IValue wrapped(const c10::IValue& value) {
  if (value.isTensor()) return wrap(value.toTensor());
  if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    for (auto& tensor : tensors) tensor = wrap(tensor);
    return tensors;
  }
  if (value.isList()) {
    c10::impl::GenericList made(value.toList().elementType());
    for (const c10::IValue& element : value.toListRef()) made.push_back(wrapped(element));
    return made;
  }
  if (value.isTuple()) {
    std::vector<c10::IValue> made;
    for (const auto& element : value.toTupleRef().elements()) made.push_back(wrapped(element));
    return c10::ivalue::Tuple::create(std::move(made));
  }
  return value;
}

}  // namespace

// ---- work ----

ForwardWork::ForwardWork(c10::intrusive_ptr<c10d::Work> plugin)
    : Work(-1, plugin->retrieveOpType()), plugin_(std::move(plugin)) {}

std::vector<at::Tensor> ForwardWork::result() {
  auto tensors = plugin_->result();
  for (auto& tensor : tensors) tensor = wrap(tensor);
  return tensors;
}

c10::intrusive_ptr<c10::ivalue::Future> ForwardWork::getFuture() {
  const auto inner = plugin_->getFuture();
  std::vector<c10::Device> devices;
  for (const auto& device : inner->devices()) devices.push_back(cuda_device(device));
  auto outer = c10::make_intrusive<c10::ivalue::Future>(inner->elementType(), std::move(devices));
  // The callback runs on streams that wait for the collective, and what is marked there waits too.
  inner->addCallback([outer](c10::ivalue::Future& done) {
    if (done.hasError()) {
      outer->setError(done.exception_ptr());
    } else {
      outer->markCompleted(wrapped(done.value()));
    }
  });
  return outer;
}

// ---- group ----

ForwardProcessGroup::ForwardProcessGroup(c10::intrusive_ptr<c10d::Backend> plugin,
                                         c10::intrusive_ptr<Options> options)
    : Backend(plugin->getRank(), plugin->getSize()),
      plugin_(std::move(plugin)),
      options_(std::move(options)) {}

ForwardProcessGroup::Result ForwardProcessGroup::given(Result plugin) {
  if (!plugin) return plugin;
  return c10::make_intrusive<ForwardWork>(std::move(plugin));
}

#if HEITU_TORCH_AT_LEAST(2, 10)
void ForwardProcessGroup::setGroupUid(const std::string& uid) {
  Backend::setGroupUid(uid);
  plugin_->setGroupUid(uid);
}
#endif

// Collectives that take one list of tensors.
#define HEITU_ON_TENSORS(name, Options)                                                 \
  ForwardProcessGroup::Result ForwardProcessGroup::name(Tensors& tensors,               \
                                                        const c10d::Options& options) { \
    auto taken = shadows(tensors);                                                      \
    return given(plugin_->name(taken, options));                                        \
  }
HEITU_ON_TENSORS(broadcast, BroadcastOptions)
HEITU_ON_TENSORS(allreduce, AllreduceOptions)
HEITU_ON_TENSORS(allreduce_sparse, AllreduceOptions)
HEITU_ON_TENSORS(allreduce_coalesced, AllreduceCoalescedOptions)
HEITU_ON_TENSORS(reduce, ReduceOptions)
#undef HEITU_ON_TENSORS

// Those with outputs and inputs.
#define HEITU_FROM_TO(name, Outputs, Inputs, Options)                                     \
  ForwardProcessGroup::Result ForwardProcessGroup::name(Outputs& outputs, Inputs& inputs, \
                                                        const c10d::Options& options) {   \
    auto to = shadows(outputs);                                                           \
    auto from = shadows(inputs);                                                          \
    return given(plugin_->name(to, from, options));                                       \
  }
HEITU_FROM_TO(allgather, Lists, Tensors, AllgatherOptions)
HEITU_FROM_TO(allgather_coalesced, Lists, Tensors, AllgatherOptions)
HEITU_FROM_TO(allgather_into_tensor_coalesced, Tensors, Tensors, AllgatherOptions)
HEITU_FROM_TO(gather, Lists, Tensors, GatherOptions)
HEITU_FROM_TO(scatter, Tensors, Lists, ScatterOptions)
HEITU_FROM_TO(reduce_scatter, Tensors, Lists, ReduceScatterOptions)
HEITU_FROM_TO(reduce_scatter_tensor_coalesced, Tensors, Tensors, ReduceScatterOptions)
HEITU_FROM_TO(alltoall, Tensors, Tensors, AllToAllOptions)
#undef HEITU_FROM_TO

ForwardProcessGroup::Result ForwardProcessGroup::_allgather_base(
    at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& options) {
  auto to = shadow(output), from = shadow(input);
  return given(plugin_->_allgather_base(to, from, options));
}

ForwardProcessGroup::Result ForwardProcessGroup::_reduce_scatter_base(
    at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions& options) {
  auto to = shadow(output), from = shadow(input);
  return given(plugin_->_reduce_scatter_base(to, from, options));
}

ForwardProcessGroup::Result ForwardProcessGroup::alltoall_base(
    at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_sizes,
    std::vector<int64_t>& input_sizes, const c10d::AllToAllOptions& options) {
  auto to = shadow(output), from = shadow(input);
  return given(plugin_->alltoall_base(to, from, output_sizes, input_sizes, options));
}

ForwardProcessGroup::Result ForwardProcessGroup::send(Tensors& tensors, int rank, int tag) {
  auto taken = shadows(tensors);
  return given(plugin_->send(taken, rank, tag));
}

ForwardProcessGroup::Result ForwardProcessGroup::recv(Tensors& tensors, int rank, int tag) {
  auto taken = shadows(tensors);
  return given(plugin_->recv(taken, rank, tag));
}

ForwardProcessGroup::Result ForwardProcessGroup::recvAnysource(Tensors& tensors, int tag) {
  auto taken = shadows(tensors);
  return given(plugin_->recvAnysource(taken, tag));
}

ForwardProcessGroup::Result ForwardProcessGroup::barrier(const c10d::BarrierOptions& options) {
  auto taken = options;
  if (taken.device) taken.device = plugin_device(*taken.device);
  return given(plugin_->barrier(taken));
}

// ---- DistributedDataParallel's timer ----

class ForwardTimer final : public c10d::Timer {
 public:
  explicit ForwardTimer(c10::Device device) : device_(device) {}

  void record(Event event) override {
    Timer::record(event);
    auto& mark = marks_[static_cast<size_t>(event)];
    mark.emplace(c10::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
    mark->record(cuda_guard().getStream(device_));
  }

  std::optional<int64_t> measureDifference(Event start, Event end) override {
    auto& from = marks_[static_cast<size_t>(start)];
    auto& to = marks_[static_cast<size_t>(end)];
    if (!from || !to || !from->query() || !to->query()) return std::nullopt;
    constexpr double kNanosecondsPerMillisecond = 1e6;
    const auto passed = from->elapsedTime(*to);
    if (passed < 0) return std::nullopt;
    return static_cast<int64_t>(passed * kNanosecondsPerMillisecond);
  }

 private:
  c10::Device device_;
  std::array<std::optional<c10::Event>, 8> marks_;
};

void bind_collectives(py::module_& m) {
  // Called once torch._C._distributed_c10d is there.
  m.def("bind_process_group", [m](const py::object& work, const py::object& backend) mutable {
    py::class_<ForwardWork, c10::intrusive_ptr<ForwardWork>>(m, "WorkNCCL", work);
    py::class_<ForwardProcessGroup, c10::intrusive_ptr<ForwardProcessGroup>>(m, "ProcessGroupNCCL",
                                                                             backend)
        .def(py::init<c10::intrusive_ptr<c10d::Backend>,
                      c10::intrusive_ptr<c10d::Backend::Options>>())
        .def_property_readonly("options", &ForwardProcessGroup::options)
        .def_property_readonly("_plugin", &ForwardProcessGroup::plugin)
        .def("abort", &ForwardProcessGroup::abort, py::call_guard<py::gil_scoped_release>())
        .def("shutdown", &ForwardProcessGroup::shutdown, py::call_guard<py::gil_scoped_release>());
  });
}

}  // namespace heitu

namespace c10d {
C10_REGISTER_TYPED_CLASS(TimerRegistry, c10::kCUDA, heitu::ForwardTimer)
}  // namespace c10d
