// Operators: how a kernel's C arguments are kept between its two calls, and what runs on the
// stream.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "descriptors.h"

namespace heitu::cann {

// One argument, copied, because its owner gives it back after the second call.
using Argument =
    std::variant<std::monostate, Tensor, std::vector<Tensor>, c10::Scalar, std::vector<c10::Scalar>,
                 std::vector<int64_t>, std::vector<double>, int64_t, double, bool, std::string>;

Argument pack(const Tensor* tensor);
Argument pack(const TensorList* list);
Argument pack(const Scalar* scalar);
Argument pack(const ScalarList* list);
Argument pack(const IntArray* array);
Argument pack(const FloatArray* array);
Argument pack(const BoolArray* array);
Argument pack(const char* text);
inline Argument pack(int64_t value) { return value; }
inline Argument pack(int32_t value) { return int64_t{value}; }
inline Argument pack(int8_t value) { return int64_t{value}; }
inline Argument pack(bool value) { return value; }
inline Argument pack(double value) { return value; }
inline Argument pack(float value) { return static_cast<double>(value); }
// An element type, given as the runtime's code; none where it is undefined.
Argument pack_type(int acl_type);

// The arguments of one call, as kernels written here take them.
class Call {
 public:
  Call(const char* parameters, const std::vector<Argument>& arguments)
      : parameters_(parameters), arguments_(arguments) {}

  // The index of a parameter, by the name that the table gives it; the number of parameters if none
  // has it.
  size_t index(std::string_view parameter) const;
  size_t size() const { return arguments_.size(); }
  const Argument& argument(size_t index) const { return arguments_.at(index); }

  bool has(size_t index) const;
  at::Tensor tensor(size_t index) const;  // undefined where null was given
  std::vector<at::Tensor> tensors(size_t index) const;
  c10::Scalar scalar(size_t index) const;
  std::vector<c10::Scalar> scalars(size_t index) const;
  std::vector<int64_t> ints(size_t index) const;
  std::vector<double> reals(size_t index) const;
  int64_t integer(size_t index) const;
  double real(size_t index) const;
  bool flag(size_t index) const;
  std::string text(size_t index) const;
  c10::ScalarType type(size_t index) const;
  // Writes a result into the tensor that was given for it, if one was.
  void put(size_t index, const at::Tensor& result) const;
  void put(size_t index, const std::vector<at::Tensor>& results) const;
  // Writes a result whose shape follows from the data to the beginning of the memory given for it,
  // and tells the caller the shape.
  void put_sized(size_t index, const at::Tensor& result) const;

 private:
  const char* parameters_;  // "self;other;out"
  const std::vector<Argument>& arguments_;
};

using Kernel = void (*)(const Call&);

// Makes a kernel known under the name that operator tables have for it.
struct Registration {
  Registration(const char* name, Kernel kernel, bool waits);
};

#define HEITU_REGISTER_KERNEL(name, waits)                                               \
  static void kernel_##name(const ::heitu::cann::Call& call);                            \
  static const ::heitu::cann::Registration register_##name{#name, kernel_##name, waits}; \
  static void kernel_##name(const ::heitu::cann::Call& call)

#define HEITU_KERNEL(name) HEITU_REGISTER_KERNEL(name, false)
// One whose caller reads the shapes of its results at once, so that it is done when the call
// returns.
#define HEITU_WAITING_KERNEL(name) HEITU_REGISTER_KERNEL(name, true)

// One operator as the tables describe it.
struct Operator {
  const char* name;
  const char* parameters;  // "self;other;out"
  const char* target;      // "aten::add.Tensor", ":kernel", or "" where it is not emulated
  const char* arguments;   // "#0;#1;alpha=#2;None"
  const char* results;     // "3;4"
};

// The generated table.
extern const Operator kOperators[];
extern const size_t kOperatorCount;

struct Executor;

int prepare(size_t index, uint64_t* workspace, Executor** executor,
            std::initializer_list<Argument> arguments);
int refuse(size_t index);
int launch(Executor* executor, void* stream);
// Runs the kernel that is written for an operator of the graph compiler's, by the name "graph_" and
// its own.
int launch_graph_operator(const std::string& name, std::string parameters,
                          std::vector<Argument> arguments, void* stream);

}  // namespace heitu::cann
