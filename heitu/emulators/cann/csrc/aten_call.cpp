#include "aten_call.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/scalar_tensor.h>

#include <sstream>
#include <stdexcept>

namespace heitu::cann {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
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
    const torch::jit::Stack before = stack;
    try {
      handle_.callBoxed(stack);
    } catch (const c10::Error&) {
      // The CPU has no such kernel for 16 bits, or none that mixes them with 32; the chip has.
      stack = widened(before);
      if (stack.empty()) throw;
      const torch::jit::Stack wide = stack;
      handle_.callBoxed(stack);
      write_back(wide, before);
    }
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

  // The arguments with float32 in the place of 16 bits; nothing if there are none of 16 bits.
  static torch::jit::Stack widened(const torch::jit::Stack& given) {
    torch::jit::Stack wide;
    bool any = false;
    for (const auto& value : given) {
      const bool narrow = value.isTensor() && (value.toTensor().scalar_type() == at::kHalf ||
                                               value.toTensor().scalar_type() == at::kBFloat16);
      wide.push_back(narrow ? c10::IValue(value.toTensor().to(at::kFloat)) : value);
      any = any || narrow;
    }
    return any ? wide : torch::jit::Stack();
  }

  // What an operator in place did to a copy.
  void write_back(const torch::jit::Stack& wide, const torch::jit::Stack& given) const {
    const auto& parameters = handle_.schema().arguments();
    for (size_t i = 0; i < parameters.size(); ++i) {
      const auto* alias = parameters[i].alias_info();
      if (alias != nullptr && alias->isWrite() && given[i].isTensor() &&
          !wide[i].toTensor().is_same(given[i].toTensor())) {
        given[i].toTensor().copy_(wide[i].toTensor());
      }
    }
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

}  // namespace

void call_aten(const Operator& described, const Call& call) { AtenCall(described, call).run(); }

}  // namespace heitu::cann
