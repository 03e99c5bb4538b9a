// The descriptions of arguments that kernels are called with.
#pragma once

#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace heitu::cann {

struct Tensor {
  c10::ScalarType type = c10::ScalarType::Undefined;
  int acl_type = -1;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  int64_t offset = 0;  // elements
  int format = 2;
  std::vector<int64_t> storage_sizes;
  void* data = nullptr;                         // of the storage
  std::shared_ptr<std::vector<char>> constant;  // a copy of `data` that lies in host memory
  Tensor* original =
      nullptr;  // in a copy: where a result's shape is written, if it follows from the data
};

struct Scalar {
  c10::Scalar value;
};

struct IntArray {
  std::vector<int64_t> values;
};

struct FloatArray {
  std::vector<double> values;
};

struct BoolArray {
  std::vector<int64_t> values;
};

struct TensorList {
  std::vector<Tensor*> values;
};

struct ScalarList {
  std::vector<Scalar*> values;
};

// The element type of PyTorch's for one of the runtime's, or Undefined.
c10::ScalarType torch_type(int acl_type);

}  // namespace heitu::cann
