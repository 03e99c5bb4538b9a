#include "judged.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "frame.h"
#include "narrowing.h"
#include "record.h"
#include "rules.h"
#include "tensors.h"
#include "thread_state.h"
#include "version.h"

namespace torch::autograd {
int get_current_graph_task_id();  // of torch/csrc/autograd/graph_task.h, which is long to read
}

namespace heitu {
namespace {

using torch::jit::Stack;

using Arguments = c10::ArrayRef<c10::IValue>;

// What is judged is the operator that the program, or a composite kernel, calls; what a native
// operator calls in turn is its own business.
struct InsideOperator {
  InsideOperator() { ++thread_state.operator_depth; }
  ~InsideOperator() { --thread_state.operator_depth; }
};

uint64_t device_bytes(Arguments values) {
  uint64_t bytes = 0;
  each_tensor(values, [&](const at::Tensor& tensor) {
    if (!tensor.is_cuda() || tensor.layout() != c10::kStrided || tensor.is_nested()) return;
    // Of what is expanded only what there is of it.
    bytes += std::min<uint64_t>(tensor.numel() * tensor.itemsize(), tensor.storage().nbytes());
  });
  return bytes;
}

uint64_t mixed(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2);
  return hash;
}

bool has_sizes(const at::Tensor& tensor) {
  return !tensor.is_nested() && !tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides();
}

// The dtype rules that concern one operator.
class DtypeJudge {
 public:
  explicit DtypeJudge(const c10::OperatorHandle& op) {
    const auto* rules = chip_rules();
    if (!rules) return;
    const auto overload = c10::toString(op.operator_name());
    for (const auto& rule : rules->dtypes) {
      if (rule.operators.empty()) {
        general_.push_back(&rule);
      } else if (rule.operators.count(overload)) {
        particular_.push_back(&rule);
      }
    }
    const auto& arguments = op.schema().arguments();
    for (size_t i = 0; i < arguments.size(); ++i) {
      auto type = arguments[i].real_type();
      if (auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
      if (type->kind() == c10::TypeKind::ScalarTypeType) dtype_argument_ = static_cast<int>(i);
    }
  }

  // Rules that only make a remark need no watching without a record.
  bool acts() const {
    const auto acting = [](const ChipDtypeRule* rule) {
      return rule->kind == DtypeRuling::Kind::refused || rule->kind == DtypeRuling::Kind::narrowed;
    };
    return std::any_of(general_.begin(), general_.end(), acting) ||
           std::any_of(particular_.begin(), particular_.end(), acting);
  }

  // A rule for the operator holds for each of its tensors, one for all operators for the dtype
  // that the call computes in: the one asked for, or that of the first tensor.
  const ChipDtypeRule* judge(Arguments arguments) const {
    if (C10_LIKELY(general_.empty() && particular_.empty())) return nullptr;
    auto asked = c10::ScalarType::Undefined, first = c10::ScalarType::Undefined;
    if (dtype_argument_ >= 0 && arguments[dtype_argument_].isInt())
      asked = static_cast<c10::ScalarType>(arguments[dtype_argument_].toInt());
    const ChipDtypeRule* found = find(particular_, asked);
    each_tensor(arguments, [&](const at::Tensor& tensor) {
      if (!tensor.is_cuda() || tensor.unsafeGetTensorImpl()->is_wrapped_number()) return;
      const auto type = tensor.scalar_type();
      if (first == c10::ScalarType::Undefined) first = type;
      if (!found && !particular_.empty()) found = find(particular_, type);
    });
    return found ? found : find(general_, asked == c10::ScalarType::Undefined ? first : asked);
  }

 private:
  using List = std::vector<const ChipDtypeRule*>;

  static const ChipDtypeRule* find(const List& rules, c10::ScalarType type) {
    for (const auto* rule : rules)
      if (rule->dtype == type) return rule;
    return nullptr;
  }

  List general_, particular_;
  int dtype_argument_ = -1;
};

// The ways in which an operator was met, each with its counters.
class Meetings {
 public:
  struct Way {
    uint32_t id;
    Slot* slot;
    std::string strict;  // what a strict run raises
  };

  const Way& way(const c10::OperatorHandle& op, const Ruling& ruling, const ChipDtypeRule* rule,
                 Arguments arguments) {
    const bool backward = torch::autograd::get_current_graph_task_id() != -1;
    uint64_t form = mixed(backward, rule ? rule->index + 1 : 0);
    if (ruling.verdict != Verdict::native) form = mixed(form, observer().place());
    uint64_t shaped = form;
    each_tensor(arguments, [&](const at::Tensor& tensor) {
      const auto type = static_cast<uint64_t>(tensor.scalar_type());
      form = mixed(form, type);
      shaped = mixed(shaped, type + 64);
      if (has_sizes(tensor))
        for (const auto size : tensor.sizes()) shaped = mixed(shaped, size);
    });
    std::unique_lock lock(mutex_);
    if (const auto found = ways_.find(shaped); C10_LIKELY(found != ways_.end()))
      return *found->second;
    // Sequences that grow make a new shape at each step: the record stays bounded.
    auto& known = shapes_[form];
    const bool full = known >= kMostShapes;
    const auto key = full ? form : shaped;
    if (full) {
      if (const auto found = ways_.find(key); found != ways_.end()) return *found->second;
    } else {
      ++known;
    }
    const auto [id, slot] = new_slot();
    auto& way = ways_[key];
    way.reset(new Way{id, slot, ""});
    // The observer takes Python's lock, whose owner may be waiting for ours.
    auto& made = *way;
    lock.unlock();
    if (id != 0) {
      made.strict =
          observer().met({id, op, backward, ruling, dtype_ruling(rule), arguments, !full});
    }
    return made;
  }

 private:
  static constexpr uint32_t kMostShapes = 64;

  static DtypeRuling dtype_ruling(const ChipDtypeRule* rule) {
    if (!rule) return {};
    return {rule->kind, rule->index, rule->dtype, rule->to};
  }

  std::mutex mutex_;
  std::unordered_map<uint64_t, std::unique_ptr<Way>> ways_;
  std::unordered_map<uint64_t, uint32_t> shapes_;  // how many are known of a form
};

// Forward operators that ran inside a native one: the plugin has its own backward of it, so theirs
// are not judged by their names.
struct InsideNative {
  std::mutex mutex;
  std::unordered_map<std::string, std::unique_ptr<std::atomic<bool>>> ran;

  static std::atomic<bool>& of(const std::string& name) {
    static auto* all = new InsideNative;
    const std::lock_guard lock(all->mutex);
    auto& flag = all->ran[name];
    if (!flag) flag = std::make_unique<std::atomic<bool>>(false);
    return *flag;
  }

  // "aten::_thnn_fused_gru_cell_backward" -> "aten::_thnn_fused_gru_cell"
  static std::string forward_of(const std::string& name) {
    const auto at = name.find("_backward");
    return at == std::string::npos ? "" : name.substr(0, at);
  }
};

class Judged final : public c10::OperatorKernel {
 public:
  Judged(const c10::OperatorHandle& op, const Ruling& ruling, c10::KernelFunction inner)
      : ruling_(ruling),
        inner_(std::move(inner)),
        inputs_(op.schema().arguments().size()),
        dtypes_(op),
        inside_(&InsideNative::of(op.operator_name().name)) {
    const auto forward = InsideNative::forward_of(op.operator_name().name);
    if (!forward.empty()) forward_inside_ = &InsideNative::of(forward);
  }

  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
    if (thread_state.operator_depth > 0) {
      inside_->store(true, std::memory_order_relaxed);
      inner_.callBoxed(op, keys, stack);
      return;
    }
    const auto* rule = dtypes_.judge(torch::jit::last(*stack, inputs_));
    const auto ruling = rule_call(rule);
    if (recording()) {
      run_recorded(op, keys, stack, ruling, rule);
    } else {
      run(op, keys, stack, ruling, rule);
    }
  }

 private:
  Ruling rule_call(const ChipDtypeRule* rule) const {
    if (rule && rule->kind == DtypeRuling::Kind::refused && ruling_.verdict != Verdict::fallback)
      return {Verdict::refused, Why::dtype};
    if (ruling_.verdict != Verdict::native && forward_inside_ &&
        forward_inside_->load(std::memory_order_relaxed))
      return {Verdict::native, Why::listed};
    return ruling_;
  }

  void run_recorded(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack,
                    const Ruling& ruling, const ChipDtypeRule* rule) {
    const auto arguments = torch::jit::last(*stack, inputs_);
    const auto& way = meetings_.way(op, ruling, rule, arguments);
    const auto bytes_in = device_bytes(arguments);
    const auto device = device_of(arguments);
    mark_in_flight(way.id);
    const auto began = record_clock();
    TORCH_CHECK(way.strict.empty(), way.strict);
    thread_state.counted_slot = way.slot;
    try {
      run(op, keys, stack, ruling, rule);
    } catch (...) {
      count_call(*way.slot, began, bytes_in, 0, device);
      throw;
    }
    count_call(*way.slot, began, bytes_in,
               device_bytes(torch::jit::last(*stack, op.schema().returns().size())), device);
  }

  void run(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack,
           const Ruling& ruling, const ChipDtypeRule* rule) {
    if (C10_UNLIKELY(ruling.verdict == Verdict::refused)) refuse(op, ruling, rule);
    if (C10_UNLIKELY(ruling.verdict == Verdict::fallback)) warn_of_fallback(op);
    const InsideOperator inside;
    if (C10_UNLIKELY(rule && rule->kind == DtypeRuling::Kind::narrowed)) {
      run_narrowed(op, *rule, stack, [&](Stack* s) { inner_.callBoxed(op, keys, s); });
    } else {
      inner_.callBoxed(op, keys, stack);
    }
  }

  [[noreturn]] static void refuse(const c10::OperatorHandle& op, const Ruling& ruling,
                                  const ChipDtypeRule* rule) {
    const auto overload = c10::toString(op.operator_name());
    if (ruling.why == Why::dtype) TORCH_CHECK(false, worded(rule->message, overload));
    TORCH_CHECK_NOT_IMPLEMENTED(false, worded(chip_rules()->missing_error, overload));
  }

  void warn_of_fallback(const c10::OperatorHandle& op) {
    const auto& text = chip_rules()->fallback_warning;
    if (text.empty() || warned_.exchange(true)) return;
    TORCH_WARN(worded(text, c10::toString(op.operator_name())));
  }

  static c10::DeviceIndex device_of(Arguments arguments) {
    c10::DeviceIndex device = -1;
    each_tensor(arguments, [&](const at::Tensor& tensor) {
      if (device < 0 && tensor.is_cuda()) device = tensor.device().index();
    });
    return device;
  }

  Ruling ruling_;
  c10::KernelFunction inner_;
  size_t inputs_;
  DtypeJudge dtypes_;
  Meetings meetings_;
  std::atomic<bool>* inside_;
  std::atomic<bool>* forward_inside_ = nullptr;
  std::atomic<bool> warned_{false};
};

class WholeComposite final : public c10::OperatorKernel {
 public:
  explicit WholeComposite(const c10::OperatorHandle& op) {
    for (const auto key :
         {c10::DispatchKey::CompositeImplicitAutograd, c10::DispatchKey::CompositeExplicitAutograd,
          c10::DispatchKey::CompositeExplicitAutogradNonFunctional}) {
      if (op.hasKernelForDispatchKey(key)) {
        key_ = key;
        break;
      }
    }
  }
  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet, Stack* stack) {
    op.callBoxedForDispatchKey(key_, *stack);
  }

 private:
  c10::DispatchKey key_ = c10::DispatchKey::Undefined;
};

}  // namespace

bool must_watch(const c10::OperatorHandle& op, const Ruling& ruling) {
  return recording() || ruling.verdict == Verdict::refused || ruling.verdict == Verdict::fallback ||
         DtypeJudge(op).acts();
}

c10::KernelFunction judged(const c10::OperatorHandle& op, const Ruling& ruling,
                           c10::KernelFunction inner) {
  return c10::KernelFunction::makeFromBoxedFunctor(
      std::make_unique<Judged>(op, ruling, std::move(inner)));
}

c10::KernelFunction whole_composite(const c10::OperatorHandle& op) {
  return c10::KernelFunction::makeFromBoxedFunctor(std::make_unique<WholeComposite>(op));
}

}  // namespace heitu
