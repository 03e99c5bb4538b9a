#include "operators.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <sstream>
#include <stdexcept>

#include "acl.h"
#include "device.h"
#include "errors.h"
#include "memory.h"

namespace heitu::cann {

struct Executor {
  size_t index;
  std::vector<Argument> arguments;
};

namespace {

constexpr size_t kMostOperators = 2048;
std::array<std::atomic<uint64_t>, kMostOperators> counts;

std::mutex graph_counts_mutex;
std::map<std::string, uint64_t> graph_counts;

struct Written {
  Kernel kernel;
  bool waits;
};

std::map<std::string, Written>& kernels() {
  static auto* only = new std::map<std::string, Written>;
  return *only;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

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

double factor_of(const std::string& name) {
  if (!falsifying) return 1;
  std::lock_guard<std::mutex> lock(falsified_mutex);
  return falsified.first == name ? falsified.second : 1;
}

// Writes `result` into `target`, which has the type, the layout and the number of elements that its
// owner wants.
void write(at::Tensor target, const at::Tensor& computed, const std::string& what) {
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

// An argument as the schema of an operator of PyTorch's wants it.
class Converter {
 public:
  explicit Converter(const Call& call) : call_(call) {}

  c10::IValue convert(size_t index, const c10::Type& type) const {
    if (!call_.has(index) && type.kind() != c10::TypeKind::ListType) return {};
    switch (type.kind()) {
      case c10::TypeKind::OptionalType:
        return convert(index, *type.castRaw<c10::OptionalType>()->getElementType());
      case c10::TypeKind::TensorType:
        return tensor(index);
      case c10::TypeKind::NumberType:
        return call_.scalar(index);
      case c10::TypeKind::FloatType:
        return call_.real(index);
      case c10::TypeKind::BoolType:
        return call_.flag(index);
      case c10::TypeKind::IntType:
      case c10::TypeKind::SymIntType:
        return call_.integer(index);
      case c10::TypeKind::StringType:
        return call_.text(index);
      case c10::TypeKind::ListType:
        return list(index, *type.castRaw<c10::ListType>()->getElementType());
      default:
        throw std::runtime_error("no conversion to " + type.str());
    }
  }

 private:
  c10::IValue tensor(size_t index) const {
    if (std::holds_alternative<Tensor>(call_.argument(index))) return call_.tensor(index);
    return at::scalar_tensor(call_.scalar(index));
  }

  c10::IValue list(size_t index, const c10::Type& element) const {
    switch (element.kind()) {
      case c10::TypeKind::TensorType:
        return call_.tensors(index);
      case c10::TypeKind::OptionalType: {
        c10::List<std::optional<at::Tensor>> values;
        for (const auto& value : call_.tensors(index)) {
          values.push_back(value.defined() ? std::optional(value) : std::nullopt);
        }
        return values;
      }
      case c10::TypeKind::IntType:
      case c10::TypeKind::SymIntType:
        return call_.ints(index);
      case c10::TypeKind::FloatType:
        return call_.reals(index);
      case c10::TypeKind::BoolType: {
        c10::List<bool> values;
        for (const auto value : call_.ints(index)) values.push_back(value != 0);
        return values;
      }
      case c10::TypeKind::NumberType: {
        c10::List<c10::Scalar> values;
        for (const auto& value : call_.scalars(index)) values.push_back(value);
        return c10::IValue(c10::impl::toList(std::move(values)));
      }
      default:
        throw std::runtime_error("no conversion to a list of " + element.str());
    }
  }

  const Call& call_;
};

c10::IValue literal(const std::string& text) {
  if (text == "None") return {};
  if (text == "True") return true;
  if (text == "False") return false;
  if (text.front() == '\'') return text.substr(1, text.size() - 2);
  if (text.find_first_of(".e") != std::string::npos) return std::stod(text);
  return int64_t{std::stoll(text)};
}

void collect(const c10::IValue& value, std::vector<at::Tensor>& into) {
  if (value.isTensor()) {
    into.push_back(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& each : value.toTensorList()) into.push_back(each);
  } else if (value.isTuple()) {
    for (const auto& each : value.toTupleRef().elements()) collect(each, into);
  }
}

class AtenCall {
 public:
  AtenCall(const Operator& described, const Call& call)
      : described_(described), call_(call), handle_(find(described.target)) {}

  void run() {
    const auto& parameters = handle_.schema().arguments();
    std::vector<std::string> given(parameters.size());
    size_t position = 0;
    for (const auto& word : split(described_.arguments, ';')) {
      const auto equals = word.find('=');
      if (equals == std::string::npos) {
        given.at(position++) = word;
      } else {
        const auto place = handle_.schema().argumentIndexWithName(word.substr(0, equals));
        if (!place) throw std::runtime_error("no argument " + word);
        given[static_cast<size_t>(*place)] = word.substr(equals + 1);
      }
    }
    torch::jit::Stack stack;
    for (size_t i = 0; i < parameters.size(); ++i) stack.push_back(value(given[i], parameters[i]));
    handle_.callBoxed(stack);
    put_results(stack);
  }

 private:
  static c10::OperatorHandle find(const std::string& target) {
    const auto dot = target.find('.');
    const auto name = target.substr(0, dot);
    const auto overload = dot == std::string::npos ? "" : target.substr(dot + 1);
    return c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), overload.c_str());
  }

  c10::IValue value(const std::string& word, const c10::Argument& parameter) const {
    if (word.empty()) return parameter.default_value().value_or(c10::IValue());
    if (word.front() == '@') {  // the element type of a tensor
      const auto type = std::get<Tensor>(call_.argument(std::stoul(word.substr(1)))).type;
      return static_cast<int64_t>(type);
    }
    if (word.front() == '^') return call_.tensor(std::stoul(word.substr(1))).to(at::kLong);
    if (word.front() != '#') return literal(word);
    return Converter(call_).convert(std::stoul(word.substr(1)), *parameter.type());
  }

  void put_results(const torch::jit::Stack& stack) const {
    std::vector<at::Tensor> results;
    for (const auto& each : stack) collect(each, results);
    const auto places = split(described_.results, ';');
    if (places.size() == 1 &&
        std::holds_alternative<std::vector<Tensor>>(call_.argument(std::stoul(places[0])))) {
      call_.put(std::stoul(places[0]), results);
      return;
    }
    for (size_t i = 0; i < places.size() && i < results.size(); ++i) {
      call_.put(std::stoul(places[i]), results[i]);
    }
  }

  const Operator& described_;
  const Call& call_;
  c10::OperatorHandle handle_;
};

template <typename Work>
void run_named(const std::string& name, Work work) {
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  c10::NoGradGuard no_gradients;
  factor_here = factor_of(name);
  try {
    work();
  } catch (const c10::Error& error) {
    throw std::runtime_error(name + ": " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw std::runtime_error(name + ": " + error.what());
  }
}

void execute(const Executor& executor) {
  const Operator& described = kOperators[executor.index];
  const Call call(described.parameters, executor.arguments);
  run_named(described.name, [&] {
    if (described.target[0] == ':') {
      kernels().at(described.target + 1).kernel(call);
    } else {
      AtenCall(described, call).run();
    }
  });
}

}  // namespace

Registration::Registration(const char* name, Kernel kernel, bool waits) {
  kernels()[name] = {kernel, waits};
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
  if (has(index)) write(tensor(index), result, "result " + std::to_string(index + 1));
}

void Call::put(size_t index, const std::vector<at::Tensor>& results) const {
  const auto places = tensors(index);
  for (size_t i = 0; i < places.size() && i < results.size(); ++i) {
    if (places[i].defined()) write(places[i], results[i], "result " + std::to_string(index + 1));
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
  write(view_of(described, "result " + std::to_string(index + 1)), result, "result");
  described.original->sizes = described.sizes;
  described.original->strides = described.strides;
}

int prepare(size_t index, uint64_t* workspace, Executor** executor,
            std::initializer_list<Argument> arguments) {
  *workspace = 0;
  *executor = new Executor{index, arguments};
  return kSuccess;
}

int refuse(size_t index) {
  return fail(kParameterInvalid, std::string(kOperators[index].name) + " is not emulated");
}

int launch(Executor* executor, void* stream) {
  const std::shared_ptr<const Executor> kept(executor);
  ++counts[kept->index];
  stream_of(stream).submit([kept] { execute(*kept); });
  const char* target = kOperators[kept->index].target;
  if (target[0] != ':' || !kernels().at(target + 1).waits) return kSuccess;
  stream_of(stream).synchronize(-1);
  return report(stream_of(stream));
}

int launch_graph_operator(const std::string& name, std::string parameters,
                          std::vector<Argument> arguments, void* stream) {
  const auto found = kernels().find("graph_" + name);
  if (found == kernels().end()) {
    return fail(kFeatureNotSupported, "the graph operator " + name + " is not emulated");
  }
  {
    std::lock_guard<std::mutex> lock(graph_counts_mutex);
    ++graph_counts[name];
  }
  stream_of(stream).submit([=, kernel = found->second.kernel, parameters = std::move(parameters),
                            arguments = std::move(arguments)] {
    run_named(name, [&] { kernel(Call(parameters.c_str(), arguments)); });
  });
  return kSuccess;
}

HEITU_EXPORT int aclDestroyAclOpExecutor(Executor* executor) {
  delete executor;
  return kSuccess;
}

// Calls of each operator since the start or the last reset, as JSON: {"aclnnAdd": 3}.
HEITU_EXPORT const char* heitu_cann_calls_json() {
  static thread_local std::string text;
  text = "{";
  const auto add = [&](const std::string& name, uint64_t count) {
    if (count == 0) return;
    if (text.size() > 1) text += ", ";
    text += '"' + name + "\": " + std::to_string(count);
  };
  for (size_t i = 0; i < kOperatorCount; ++i) add(kOperators[i].name, counts[i]);
  std::lock_guard<std::mutex> lock(graph_counts_mutex);
  for (const auto& [name, count] : graph_counts) add(name, count);
  text += "}";
  return text.c_str();
}

// Multiplies the results of one operator from now on; for tests.
HEITU_EXPORT void heitu_cann_falsify(const char* name, double factor) {
  std::lock_guard<std::mutex> lock(falsified_mutex);
  falsified = {name, factor};
  falsifying = factor != 1;
}

HEITU_EXPORT void heitu_cann_reset_calls() {
  for (auto& count : counts) count = 0;
  std::lock_guard<std::mutex> lock(graph_counts_mutex);
  graph_counts.clear();
}

}  // namespace heitu::cann
