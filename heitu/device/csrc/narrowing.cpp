#include "narrowing.h"

#include <ATen/ops/copy.h>

#include "prelude.h"
#include "tensors.h"

namespace heitu {

using torch::jit::Stack;

namespace {

// The arguments of aten::_to_copy.
enum ToCopy { kDtype = 1, kLayout = 2, kDevice = 3 };

void convert_narrowed(const ChipDtypeRule& rule, size_t first, Stack* stack,
                      const std::function<void(Stack*)>& inner) {
  auto& dtype = (*stack)[first + kDtype];
  const bool only_dtype =
      (*stack)[first + kLayout].isNone() && (*stack)[first + kDevice].isNone() && dtype.isInt();
  if (only_dtype && static_cast<c10::ScalarType>(dtype.toInt()) == rule.dtype) {
    if (!rule.message.empty()) TORCH_WARN_ONCE(rule.message);
    dtype = static_cast<int64_t>(rule.to);
  }
  inner(stack);
}

// The dtypes that a call is narrowed from and to.
class Narrowing {
 public:
  explicit Narrowing(const ChipDtypeRule& rule) {
    if (!rule.operators.empty()) {
      pairs_.emplace_back(rule.dtype, rule.to);
      return;
    }
    for (const auto& other : chip_rules()->dtypes)
      if (other.operators.empty() && other.kind == DtypeRuling::Kind::narrowed)
        pairs_.emplace_back(other.dtype, other.to);
  }
  // Undefined where the dtype stays.
  c10::ScalarType narrow(c10::ScalarType type) const {
    for (const auto& [from, to] : pairs_)
      if (from == type) return to;
    return c10::ScalarType::Undefined;
  }
  c10::ScalarType widen(c10::ScalarType type) const {
    for (const auto& [from, to] : pairs_)
      if (to == type) return from;
    return c10::ScalarType::Undefined;
  }

 private:
  c10::SmallVector<std::pair<c10::ScalarType, c10::ScalarType>, 4> pairs_;
};

}  // namespace

void run_narrowed(const c10::OperatorHandle& op, const ChipDtypeRule& rule, Stack* stack,
                  const std::function<void(Stack*)>& inner) {
  const auto& arguments = op.schema().arguments();
  const auto first = stack->size() - arguments.size();
  if (op.operator_name().name == "aten::_to_copy" && !rule.operators.empty()) {
    convert_narrowed(rule, first, stack, inner);
    return;
  }
  const Narrowing narrowing(rule);
  std::vector<std::pair<at::Tensor, at::Tensor>> written;  // the argument, its narrow copy
  const auto narrow = [&](const at::Tensor& tensor) {
    const auto to = narrowing.narrow(tensor.scalar_type());
    return to == c10::ScalarType::Undefined ? tensor : tensor.to(to);
  };
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto& value = (*stack)[first + i];
    const auto* alias = arguments[i].alias_info();
    const bool writes = alias && alias->isWrite();
    replace_tensors(value, [&](const at::Tensor& tensor) {
      const auto copy = narrow(tensor);
      if (writes && !copy.is_same(tensor)) written.emplace_back(tensor, copy);
      return copy;
    });
    if (value.isInt()) {
      auto type = arguments[i].real_type();
      if (auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
      if (type->kind() == c10::TypeKind::ScalarTypeType) {
        const auto to = narrowing.narrow(static_cast<c10::ScalarType>(value.toInt()));
        if (to != c10::ScalarType::Undefined) value = static_cast<int64_t>(to);
      }
    }
  }
  inner(stack);
  for (auto& [tensor, copy] : written) {
    if (tensor.sizes() != copy.sizes()) tensor.resize_(copy.sizes());
    tensor.copy_(copy);
  }
  const auto widen = [&](at::Tensor result) {
    for (const auto& [tensor, copy] : written)
      if (copy.is_same(result)) return tensor;
    const auto from = narrowing.widen(result.scalar_type());
    return from == c10::ScalarType::Undefined ? result : result.to(from);
  };
  for (size_t i = stack->size() - op.schema().returns().size(); i < stack->size(); ++i)
    replace_tensors((*stack)[i], widen);
}

}  // namespace heitu
