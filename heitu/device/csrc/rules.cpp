#include "rules.h"

#include <algorithm>

namespace heitu {
namespace {

ChipRules* rules_in_force = nullptr;

using Names = std::vector<std::string>;

// Operators that PyTorch chooses by device type, and what it would choose on the plugin's device.
const Names* stand_ins(const std::string& overload) {
  static const auto* table = [] {
    const Names forward{"aten::_scaled_dot_product_fused_attention_overrideable",
                        "aten::_scaled_dot_product_attention_flash_musa",
                        "aten::_scaled_dot_product_flash_attention",
                        "aten::_scaled_dot_product_efficient_attention"};
    Names backward;
    for (const auto& name : forward) backward.push_back(name + "_backward");
    return new std::unordered_map<std::string, Names>{
        {"aten::convolution", {"aten::_convolution", "aten::convolution_overrideable"}},
        {"aten::convolution_backward", {"aten::convolution_backward_overrideable"}},
        {"aten::_scaled_dot_product_flash_attention", forward},
        {"aten::_scaled_dot_product_efficient_attention", forward},
        {"aten::_scaled_dot_product_cudnn_attention", forward},
        {"aten::_scaled_dot_product_flash_attention_backward", backward},
        {"aten::_scaled_dot_product_efficient_attention_backward", backward},
        {"aten::_scaled_dot_product_cudnn_attention_backward", backward},
        {"aten::conj_physical_", {"aten::conj_physical.out"}},
        {"aten::copy_", {"aten::_copy_from"}},
    };
  }();
  const auto found = table->find(overload);
  if (found == table->end()) return nullptr;
  // Where the plugin has all of attention, what PyTorch would choose within is only called by name.
  if (overload.find("scaled_dot_product") != std::string::npos &&
      rules_in_force->lists("aten::scaled_dot_product_attention"))
    return nullptr;
  return &found->second;
}

// The part of a dispatch key's name that says of which sort its tensors are.
const char* sort_of(c10::DispatchKey key) {
  switch (key) {
    case c10::DispatchKey::SparseCUDA:
      return "SparsePrivateUse1";
    case c10::DispatchKey::SparseCsrCUDA:
      return "SparseCsrPrivateUse1";
    case c10::DispatchKey::NestedTensorCUDA:
      return "NestedTensorPrivateUse1";
    case c10::DispatchKey::QuantizedCUDA:
      return "QuantizedPrivateUse1";
    default:
      return "PrivateUse1";
  }
}

bool names_key(const std::string& keys, const std::string& key) {
  return ("," + keys + ",").find("," + key + ",") != std::string::npos;
}

bool has_default_kernel(const c10::OperatorHandle& op) {
  return op.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd) ||
         op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd) ||
         op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutogradNonFunctional);
}

bool has_host_kernel(const c10::OperatorHandle& op, const Names* stand_ins) {
  if (op.hasKernelForDispatchKey(c10::DispatchKey::CPU)) return true;
  if (!stand_ins) return false;
  return std::any_of(stand_ins->begin(), stand_ins->end(), [](const std::string& name) {
    const auto dot = name.find('.');
    const auto found = c10::Dispatcher::singleton().findOp(
        {name.substr(0, dot), dot == std::string::npos ? "" : name.substr(dot + 1)});
    return found && found->hasKernelForDispatchKey(c10::DispatchKey::CPU);
  });
}

// A list that has nothing for a sort of tensors says nothing of it.
bool list_covers(const char* sort) {
  static const auto* covered = [] {
    auto* sorts = new std::unordered_set<std::string>;
    for (const auto& [overload, keys] : rules_in_force->listed)
      for (const char* one : {"SparsePrivateUse1", "SparseCsrPrivateUse1",
                              "NestedTensorPrivateUse1", "QuantizedPrivateUse1"})
        if (names_key(keys, one)) sorts->insert(one);
    return sorts;
  }();
  return covered->count(sort) != 0;
}

bool registers(const std::string& overload, const std::string& sort) {
  const auto found = rules_in_force->listed.find(overload);
  if (found == rules_in_force->listed.end()) return false;
  return names_key(found->second, sort) ||
         (sort == "PrivateUse1" && names_key(found->second, "AutogradPrivateUse1"));
}

}  // namespace

const ChipRules* chip_rules() noexcept { return rules_in_force; }
void set_chip_rules(ChipRules rules) { rules_in_force = new ChipRules(std::move(rules)); }

std::optional<Ruling> rule_on(const c10::OperatorHandle& op, c10::DispatchKey key) {
  const auto& rules = *rules_in_force;
  if (rules.same_device) return Ruling{Verdict::native, Why::same_device};
  if (!rules.has_list) return Ruling{Verdict::unknown, Why::no_list};
  const auto overload = c10::toString(op.operator_name());
  const char* sort = sort_of(key);
  if (registers(overload, sort)) {
    if (rules.on_host.count(overload)) return Ruling{Verdict::fallback, Why::on_host};
    return Ruling{Verdict::native, Why::listed};
  }
  const auto* others =
      key == c10::DispatchKey::CUDA && rules.own_device ? stand_ins(overload) : nullptr;
  if (others) {
    for (const auto& name : *others)
      if (registers(name, sort)) return Ruling{Verdict::native, Why::listed};
  }
  if (!rules.complete) return Ruling{Verdict::unknown, Why::incomplete_list};
  if (!others && has_default_kernel(op)) return std::nullopt;
  if (key != c10::DispatchKey::CUDA)
    return list_covers(sort) ? Ruling{Verdict::refused, Why::not_listed}
                             : Ruling{Verdict::unknown, Why::other_key};
  if (rules.others == Verdict::fallback && !has_host_kernel(op, others))
    return Ruling{Verdict::refused, Why::not_listed};
  // A fallback serves whatever has a kernel on the CPU. Where there is none, operators that do not
  // come with PyTorch may have an extension of their own for the chip.
  if (rules.others == Verdict::refused && overload.rfind("aten::", 0) != 0)
    return Ruling{Verdict::unknown, Why::incomplete_list};
  return Ruling{rules.others, Why::not_listed};
}

bool is_listed_composite(const c10::OperatorHandle& op) {
  const auto& rules = *rules_in_force;
  // CUDA has kernels of its own for these, which PyTorch composes elsewhere.
  const auto& name = op.operator_name().name;
  if (rules.same_device)
    return name.rfind("aten::_foreach_", 0) == 0 || name == "aten::_fused_rms_norm";
  return rules.has_list && registers(c10::toString(op.operator_name()), "PrivateUse1") &&
         has_default_kernel(op);
}

bool is_question(const c10::OperatorHandle& op) {
  const auto& name = op.operator_name().name;
  return name == "aten::_use_cudnn_ctc_loss" || name == "aten::_use_miopen_ctc_loss" ||
         name == "aten::_fused_sdp_choice";
}

bool has_cudnn() noexcept { return !rules_in_force || !rules_in_force->own_device; }

bool has_fused_attention() noexcept {
  return !rules_in_force || !rules_in_force->own_device || !rules_in_force->complete ||
         rules_in_force->lists("aten::_fused_sdp_choice");
}

std::string worded(const std::string& text, const std::string& overload) {
  static const std::string mark = "{operator}";
  std::string out = text;
  for (auto at = out.find(mark); at != std::string::npos; at = out.find(mark, at + overload.size()))
    out.replace(at, mark.size(), overload);
  return out;
}

}  // namespace heitu
