// The tensors among the arguments or results of a boxed call.
#pragma once

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <utility>

namespace heitu {

// Whether a list may hold tensors. It is judged by its first element: asking for its type takes
// longer, and all are of one.
inline bool may_hold_tensors(c10::ArrayRef<c10::IValue> list) {
  return !list.empty() && (list[0].isTensor() || list[0].isNone() || list[0].isList());
}

// Calls `visit(const at::Tensor&)` for each that is defined, in lists and tuples too.
template <class Visit>
void each_tensor(const c10::IValue& value, const Visit& visit) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) visit(value.toTensor());
  } else if (value.isList()) {
    const auto list = value.toListRef();
    if (!may_hold_tensors(list)) return;
    for (const c10::IValue& element : list) each_tensor(element, visit);
  } else if (value.isTuple()) {
    for (const c10::IValue& element : value.toTupleRef().elements()) each_tensor(element, visit);
  }
}

template <class Visit>
void each_tensor(c10::ArrayRef<c10::IValue> values, const Visit& visit) {
  for (const c10::IValue& value : values) each_tensor(value, visit);
}

// Puts `replace(at::Tensor)` in the place of each that is defined. A list is made anew, since
// others may hold it. `value` holds on to no tensor that `replace` has been given.
template <class Replace>
void replace_tensors(c10::IValue& value, const Replace& replace) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) value = replace(std::move(value).toTensor());
  } else if (value.isList()) {
    if (!may_hold_tensors(value.toListRef())) return;
    auto list = value.toList().copy();
    value = c10::IValue();
    for (size_t i = 0; i < list.size(); ++i) {
      c10::IValue element = list.extract(i);
      replace_tensors(element, replace);
      list.set(i, std::move(element));
    }
    value = std::move(list);
  } else if (value.isTuple()) {
    auto elements = value.toTupleRef().elements().vec();
    value = c10::IValue();
    for (c10::IValue& element : elements) replace_tensors(element, replace);
    value = c10::ivalue::Tuple::create(std::move(elements));
  }
}

}  // namespace heitu
