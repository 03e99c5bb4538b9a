#include "captured_collective.h"

#include <deque>

#include "capture.h"

namespace heitu {
namespace {

// Collectives by the number that is an argument of the recorded operator. They are small and stay.
struct CapturedCollectives {
  std::mutex mutex;
  std::deque<StartCollective> entries;
};

CapturedCollectives& captured_collectives() {
  static auto* all = new CapturedCollectives;
  return *all;
}

thread_local c10::intrusive_ptr<CollectiveWork>* latest = nullptr;

void run_captured(at::TensorList inputs, at::TensorList outputs, int64_t entry) {
  const StartCollective* start;
  {
    std::lock_guard<std::mutex> lock(captured_collectives().mutex);
    start = &captured_collectives().entries.at(entry);
  }
  const auto work = (*start)(inputs.vec(), outputs.vec());
  work->wait();
  if (latest) *latest = work;
}

TORCH_LIBRARY_FRAGMENT(heitu, m) {
  m.def("nccl_collective(Tensor[] inputs, Tensor(a!)[] outputs, int entry) -> ()");
}

}  // namespace

c10::intrusive_ptr<CollectiveWork> capture_collective(const std::vector<at::Tensor>& inputs,
                                                      const std::vector<at::Tensor>& outputs,
                                                      StartCollective start) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("heitu::nccl_collective", "");
  static auto* kernel =
      new c10::KernelFunction(c10::KernelFunction::makeFromUnboxedRuntimeFunction(&run_captured));
  int64_t entry;
  {
    std::lock_guard<std::mutex> lock(captured_collectives().mutex);
    auto& entries = captured_collectives().entries;
    entry = static_cast<int64_t>(entries.size());
    entries.push_back(std::move(start));
  }
  c10::intrusive_ptr<CollectiveWork> work;
  latest = &work;
  torch::jit::Stack stack{inputs, outputs, entry};
  const auto run = [&](torch::jit::Stack* s) {
    kernel->callBoxed(op, c10::DispatchKeySet(c10::DispatchKey::CUDA), s);
  };
  try {
    if (!capture_call(op, &stack, run, kernel, c10::DispatchKey::CPU)) run(&stack);
  } catch (...) {
    latest = nullptr;
    throw;
  }
  latest = nullptr;
  return work;
}

}  // namespace heitu
