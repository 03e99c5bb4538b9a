#include "arguments.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/mul.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <sstream>
#include <stdexcept>

#include "acl.h"
#include "memory.h"

namespace heitu::cann {
namespace {

at::Tensor view_of(const Tensor& described, const std::string& what) {
  if (described.type == c10::ScalarType::Undefined) {
    throw std::runtime_error(what + ": element type " + std::to_string(described.acl_type) +
                             " is not emulated");
  }
  const auto options = at::TensorOptions().dtype(described.type);
  const size_t width = c10::elementSize(described.type);
  int64_t last = 0;
  bool empty = false;
  for (size_t i = 0; i < described.sizes.size(); ++i) {
    empty = empty || described.sizes[i] == 0;
    last += (described.sizes[i] - 1) * described.strides[i];
  }
  if (described.constant) {
    return at::from_blob(described.constant->data(), described.sizes, described.strides, options);
  }
  auto* base = static_cast<char*>(described.data) + described.offset * static_cast<int64_t>(width);
  if (!empty && described.data != nullptr && !is_device_address(base)) {
    throw std::runtime_error(what + " lies in host memory: a kernel needs device memory");
  }
  void* data = empty ? nullptr : kernel_range(base, (static_cast<size_t>(last) + 1) * width, what);
  return at::from_blob(data, described.sizes, described.strides, options);
}

// An operator whose results are falsified, so that a test can show that it would notice, and by how
// much.
std::atomic<bool> falsifying{false};
std::mutex falsified_mutex;
std::pair<std::string, double> falsified;
thread_local double factor_here = 1;

// Writes `result` into `target`, which has the type, the layout and the number of elements that its
// owner wants.
void store(at::Tensor target, const at::Tensor& computed, const std::string& what) {
  if (!computed.defined()) return;
  const auto result = factor_here == 1 ? computed : computed.mul(factor_here);
  if (target.sizes() == result.sizes()) {
    target.copy_(result);
  } else if (target.numel() == result.numel()) {
    target.copy_(result.reshape(target.sizes()));
  } else {
    std::ostringstream text;
    text << what << ": the result has shape " << result.sizes() << ", its place " << target.sizes();
    throw std::runtime_error(text.str());
  }
}

}  // namespace

void begin_results_of(const std::string& name) {
  factor_here = 1;
  if (!falsifying) return;
  std::lock_guard<std::mutex> lock(falsified_mutex);
  if (falsified.first == name) factor_here = falsified.second;
}

Argument pack(const Tensor* tensor) {
  if (tensor == nullptr) return {};
  Tensor copy = *tensor;
  copy.original = const_cast<Tensor*>(tensor);
  return copy;
}

Argument pack(const Scalar* scalar) {
  return scalar != nullptr ? Argument(scalar->value) : Argument();
}

Argument pack(const IntArray* array) {
  return array != nullptr ? Argument(array->values) : Argument();
}

Argument pack(const FloatArray* array) {
  return array != nullptr ? Argument(array->values) : Argument();
}

Argument pack(const BoolArray* array) {
  return array != nullptr ? Argument(array->values) : Argument();
}

Argument pack(const char* text) {
  return text != nullptr ? Argument(std::string(text)) : Argument();
}

Argument pack(const TensorList* list) {
  if (list == nullptr) return {};
  std::vector<Tensor> copies;
  for (const Tensor* tensor : list->values) copies.push_back(tensor ? *tensor : Tensor{});
  return copies;
}

Argument pack(const ScalarList* list) {
  if (list == nullptr) return {};
  std::vector<c10::Scalar> copies;
  for (const Scalar* scalar : list->values) copies.push_back(scalar->value);
  return copies;
}

Argument pack_type(int acl_type) {
  const auto type = torch_type(acl_type);
  return type != c10::ScalarType::Undefined ? Argument(static_cast<int64_t>(type)) : Argument();
}

size_t Call::index(std::string_view parameter) const {
  std::string_view rest = parameters_;
  for (size_t i = 0; i < arguments_.size(); ++i) {
    const auto name = rest.substr(0, rest.find(';'));
    if (name == parameter) return i;
    rest.remove_prefix(std::min(name.size() + 1, rest.size()));
  }
  return arguments_.size();
}

bool Call::has(size_t index) const {
  return index < arguments_.size() && !std::holds_alternative<std::monostate>(arguments_[index]);
}

at::Tensor Call::tensor(size_t index) const {
  if (!has(index)) return {};
  const auto& described = std::get<Tensor>(arguments_.at(index));
  return view_of(described, "argument " + std::to_string(index + 1));
}

std::vector<at::Tensor> Call::tensors(size_t index) const {
  if (!has(index)) return {};
  const auto& value = arguments_.at(index);
  if (std::holds_alternative<Tensor>(value)) return {tensor(index)};
  std::vector<at::Tensor> views;
  for (const auto& each : std::get<std::vector<Tensor>>(value)) {
    const bool none = each.type == c10::ScalarType::Undefined && each.sizes.empty();
    views.push_back(none ? at::Tensor() : view_of(each, "argument " + std::to_string(index + 1)));
  }
  return views;
}

c10::Scalar Call::scalar(size_t index) const {
  const auto& value = arguments_.at(index);
  if (const auto* scalar = std::get_if<c10::Scalar>(&value)) return *scalar;
  if (const auto* integer = std::get_if<int64_t>(&value)) return *integer;
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* flag = std::get_if<bool>(&value)) return *flag;
  return tensor(index).item();
}

std::vector<c10::Scalar> Call::scalars(size_t index) const {
  const auto& value = arguments_.at(index);
  if (const auto* list = std::get_if<std::vector<c10::Scalar>>(&value)) return *list;
  std::vector<c10::Scalar> each;
  if (has(index)) {
    const auto numbers = tensor(index).flatten();
    for (int64_t i = 0; i < numbers.numel(); ++i) each.push_back(numbers[i].item());
  }
  return each;
}

std::vector<int64_t> Call::ints(size_t index) const {
  if (!has(index)) return {};
  const auto& value = arguments_.at(index);
  if (const auto* list = std::get_if<std::vector<int64_t>>(&value)) return *list;
  return {integer(index)};
}

std::vector<double> Call::reals(size_t index) const {
  if (!has(index)) return {};
  const auto& value = arguments_.at(index);
  if (const auto* list = std::get_if<std::vector<double>>(&value)) return *list;
  return {real(index)};
}

int64_t Call::integer(size_t index) const { return scalar(index).to<int64_t>(); }
double Call::real(size_t index) const { return scalar(index).to<double>(); }
bool Call::flag(size_t index) const { return scalar(index).to<bool>(); }

std::string Call::text(size_t index) const {
  return has(index) ? std::get<std::string>(arguments_.at(index)) : "";
}

c10::ScalarType Call::type(size_t index) const {
  return has(index) ? static_cast<c10::ScalarType>(integer(index)) : c10::ScalarType::Undefined;
}

void Call::put(size_t index, const at::Tensor& result) const {
  if (has(index)) store(tensor(index), result, "result " + std::to_string(index + 1));
}

void Call::put(size_t index, const std::vector<at::Tensor>& results) const {
  const auto places = tensors(index);
  for (size_t i = 0; i < places.size() && i < results.size(); ++i) {
    if (places[i].defined()) store(places[i], results[i], "result " + std::to_string(index + 1));
  }
}

void Call::put_sized(size_t index, const at::Tensor& result) const {
  if (!has(index)) return;
  Tensor described = std::get<Tensor>(arguments_.at(index));
  described.sizes = result.sizes().vec();
  described.strides.assign(described.sizes.size(), 1);
  for (size_t i = described.sizes.size(); i-- > 1;) {
    described.strides[i - 1] = described.strides[i] * std::max<int64_t>(described.sizes[i], 1);
  }
  store(view_of(described, "result " + std::to_string(index + 1)), result, "result");
  described.original->sizes = described.sizes;
  described.original->strides = described.strides;
}

// Multiplies the results of one operator from now on; for tests.
HEITU_EXPORT void heitu_cann_falsify(const char* name, double factor) {
  std::lock_guard<std::mutex> lock(falsified_mutex);
  falsified = {name, factor};
  falsifying = factor != 1;
}

}  // namespace heitu::cann
