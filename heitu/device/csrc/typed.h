// Typed kernels: the passage of frame.h with the operator's own C++ signature, for the operators
// that programs call most and whose own work is so short that boxing would show: a signature costs
// a fifth of a second of compiling. Everything unusual goes the boxed way of call.h.
#pragma once

#include "call.h"
#include "frame.h"
#include "narrow_products.h"
#include "prelude.h"

namespace heitu {

using TypedKernels = std::vector<std::pair<c10::OperatorName, c10::KernelFunction>>;

template <class T>
constexpr bool is_tensor = std::is_same_v<std::remove_cvref_t<T>, at::Tensor> ||
                           std::is_same_v<std::remove_cvref_t<T>, std::optional<at::Tensor>>;

// What a typed kernel is apart from its signature.
class TypedKernel : public c10::OperatorKernel {
 protected:
  explicit TypedKernel(const c10::OperatorHandle& op);

  c10::OperatorHandle op_;
  c10::KernelFunction boxed_;
};

// Nothing if this torch has no such operator.
std::optional<c10::OperatorHandle> find_operator(const char* name, const char* overload);

// One class a signature, not one an operator: PyTorch's boxing of it, which takes longest to
// compile, is then shared by all operators of that signature. `mix`: TensorIterator's operators
// take 0-dim CPU tensors among CUDA ones. `judged`: CUDA refuses dtypes here that the CPU takes
// (dtype_rules.h).
template <class Signature, bool mix, bool judged>
class Typed;

template <class Result, class... Arguments, bool mix, bool judged>
class Typed<Result(Arguments...), mix, judged> final : public TypedKernel {
 public:
  using Redispatch = Result (*)(c10::DispatchKeySet, Arguments...);

  Typed(const c10::OperatorHandle& op, Redispatch redispatch)
      : TypedKernel(op), redispatch_(redispatch) {}

  Result operator()(Arguments... arguments) {
    if (C10_LIKELY(!observed.load(std::memory_order_relaxed) && (ordinary(arguments) && ...))) {
      try {
        Passage frame;
        // Braces: the arguments are taken from left to right.
        std::tuple<Shadow<Arguments>...> shadows{take<Arguments>(frame, arguments)...};
        if (C10_LIKELY(frame.uniform())) {
          return finish(frame, shadows, std::index_sequence_for<Arguments...>{}, arguments...);
        }
      } catch (const c10::NotImplementedError&) {
        // The boxed way knows where a wider dtype serves (promotion.h), or raises the same.
      }
    }
    return boxed_.template call<Result, Arguments...>(
        op_, c10::DispatchKeySet(c10::DispatchKey::CUDA), std::forward<Arguments>(arguments)...);
  }

 private:
  static constexpr int kTensors = (0 + ... + (is_tensor<Arguments> ? 1 : 0));
  using Passage = Frame<kTensors>;

  template <class T>
  using Shadow = std::conditional_t<
      std::is_same_v<std::remove_cvref_t<T>, at::Tensor>, const at::Tensor&,
      std::conditional_t<std::is_same_v<std::remove_cvref_t<T>, std::optional<at::Tensor>>,
                         std::optional<at::Tensor>, std::decay_t<T>>>;

  // Of a dtype that every kernel for matrices takes, and computes as it is.
  template <class T>
  static bool ordinary(const T& argument) {
    if constexpr (judged && std::is_same_v<T, at::Tensor>) {
      const auto type = argument.scalar_type();
      return (c10::isFloatingType(type) && !slow_on_host(type)) || c10::isComplexType(type);
    }
    return true;
  }

  template <class T, class U>
  static Shadow<T> take(Passage& frame, U&& value) {
    if constexpr (std::is_same_v<std::remove_cvref_t<T>, at::Tensor>) {
      return frame.template take<mix>(value);
    } else if constexpr (std::is_same_v<std::remove_cvref_t<T>, std::optional<at::Tensor>>) {
      if (!value) return std::nullopt;
      return frame.template take<mix>(*value);
    } else if constexpr (std::is_same_v<std::remove_cvref_t<T>, at::TensorList>) {
      return frame.template take_list<mix>(value);
    } else if constexpr (std::is_same_v<std::remove_cvref_t<T>, at::ITensorListRef>) {
      if (value.isBoxed()) frame.refuse();
      return value.isBoxed() ? value
                             : at::ITensorListRef(frame.template take_list<mix>(value.toUnboxed()));
    } else {
      return value;
    }
  }

  template <class T>
  static decltype(auto) pass(Shadow<T>& shadow) {
    if constexpr (std::is_same_v<T, at::Tensor&>) {
      return const_cast<at::Tensor&>(shadow);
    } else {
      return (shadow);
    }
  }

  template <size_t... I>
  Result finish(Passage& frame, std::tuple<Shadow<Arguments>...>& shadows,
                std::index_sequence<I...>, Arguments&... arguments) {
    if constexpr (std::is_void_v<Result>) {
      redispatch_(kHostKeys, pass<Arguments>(std::get<I>(shadows))...);
      (settle<Arguments>(frame, arguments), ...);
    } else if constexpr (std::is_same_v<Result, at::Tensor&>) {
      auto& result = redispatch_(kHostKeys, pass<Arguments>(std::get<I>(shadows))...);
      (settle<Arguments>(frame, arguments), ...);
      return const_cast<at::Tensor&>(frame.original(result));
    } else {
      auto result = redispatch_(kHostKeys, pass<Arguments>(std::get<I>(shadows))...);
      (settle<Arguments>(frame, arguments), ...);
      return give(frame, std::move(result));
    }
  }

  template <class T, class U>
  static void settle(Passage& frame, U& argument) {
    if constexpr (std::is_same_v<T, at::Tensor&>) frame.written(argument);
  }

  static at::Tensor give(Passage& frame, at::Tensor&& result) {
    return frame.give(std::move(result));
  }
  static std::vector<at::Tensor> give(Passage& frame, std::vector<at::Tensor>&& results) {
    for (auto& result : results) result = frame.give(std::move(result));
    return std::move(results);
  }
  template <class... T>
  static std::tuple<T...> give(Passage& frame, std::tuple<T...>&& results) {
    return std::apply(
        [&](auto&... each) { return std::tuple<T...>{give(frame, std::move(each))...}; }, results);
  }
  template <class T>
  static T give(Passage&, T&& result) {
    return std::forward<T>(result);
  }

  Redispatch redispatch_;
};

template <class Kernel>
void add_typed(TypedKernels& kernels, const char* name, const char* overload,
               typename Kernel::Redispatch redispatch) {
  if (const auto op = find_operator(name, overload)) {
    kernels.push_back(
        {op->operator_name(), c10::KernelFunction::makeFromUnboxedFunctor<false, Kernel>(
                                  std::make_unique<Kernel>(*op, redispatch))});
  }
}

// Each adds the kernels of its file.
void add_pointwise_kernels(TypedKernels& kernels);
void add_reduction_kernels(TypedKernels& kernels);
void add_network_kernels(TypedKernels& kernels);

#define HEITU_ADD_TYPED(op, mix, judged)               \
  add_typed<Typed<at::_ops::op::schema, mix, judged>>( \
      kernels, at::_ops::op::name, at::_ops::op::overload_name, &at::_ops::op::redispatch)
#define HEITU_TYPED(op) HEITU_ADD_TYPED(op, false, false)
#define HEITU_TYPED_JUDGED(op) HEITU_ADD_TYPED(op, false, true)
#define HEITU_TYPED_MIX(op) HEITU_ADD_TYPED(op, true, false)

}  // namespace heitu
