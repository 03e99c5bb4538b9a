// How a native kernel works on the host: arguments become host views, fresh results are relabelled.
#pragma once

#include <optional>
#include <utility>

#include "../labels.h"

namespace heitu {

class OnHost {
 public:
  explicit OnHost(const at::Tensor& reference)
      : device_(reference.device()), memory_(reference.device()) {}

  at::Tensor view(const at::Tensor& t) const {
    return t.defined() && t.device().type() == device_.type() ? host_view(t) : t;
  }
  at::Tensor view(const std::optional<at::Tensor>& t) const {
    return t.has_value() ? view(*t) : at::Tensor();
  }
  std::vector<at::Tensor> views(at::TensorList list) const {
    std::vector<at::Tensor> result;
    result.reserve(list.size());
    for (const at::Tensor& t : list) result.push_back(view(t));
    return result;
  }

  // `fresh` must own its storage alone: no view of an argument, no second tensor over it.
  at::Tensor result(at::Tensor fresh) const {
    return fresh.defined() ? device_label(std::move(fresh), device_) : fresh;
  }

 private:
  c10::Device device_;
  DeviceMemoryScope memory_;
};

inline bool is_reduced_float(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16;
}

// The type CUDA kernels accumulate in.
inline at::ScalarType accumulate_type(at::ScalarType type) {
  return is_reduced_float(type) ? at::kFloat : type;
}

inline at::Tensor value_or_undefined(const std::optional<at::Tensor>& t) {
  return t.has_value() ? *t : at::Tensor();
}

}  // namespace heitu
