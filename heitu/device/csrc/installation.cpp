// Which kernels the device has: what is registered on its dispatch keys when it comes to life.
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "call.h"
#include "dry.h"
#include "dtype_rules.h"
#include "judged.h"
#include "registry.h"
#include "rules.h"

namespace heitu {

using NamedKernels = std::vector<std::pair<c10::OperatorName, c10::KernelFunction>>;
NamedKernels form_kernels();   // views.cpp
NamedKernels typed_kernels();  // typed.cpp

std::vector<DeviceKernel>& device_kernels() {
  static auto* kernels = new std::vector<DeviceKernel>;
  return *kernels;
}

void KernelTable::add(std::string name, c10::DispatchKey key, c10::KernelFunction kernel) {
  if (name.find("::") == std::string::npos) name = "aten::" + name;
  device_kernels().push_back({std::move(name), key, std::move(kernel)});
}

namespace {

// Device key -> the key of the CPU's kernel.
constexpr std::pair<c10::DispatchKey, c10::DispatchKey> kKin[] = {
    {c10::DispatchKey::CUDA, c10::DispatchKey::CPU},
    {c10::DispatchKey::SparseCUDA, c10::DispatchKey::SparseCPU},
    {c10::DispatchKey::SparseCsrCUDA, c10::DispatchKey::SparseCsrCPU},
    {c10::DispatchKey::NestedTensorCUDA, c10::DispatchKey::NestedTensorCPU},
    {c10::DispatchKey::QuantizedCUDA, c10::DispatchKey::QuantizedCPU},
};

// Composite operators that reach for kernels by device type (DispatchStub) and so run whole on the
// host.
constexpr const char* kWhole[] = {"convolution", "convolution_backward", "conj_physical_",
                                  "mode.values"};

// "aten::mode.values": name and overload.
c10::OperatorName operator_name(const std::string& text) {
  const auto dot = text.find('.');
  return {text.substr(0, dot), dot == std::string::npos ? "" : text.substr(dot + 1)};
}

// What an operator that was registered after us gets under the rules of a chip; kept, because the
// record counts its calls.
const c10::KernelFunction& late_kernel(const c10::OperatorHandle& op, c10::DispatchKey device_key,
                                       c10::DispatchKey host_key) {
  static auto* mutex = new std::mutex;
  static auto* kernels = new std::unordered_map<std::string, c10::KernelFunction>;
  // Libraries come and go, and an operator may come back with another schema.
  const auto name = c10::toString(op.operator_name()) + c10::toString(device_key) +
                    std::to_string(op.schema().arguments().size());
  const std::lock_guard lock(*mutex);
  const auto found = kernels->find(name);
  if (found != kernels->end()) return found->second;
  auto kernel = delegate(op, host_key);
  if (const auto ruling = rule_on(op, device_key); ruling && must_watch(op, *ruling))
    kernel = judged(op, *ruling, std::move(kernel));
  return kernels->emplace(name, std::move(kernel)).first->second;
}

// Operators registered after us (torch.library, torchvision) that have a kernel for the CPU only.
void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const auto highest = keys.highestPriorityTypeId();
  for (const auto& [device_key, host_key] : kKin) {
    if (device_key != highest) continue;
    const auto* rule = DtypeRule::of(op);
    if (op.hasKernelForDispatchKey(host_key) && !(rule && rule->absent())) {
      if (chip_rules()) {
        late_kernel(op, device_key, host_key).callBoxed(op, keys, stack);
      } else {
        delegate(op, host_key).callBoxed(op, keys, stack);
      }
      return;
    }
  }
  raise_absent(op, *stack);
}

std::vector<c10::RegistrationHandleRAII>& registrations() {
  static auto* handles = new std::vector<c10::RegistrationHandleRAII>;
  return *handles;
}

// Views run nothing, composed or not.
bool is_view(const c10::OperatorHandle& op) {
  const auto& returns = op.schema().returns();
  return !returns.empty() && returns[0].alias_info() && !returns[0].alias_info()->isWrite();
}

// Registers kernels under the rules of the chip, if one was chosen.
class Installation {
 public:
  // `plain`: what stands where nothing has to be watched; `boxed`: what is watched otherwise.
  void add(const c10::OperatorHandle& op, c10::DispatchKey key, c10::KernelFunction plain,
           std::optional<c10::KernelFunction> boxed = std::nullopt) {
    if (!chip_rules() || is_question(op)) return put(op, key, std::move(plain));
    const auto ruling = rule_on(op, key);
    if (!ruling) return;  // the dispatcher composes it of others
    if (!must_watch(op, *ruling)) return put(op, key, std::move(plain));
    put(op, key, judged(op, *ruling, boxed ? std::move(*boxed) : std::move(plain)));
  }

  // Forms run nothing on a chip, so native ones are not watched.
  void add_form(const c10::OperatorHandle& op, c10::KernelFunction kernel) {
    constexpr auto key = c10::DispatchKey::CUDA;
    const auto ruling = chip_rules() ? rule_on(op, key) : Ruling{};
    if (ruling && ruling->verdict != Verdict::native)
      kernel = judged(op, *ruling, std::move(kernel));
    if (ruling) put(op, key, std::move(kernel));
  }

  // What the chip's plugin registers and PyTorch composes: native as a whole.
  void add_whole(const c10::OperatorHandle& op) {
    const Ruling native{Verdict::native, Why::listed};
    put(op, c10::DispatchKey::CUDA, judged(op, native, whole_composite(op)));
    // PyTorch's autograd has no formula for what it expects to be composed.
    if (op.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd))
      put(op, c10::DispatchKey::AutogradCUDA, judged(op, native, whole_composite(op)));
  }

 private:
  void put(const c10::OperatorHandle& op, c10::DispatchKey key, c10::KernelFunction kernel) {
    registrations().push_back(c10::Dispatcher::singleton().registerImpl(
        op.operator_name(), key, std::move(kernel), std::nullopt, nullptr, "heitu"));
  }
};

}  // namespace

int install_kernels() {
  auto& dispatcher = c10::Dispatcher::singleton();
  Installation installation;
  std::unordered_set<std::string> seen;  // a chip's rules may leave an operator unregistered
  const auto first = [&](const c10::OperatorName& name, c10::DispatchKey key) {
    return seen.insert(c10::toString(name) + c10::toString(key)).second;
  };
  for (auto& entry : device_kernels()) {
    const auto name = operator_name(entry.name);
    const auto op = dispatcher.findOp(name);
    if (!op || !op->hasSchema()) continue;  // this torch has no such operator
    first(name, entry.key);
    installation.add(*op, entry.key, native(*op, dry_kernel(*op, entry.kernel)));
  }
  for (auto& [name, kernel] : form_kernels()) {
    const auto op = dispatcher.findOp(name);
    if (op && first(name, c10::DispatchKey::CUDA)) installation.add_form(*op, std::move(kernel));
  }
  for (auto& [name, kernel] : typed_kernels()) {
    const auto op = dispatcher.findOp(name);
    if (op && first(name, c10::DispatchKey::CUDA))
      installation.add(*op, c10::DispatchKey::CUDA, std::move(kernel),
                       delegate(*op, c10::DispatchKey::CPU));
  }
  for (const auto& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findOp(name);
    if (!op || !op->hasSchema()) continue;
    for (const auto& [device_key, host_key] : kKin) {
      if (!op->hasKernelForDispatchKey(host_key) || op->hasKernelForDispatchKey(device_key) ||
          !first(name, device_key))
        continue;
      if (const auto* rule = DtypeRule::of(*op); rule && rule->absent()) continue;
      installation.add(*op, device_key, delegate(*op, host_key));
    }
  }
  for (const char* name : kWhole) {
    const auto op = dispatcher.findOp(operator_name(std::string("aten::") + name));
    if (op && first(op->operator_name(), c10::DispatchKey::CUDA))
      installation.add(*op, c10::DispatchKey::CUDA, delegate(*op, c10::DispatchKey::CPU));
  }
  if (chip_rules()) {
    for (const auto& name : dispatcher.getAllOpNames()) {
      const auto op = dispatcher.findOp(name);
      if (op && op->hasSchema() && is_listed_composite(*op) && !is_view(*op) &&
          first(name, c10::DispatchKey::CUDA))
        installation.add_whole(*op);
    }
  }
  const auto count = static_cast<int>(registrations().size());
  for (const auto& kin : kKin) {
    registrations().push_back(dispatcher.registerFallback(
        kin.first, c10::KernelFunction::makeFromBoxedFunction<&fallback>(), "heitu"));
  }
  return count;
}

}  // namespace heitu
