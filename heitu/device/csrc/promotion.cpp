#include "promotion.h"

#include "dry.h"
#include "prelude.h"
#include "tensors.h"

namespace heitu {

using c10::IValue;
using c10::ScalarType;

namespace {

struct Widening {
  explicit Widening(ScalarType narrow) : narrow(narrow) {
    switch (narrow) {
      case ScalarType::ComplexHalf:
        wide = ScalarType::ComplexFloat;
        break;
      case ScalarType::Bool:
        wide = ScalarType::Byte;
        break;
      default:
        wide = ScalarType::Float;
    }
  }

  // The dtype in which CUDA's kernel would have given a result that came out in `type`.
  ScalarType given(ScalarType type) const {
    if (type == wide) return narrow;
    if (narrow == ScalarType::ComplexHalf && type == ScalarType::Float) return ScalarType::Half;
    return type;
  }

  bool widens(ScalarType type) const {
    return type == narrow || (narrow == ScalarType::ComplexHalf && type == ScalarType::Half);
  }
  at::Tensor in(const at::Tensor& tensor) const {
    if (!widens(tensor.scalar_type())) return tensor;
    return tensor.to(tensor.scalar_type() == narrow ? wide : ScalarType::Float);
  }

  ScalarType narrow, wide;
};

}  // namespace

void run_in_wider_dtype(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                        c10::ArrayRef<IValue> arguments, ScalarType narrow,
                        torch::jit::Stack* stack) {
  if (dry_run() && any_large(arguments)) {  // nothing is computed, so no copies are taken either
    stack->insert(stack->end(), arguments.begin(), arguments.end());
    op.redispatchBoxed(keys, stack);
    return;
  }
  const Widening widening(narrow);
  const auto& schema = op.schema().arguments();
  std::vector<std::pair<at::Tensor, at::Tensor>> written;  // the argument, its wide copy
  const auto first = stack->size();
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto& value = stack->emplace_back(arguments[i]);
    const auto* alias = schema[i].alias_info();
    replace_tensors(value, [&](const at::Tensor& tensor) {
      const auto wide = widening.in(tensor);
      if (alias && alias->isWrite() && !wide.is_same(tensor)) written.emplace_back(tensor, wide);
      return wide;
    });
    if (value.isInt() && schema[i].name() == "dtype") {
      const auto type = static_cast<ScalarType>(value.toInt());
      if (widening.widens(type))
        value = static_cast<int64_t>(type == narrow ? widening.wide : ScalarType::Float);
    }
  }
  op.redispatchBoxed(keys, stack);
  for (auto& [tensor, wide] : written) {
    if (tensor.sizes() != wide.sizes()) tensor.resize_(wide.sizes());
    tensor.copy_(wide);
  }
  const auto settle = [&](const at::Tensor& result) {
    for (const auto& [tensor, wide] : written)
      if (wide.is_same(result)) return tensor;
    const auto type = widening.given(result.scalar_type());
    return type == result.scalar_type() ? result : result.to(type);
  };
  for (size_t i = first; i < stack->size(); ++i) replace_tensors((*stack)[i], settle);
}

}  // namespace heitu
