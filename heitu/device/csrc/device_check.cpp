#include <ATen/core/op_registration/adaption.h>

#include <algorithm>
#include <fstream>
#include <unordered_map>

#include "call.h"
#include "tensors.h"

namespace heitu {
namespace {

std::string& torchgen_folder() {
  static auto* folder = new std::string;
  return *folder;
}

// How an operator treats tensors on several devices (native_functions.yaml, device_check).
enum class DeviceCheck {
  strict,    // every tensor on one device
  iterator,  // TensorIterator: 0-dim CPU tensors may mix
  none,      // the operator's own business
};

struct Traits {
  DeviceCheck check = DeviceCheck::strict;
  bool structured = false;
};
using TraitsOf = std::unordered_map<std::string, Traits>;

// The dispatcher does not tell how an operator treats devices; torch's own operator list, which
// the torchgen package carries, does. Read once, on the first call that mixes devices.
TraitsOf read_traits() {
  TraitsOf traits;
  std::ifstream file(torchgen_folder() + "/packaged/ATen/native/native_functions.yaml");
  std::string line;
  Traits* op = nullptr;
  const auto starts = [&](const char* prefix) { return line.rfind(prefix, 0) == 0; };
  while (std::getline(file, line)) {
    if (starts("- func: ")) {
      op = &traits[line.substr(8, line.find('(') - 8)];
    } else if (op && starts("  device_check: NoCheck")) {
      const bool iterator = line.find("TensorIterator") != std::string::npos;
      if (op->check == DeviceCheck::strict)
        op->check = iterator ? DeviceCheck::iterator : DeviceCheck::none;
    } else if (op && starts("  structured_inherits: TensorIteratorBase")) {
      op->check = DeviceCheck::iterator;
    }
    if (op && starts("  structured")) op->structured = true;
  }
  return traits;
}

Traits traits_of(const c10::OperatorName& op) {
  static const auto* traits = new TraitsOf(read_traits());
  const auto name = op.name.substr(op.name.find("::") + 2);
  const auto found = traits->find(op.overload_name.empty() ? name : name + "." + op.overload_name);
  return found == traits->end() ? Traits{} : found->second;
}

// The name of the function that torchgen generates for the operator; it stands in the message.
std::string method_name(const c10::OperatorHandle& op) {
  const auto& schema = op.schema();
  const auto base = schema.name().substr(schema.name().find("::") + 2);
  const auto& overload = schema.overload_name();
  const bool out = std::any_of(schema.arguments().begin(), schema.arguments().end(),
                               [](const auto& argument) { return argument.is_out(); });
  const auto name = base + (out ? "_out" : "");
  if (!traits_of(op.operator_name()).structured) return "wrapper_CUDA_" + overload + "_" + name;
  return "wrapper_CUDA_" + name + (overload.empty() ? "" : "_" + overload);
}

void check_strict(const c10::OperatorHandle& op, c10::ArrayRef<c10::IValue> arguments) {
  const auto& schema = op.schema();
  const auto method = method_name(op);
  std::optional<c10::Device> common;
  const auto look = [&](const at::Tensor& tensor, const std::string& argument) {
    c10::impl::check_and_update_common_device(common, tensor, method.c_str(), argument.c_str());
  };
  const auto visit = [&](size_t i) {
    const auto& value = arguments[i];
    if (value.isOptionalTensorList()) return;  // see check_indices
    const auto& name = schema.arguments()[i].name();
    each_tensor(value, [&](const at::Tensor& tensor) { look(tensor, name); });
  };
  const auto written = [&](size_t i) {
    const auto* alias = schema.arguments()[i].alias_info();
    return schema.arguments()[i].is_out() && alias && alias->isWrite();
  };
  for (size_t i = 0; i < arguments.size(); ++i)
    if (written(i)) visit(i);
  for (size_t i = 0; i < arguments.size(); ++i)
    if (!written(i)) visit(i);
}

void check_iterator(const c10::OperatorHandle& op, c10::ArrayRef<c10::IValue> arguments) {
  c10::Device common(c10::kCPU);
  for (const auto& value : arguments) {
    if (value.isTensor() && value.toTensor().defined() && !value.toTensor().is_cpu()) {
      common = value.toTensor().device();
      break;
    }
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (!arguments[i].isTensor() || !arguments[i].toTensor().defined()) continue;
    const auto& tensor = arguments[i].toTensor();
    const auto* alias = op.schema().arguments()[i].alias_info();
    const bool output = alias && alias->isWrite();
    if (!output && tensor.is_cpu() && tensor.dim() == 0) continue;
    TORCH_CHECK(tensor.device() == common,
                "Expected all tensors to be on the same device, but found at least two devices, ",
                common, " and ", tensor.device(), "!");
  }
}

// index, index_put and their kin: indices on the CPU may index a tensor of the device, not the
// reverse.
void check_indices(c10::ArrayRef<c10::IValue> arguments) {
  if (arguments.size() < 2 || !arguments[0].isTensor() || !arguments[1].isOptionalTensorList())
    return;
  const auto device = arguments[0].toTensor().device();
  for (const std::optional<at::Tensor>& index : arguments[1].toOptionalTensorList()) {
    TORCH_CHECK(!index || !index->defined() || index->is_cpu() || index->device() == device,
                "indices should be either on ", c10::kCPU,
                " or on the same device as the indexed tensor (", device, ")");
  }
}

}  // namespace

void set_torchgen_folder(std::string folder) { torchgen_folder() = std::move(folder); }

void check_devices(const c10::OperatorHandle& op, c10::ArrayRef<c10::IValue> arguments) {
  std::optional<c10::Device> device;
  bool mixed = false;
  each_tensor(arguments, [&](const at::Tensor& tensor) {
    if (!device) device = tensor.device();
    mixed = mixed || !tensor.is_cuda() || tensor.device() != *device;
  });
  if (C10_LIKELY(!mixed)) return;
  if (op.schema().name().rfind("aten::", 0) != 0) return;  // not PyTorch's: its own business
  const auto check = traits_of(op.operator_name()).check;
  if (check == DeviceCheck::strict) check_strict(op, arguments);
  if (check == DeviceCheck::iterator) check_iterator(op, arguments);
  check_indices(arguments);
}

}  // namespace heitu
