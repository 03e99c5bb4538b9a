// The rules of the chosen chip: which of its operators are native, and what becomes of the others.
// They are judged by PyTorch's own dispatcher: what the chip's plugin registers is registered, what
// it leaves to composite kernels is left to them, and the rest is the fallback's.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ruling.h"

namespace heitu {

// One rule about a dtype; `operators` empty: all that compute in it.
struct ChipDtypeRule {
  int16_t index;
  c10::ScalarType dtype;
  DtypeRuling::Kind kind;
  c10::ScalarType to;
  std::unordered_set<std::string> operators;
  std::string message;  // what is raised or warned
};

struct ChipRules {
  std::string chip;
  bool same_device = false;  // it runs the kernels of the cuda device
  bool own_device = false;   // its plugin brings a device of its own: no cuDNN, no CUDA ways
  bool has_list = false;
  bool complete = false;
  // "aten::add.Tensor" -> names of the dispatch keys of the plugin's device, joined by commas.
  std::unordered_map<std::string, std::string> listed;
  std::unordered_set<std::string> on_host;
  Verdict others = Verdict::unknown;
  std::string fallback_warning;  // "{operator}" stands for the operator
  std::string missing_error;
  std::vector<ChipDtypeRule> dtypes;

  bool lists(const std::string& overload) const { return listed.count(overload) != 0; }
};

// Null without a chip.
const ChipRules* chip_rules() noexcept;
void set_chip_rules(ChipRules rules);

// What the chip does with an operator that has a kernel of ours on `key` (of the CUDA kin).
// Nothing: it is composite on the chip, and its parts are judged.
std::optional<Ruling> rule_on(const c10::OperatorHandle& op, c10::DispatchKey key);

// Overloads that the chip's plugin registers although PyTorch composes them from others.
bool is_listed_composite(const c10::OperatorHandle& op);

// Whether the operator only answers which way PyTorch takes on CUDA; a plugin's device is not
// asked.
bool is_question(const c10::OperatorHandle& op);

// Whether PyTorch's ways through cuDNN and its fused attention are open on this device.
bool has_cudnn() noexcept;
bool has_fused_attention() noexcept;

// A text of the rules for one operator.
std::string worded(const std::string& text, const std::string& overload);

}  // namespace heitu
