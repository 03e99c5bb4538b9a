// What torch's own C++ asks of a CUDA build in places that only Python reaches: the profiler, the
// choice of attention, processes that fork.
#include <pthread.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/profiler/stubs/base.h>
#include <torch/csrc/utils/device_lazy_init.h>

#include "bindings.h"
#include "native/attention_choice.h"
#include "state.h"
#include "streams.h"

namespace py = pybind11;

namespace heitu {
namespace {

// Times on the device, for torch.profiler, and NVTX ranges, which no tool reads here.
class ProfilerMethods final : public torch::profiler::impl::ProfilerStubs {
 public:
  void record(c10::DeviceIndex* device, torch::profiler::impl::ProfilerVoidEventStub* event,
              int64_t* cpu_ns) const override {
    if (device) *device = current_device();
    auto recorded = std::make_shared<Event>();
    recorded->timing = true;
    if (cpu_ns) *cpu_ns = now_ns();
    record_event(*recorded, current_stream(-1));
    *event = std::move(recorded);
  }
  // In microseconds.
  float elapsed(const torch::profiler::impl::ProfilerVoidEventStub* start,
                const torch::profiler::impl::ProfilerVoidEventStub* end) const override {
    const auto& first = *static_cast<const Event*>(start->get());
    const auto& last = *static_cast<const Event*>(end->get());
    synchronize_event(first);
    synchronize_event(last);
    return static_cast<float>(elapsed_ms(first, last) * 1000.0);
  }
  void mark(const char*) const override {}
  void rangePush(const char*) const override {}
  void rangePop() const override {}
  bool enabled() const override { return device_count() > 0; }
  void onEachDevice(std::function<void(int)> visit) const override {
    const auto before = current_device();
    for (c10::DeviceIndex device = 0; device < device_count(); ++device) {
      set_current_device(device);
      visit(device);
    }
    set_current_device(before);
  }
  void synchronize() const override { synchronize_device(current_device()); }
};

// torch asks for a new initialisation, which torch.cuda then refuses with its reason.
void after_fork() {
  if (initialized() || in_bad_fork()) torch::utils::set_requires_device_init(c10::kCUDA, true);
}

}  // namespace

void bind_hooks(py::module_& m) {
  m.def("install_hooks", [] {
    static auto* methods = new ProfilerMethods;
    torch::profiler::impl::registerCUDAMethods(methods);
    // Runs before the core forgets that it was initialised: handlers of a child run in their order.
    pthread_atfork(nullptr, nullptr, &after_fork);
  });
  // With `debug` it warns, which wrap_pybind_function makes Python warnings of.
  m.def("attention_serves",
        torch::wrap_pybind_function([](int64_t backend, const sdp::sdp_params& params, bool debug) {
          return attention_serves(static_cast<sdp::SDPBackend>(backend), params, debug);
        }));
}

}  // namespace heitu
