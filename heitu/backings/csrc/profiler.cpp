// Times on the device for torch.profiler, from the plugin's events.
#include <ATen/record_function.h>
#include <c10/core/Event.h>
#include <torch/csrc/profiler/stubs/base.h>

#include <chrono>

#include "bindings.h"
#include "labels.h"

namespace heitu {
namespace {

using torch::profiler::impl::ProfilerVoidEventStub;

class ForwardProfiler final : public torch::profiler::impl::ProfilerStubs {
 public:
  void record(c10::DeviceIndex* device, ProfilerVoidEventStub* event,
              int64_t* cpu_ns) const override {
    const at::DisableRecordFunctionGuard quiet;  // plugins profile their own events
    const auto current = cuda_guard().getDevice();
    if (device) *device = current.index();
    auto recorded = std::make_shared<c10::Event>(c10::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
    if (cpu_ns)
      *cpu_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                    std::chrono::system_clock::now().time_since_epoch())
                    .count();
    recorded->record(cuda_guard().getStream(current));
    *event = std::move(recorded);
  }
  // In microseconds.
  float elapsed(const ProfilerVoidEventStub* start,
                const ProfilerVoidEventStub* end) const override {
    const auto& first = *static_cast<const c10::Event*>(start->get());
    const auto& last = *static_cast<const c10::Event*>(end->get());
    first.synchronize();
    last.synchronize();
    constexpr double kMicrosecondsPerMillisecond = 1000.0;
    return static_cast<float>(first.elapsedTime(last) * kMicrosecondsPerMillisecond);
  }
  void mark(const char*) const override {}
  void rangePush(const char*) const override {}
  void rangePop() const override {}
  bool enabled() const override { return cuda_guard().deviceCount() > 0; }
  void onEachDevice(std::function<void(int)> visit) const override {
    const auto before = cuda_guard().getDevice();
    for (c10::DeviceIndex i = 0; i < cuda_guard().deviceCount(); ++i) {
      cuda_guard().setDevice({c10::kCUDA, i});
      visit(i);
    }
    cuda_guard().setDevice(before);
  }
  void synchronize() const override {
    cuda_guard().synchronizeDevice(cuda_guard().getDevice().index());
  }
};

}  // namespace

void bind_profiler(pybind11::module_& m) {
  m.def("install_hooks", [] {
    static auto* methods = new ForwardProfiler;
    torch::profiler::impl::registerCUDAMethods(methods);
  });
}

}  // namespace heitu
