// Where the dtypes of CUDA's kernels are others than those of the CPU's: what the device refuses
// although the CPU could, and what it computes although the CPU's kernel does not.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>

namespace heitu {

class DtypeRule {
 public:
  // Null for nearly all operators: CUDA and the CPU agree.
  static const DtypeRule* of(const c10::OperatorHandle& op);

  // Raises CUDA's error if it has no kernel for the arguments.
  void check(const c10::OperatorHandle& op, c10::ArrayRef<c10::IValue> arguments) const;

  // The dtype among the arguments that only CUDA's kernel knows; Undefined if there is none.
  at::ScalarType narrow(c10::ArrayRef<c10::IValue> arguments) const;

  // CUDA has no kernel of this operator at all.
  bool absent() const { return absent_; }
  bool promotes() const { return promoted_ != 0; }

 private:
  friend struct DtypeTable;

  static constexpr int64_t kAnyDims = INT64_MAX;

  const char* argument_ = nullptr;  // which decides; null: the common dtype of all
  const char* text_ = nullptr;      // CUDA's message; an operator's name stands for the usual one
  const char* unless_ = nullptr;    // a string argument of this value takes any dtype
  const char* when_ = nullptr;      // without a string argument of this value any dtype is taken
  uint64_t refused_ = 0;
  uint64_t promoted_ = 0;
  int64_t dims_ = kAnyDims;  // tensors have fewer dimensions
  bool absent_ = false;
};

// Raises what PyTorch raises for an operator without a kernel for CUDA.
[[noreturn]] void raise_absent(const c10::OperatorHandle& op, const torch::jit::Stack& stack);

}  // namespace heitu
