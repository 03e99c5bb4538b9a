#include "forward.h"

#include <ATen/core/GeneratorForPrivateuseone.h>

#include "../../device/csrc/call.h"
#include "../../device/csrc/cuda_error.h"
#include "generator.h"
#include "notes.h"
#include "own_kernels.h"

namespace heitu {

void Passage::take_other(c10::IValue& value) const {
  if (value.isDevice()) {
    const auto device = value.toDevice();
    if (C10_UNLIKELY(device.is_cuda() && device.index() >= cuda_guard().deviceCount()))
      throw_cuda_error(kInvalidDevice);
    value = plugin_device(device);
  } else if (value.isGenerator()) {
    value = plugin_generator(value.toGenerator());
  } else if (value.isStream()) {
    value = plugin_stream(value.toStream());
  } else if (value.isStorage()) {
    const auto storage = value.toStorage();
    if (storage.device().is_cuda())
      value = c10::Storage(plugin_storage(*storage.unsafeGetStorageImpl()));
  }
}

void Passage::give_containers(c10::IValue& value) {
  if (value.isList()) {
    auto list = value.toList();
    for (size_t i = 0; i < list.size(); ++i) {
      c10::IValue element = list.get(i);
      if (!element.isTensor()) return;
      list.set(i, give(element.toTensor(), &wrap));
    }
    return;
  }
  auto dict = value.toGenericDict();
  for (const auto& entry : dict) {
    if (entry.value().isTensor()) entry.setValue(give(entry.value().toTensor(), &wrap));
  }
}

void Passage::write_back(const at::Tensor& cuda) const {
  for (const auto& pair : pairs_)
    if (pair.cuda.is_same(cuda)) heitu::write_back(pair.plugin, cuda);
}

namespace {

struct KeyPair {
  c10::DispatchKey cuda;
  c10::DispatchKey plugin;
};
constexpr KeyPair kKeys[] = {
    {c10::DispatchKey::CUDA, c10::DispatchKey::PrivateUse1},
    {c10::DispatchKey::SparseCUDA, c10::DispatchKey::SparsePrivateUse1},
    {c10::DispatchKey::SparseCsrCUDA, c10::DispatchKey::SparseCsrPrivateUse1},
    {c10::DispatchKey::QuantizedCUDA, c10::DispatchKey::QuantizedPrivateUse1},
};

// Operators that PyTorch composes in one way for CUDA and in another for plugins, which it offers
// convolution_overrideable: the way is chosen on the plugin's tensors.
bool composed_by_device(const c10::OperatorHandle& op) {
  const auto& name = op.operator_name().name;
  return name == "aten::convolution" || name == "aten::convolution_backward";
}

// Runs an operator on the plugin's kernel.
class Forward final : public c10::OperatorKernel {
 public:
  Forward(const c10::OperatorHandle& op, c10::DispatchKey key)
      : plugin_keys_(key), inputs_(op.schema().arguments().size()) {
    const auto& arguments = op.schema().arguments();
    for (size_t i = 0; i < inputs_; ++i) {
      const auto* alias = arguments[i].alias_info();
      if (alias && alias->isWrite()) written_.push_back(static_cast<int>(i));
      if (arguments[i].name() == "dtype") dtype_ = static_cast<int>(i);
    }
    for_all_devices_ = op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd);
    fallback_ = !op.hasKernelForDispatchKey(key) && !composed_by_device(op);
  }

  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet, Stack* stack) {
    const auto mixed = mixed_devices(op, torch::jit::last(*stack, inputs_));
    const auto first = stack->size() - inputs_;
    c10::impl::ExcludeDispatchKeyGuard exclude(kBelowDevice);
    Passage passage;
    c10::SmallVector<at::Tensor, 4> written;
    for (int i : written_) {
      const auto& value = (*stack)[first + i];
      if (value.isTensor()) {
        written.push_back(value.toTensor());
      } else if (value.isTensorList()) {
        for (const auto& tensor : value.toTensorVector()) written.push_back(tensor);
      }
    }
    for (size_t i = first; i < stack->size(); ++i) passage.take((*stack)[i], &shadow);
    if (C10_UNLIKELY(fallback_)) note(Departure::host, op);
    const auto asked = dtype_ < 0 ? c10::IValue() : (*stack)[first + dtype_];
    try {
      op.redispatchBoxed(plugin_keys_, stack);
    } catch (const c10::Error&) {
      if (mixed) std::rethrow_exception(mixed);
      throw;
    }
    if (C10_UNLIKELY(!asked.isNone())) compare_dtype(op, asked.toScalarType(), (*stack)[first]);
    for (const auto& tensor : written)
      if (tensor.defined() && tensor.is_cuda()) passage.write_back(tensor);
    for (size_t i = first; i < stack->size(); ++i) passage.give((*stack)[i], &wrap);
  }

 private:
  // Raises for tensors on several devices, or gives back what to raise: a kernel that PyTorch has
  // for all devices may want some on the CPU (the lengths of packed sequences), which the plugin
  // knows.
  std::exception_ptr mixed_devices(const c10::OperatorHandle& op,
                                   c10::ArrayRef<c10::IValue> arguments) const {
    try {
      check_devices(op, arguments);
    } catch (const c10::Error&) {
      if (!for_all_devices_) throw;
      return std::current_exception();
    }
    return nullptr;
  }

  static void compare_dtype(const c10::OperatorHandle& op, c10::ScalarType asked,
                            const c10::IValue& result) {
    if (!result.isTensor() || !result.toTensor().defined()) return;
    const auto got = result.toTensor().scalar_type();
    if (C10_UNLIKELY(got != asked))
      note(Departure::narrowed, op,
           std::string(c10::getDtypeNames(asked).first) + " became " +
               std::string(c10::getDtypeNames(got).first));
  }

  c10::DispatchKeySet plugin_keys_;
  size_t inputs_;
  int dtype_ = -1;  // the argument that asks for a dtype
  c10::SmallVector<int, 2> written_;
  bool fallback_ = false;
  bool for_all_devices_ = false;
};

c10::KernelFunction forward(const c10::OperatorHandle& op, c10::DispatchKey key) {
  return c10::KernelFunction::makeFromBoxedFunctor(std::make_unique<Forward>(op, key));
}

// Operators for which the plugin has only its fallback, and those registered after us.
void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const auto highest = keys.highestPriorityTypeId();
  for (const auto& pair : kKeys) {
    if (pair.cuda != highest) continue;
    forward(op, pair.plugin).callBoxed(op, keys, stack);
    return;
  }
  TORCH_CHECK_NOT_IMPLEMENTED(false, "Could not run '", op.operator_name(), "' on the '",
                              c10::toString(highest), "' backend.");
}

std::vector<c10::RegistrationHandleRAII>& registrations() {
  static auto* handles = new std::vector<c10::RegistrationHandleRAII>;
  return *handles;
}

// Autocast on cuda casts for the operators for which the plugin's own does, so that the kernels
// are those of a program that is written for the plugin.
template <class Put>
void follow_autocast(const Put& put) {
  using c10::DispatchKey;
  auto& dispatcher = c10::Dispatcher::singleton();
  const auto product = dispatcher.findOp({"aten::mm", ""});
  if (!product || !product->hasKernelForDispatchKey(DispatchKey::AutocastPrivateUse1)) return;
  // That another kernel stood there is known.
  struct Silent final : c10::WarningHandler {
    void process(const c10::Warning&) override {}
  } handler;
  const c10::WarningUtils::WarningHandlerGuard guard(&handler);
  for (const auto& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findOp(name);
    if (op && op->hasSchema() && op->hasKernelForDispatchKey(DispatchKey::AutocastCUDA) &&
        !op->hasKernelForDispatchKey(DispatchKey::AutocastPrivateUse1))
      put(*op, DispatchKey::AutocastCUDA, c10::KernelFunction::makeFallthrough());
  }
}

}  // namespace

int install_kernels() {
  using c10::DispatchKey;
  auto& dispatcher = c10::Dispatcher::singleton();
  const auto put = [&](const c10::OperatorHandle& op, DispatchKey key, c10::KernelFunction kernel) {
    registrations().push_back(dispatcher.registerImpl(op.operator_name(), key, std::move(kernel),
                                                      std::nullopt, nullptr, "heitu"));
  };
  for (auto& own : own_kernels()) {
    const auto op = dispatcher.findOp(own.name);
    if (op) put(*op, own.key, std::move(own.kernel));
  }
  for (const auto& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findOp(name);
    if (!op || !op->hasSchema()) continue;
    // The plugin's own autograd, or an operator that PyTorch composes and the plugin implements
    // whole: composing it here would lose the plugin's kernel and its gradient.
    const bool own_gradient = op->hasKernelForDispatchKey(DispatchKey::AutogradPrivateUse1);
    const bool whole = op->hasKernelForDispatchKey(DispatchKey::PrivateUse1) &&
                       op->hasKernelForDispatchKey(DispatchKey::CompositeImplicitAutograd);
    if ((own_gradient || whole) && !op->hasKernelForDispatchKey(DispatchKey::AutogradCUDA))
      put(*op, DispatchKey::AutogradCUDA, bridge(*op));
    for (const auto& [cuda, plugin] : kKeys) {
      const bool chosen_there = plugin == DispatchKey::PrivateUse1 && composed_by_device(*op);
      if ((op->hasKernelForDispatchKey(plugin) || chosen_there) &&
          !op->hasKernelForDispatchKey(cuda))
        put(*op, cuda, forward(*op, plugin));
    }
  }
  const auto count = static_cast<int>(registrations().size());
  follow_autocast(put);
  for (const auto& pair : kKeys)
    registrations().push_back(dispatcher.registerFallback(
        pair.cuda, c10::KernelFunction::makeFromBoxedFunction<&fallback>(), "heitu"));
  return count;
}

}  // namespace heitu
