// The arguments of a kernel: how they are kept between its two calls, and how kernels written here
// take them.
#pragma once

#include <ATen/core/Tensor.h>

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

// Makes results that this thread writes from now on those of the named operator, which may be
// falsified.
void begin_results_of(const std::string& name);

}  // namespace heitu::cann
