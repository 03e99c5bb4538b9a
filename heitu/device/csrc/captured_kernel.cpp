#include "captured_kernel.h"

#include <ATen/core/custom_class.h>
#include <torch/library.h>

#include "capture.h"

namespace py = pybind11;

namespace heitu {
namespace {

struct KernelLaunch : torch::CustomClassHolder {
  explicit KernelLaunch(py::object function) : function(std::move(function)) {}
  ~KernelLaunch() override {
    if (Py_IsInitialized()) {
      py::gil_scoped_acquire lock;
      function = py::object();
    } else {
      function.release();
    }
  }
  py::object function;
};

void run_kernel(const c10::OperatorHandle& op, Stack* stack) {
  const auto launch = torch::jit::pop(*stack).toCapsule();
  torch::jit::drop(*stack, op.schema().arguments().size() - 1);
  py::gil_scoped_acquire lock;
  static_cast<KernelLaunch*>(launch.get())->function();
}

TORCH_LIBRARY_FRAGMENT(heitu, m) {
  m.def("launch_kernel(Tensor(a!)[] written, Capsule launch) -> ()");
}

}  // namespace

void capture_kernel(py::object launch, std::vector<at::Tensor> written) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("heitu::launch_kernel", "");
  static auto* kernel =
      new c10::KernelFunction(c10::KernelFunction::makeFromBoxedFunction<&run_kernel>());
  c10::intrusive_ptr<torch::CustomClassHolder> kept =
      c10::make_intrusive<KernelLaunch>(std::move(launch));
  Stack stack{std::move(written), c10::IValue::make_capsule(std::move(kept))};
  const auto run = [&](Stack* s) {
    kernel->callBoxed(op, c10::DispatchKeySet(c10::DispatchKey::CUDA), s);
  };
  py::gil_scoped_release free;
  if (!capture_call(op, &stack, run, kernel, c10::DispatchKey::CPU)) run(&stack);
}

}  // namespace heitu
