#include "descriptors.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <c10/util/complex.h>

#include <algorithm>
#include <cstring>

#include "acl.h"

namespace heitu::cann {
namespace {

template <typename T>
T read_as(const void* address) {
  T value;
  std::memcpy(&value, address, sizeof value);
  return value;
}

c10::Scalar read_scalar(const void* value, int type) {
  switch (type) {
    case kFloat:
      return static_cast<double>(read_as<float>(value));
    case kHalf:
      return static_cast<double>(read_as<c10::Half>(value));
    case kBFloat16:
      return static_cast<double>(read_as<c10::BFloat16>(value));
    case kDouble:
      return read_as<double>(value);
    case kInt8:
      return int64_t{read_as<int8_t>(value)};
    case kUInt8:
      return int64_t{read_as<uint8_t>(value)};
    case kInt16:
      return int64_t{read_as<int16_t>(value)};
    case kInt32:
      return int64_t{read_as<int32_t>(value)};
    case kInt64:
    case kUInt64:
      return read_as<int64_t>(value);
    case kBool:
      return read_as<bool>(value);
    case kComplex64:
      return c10::complex<double>(read_as<c10::complex<float>>(value));
    case kComplex128:
      return read_as<c10::complex<double>>(value);
    default:
      return 0.0;
  }
}

template <typename T>
int destroy(const T* object) {
  delete object;
  return kSuccess;
}

}  // namespace

c10::ScalarType torch_type(int acl_type) {
  using enum c10::ScalarType;
  switch (acl_type) {
    case kFloat:
      return Float;
    case kHalf:
      return Half;
    case kInt8:
      return Char;
    case kInt32:
      return Int;
    case kUInt8:
      return Byte;
    case kInt16:
      return Short;
    case kUInt16:
      return UInt16;
    case kUInt32:
      return UInt32;
    case kInt64:
      return Long;
    case kUInt64:
      return UInt64;
    case kDouble:
      return Double;
    case kBool:
      return Bool;
    case kComplex64:
      return ComplexFloat;
    case kComplex128:
      return ComplexDouble;
    case kComplex32:
      return ComplexHalf;
    case kBFloat16:
      return BFloat16;
    case kFloat8E5M2:
      return Float8_e5m2;
    case kFloat8E4M3:
      return Float8_e4m3fn;
    case kFloat8E8M0:
      return Float8_e8m0fnu;
    default:
      return Undefined;
  }
}

HEITU_EXPORT Tensor* aclCreateTensor(const int64_t* sizes, uint64_t dims, int type,
                                     const int64_t* strides, int64_t offset, int format,
                                     const int64_t* storage_sizes, uint64_t storage_dims,
                                     void* data) {
  auto* tensor = new Tensor;
  tensor->type = torch_type(type);
  tensor->acl_type = type;
  tensor->sizes.assign(sizes, sizes + dims);
  tensor->strides.assign(strides, strides + dims);
  tensor->offset = offset;
  tensor->format = format;
  tensor->storage_sizes.assign(storage_sizes, storage_sizes + storage_dims);
  tensor->data = data;
  return tensor;
}

HEITU_EXPORT int aclGetViewShape(const Tensor* tensor, int64_t** sizes, uint64_t* dims) {
  *dims = tensor->sizes.size();
  *sizes = new int64_t[tensor->sizes.size()];  // the caller deletes it
  std::copy(tensor->sizes.begin(), tensor->sizes.end(), *sizes);
  return kSuccess;
}

HEITU_EXPORT Scalar* aclCreateScalar(void* value, int type) {
  return new Scalar{read_scalar(value, type)};
}

HEITU_EXPORT IntArray* aclCreateIntArray(const int64_t* values, uint64_t count) {
  return new IntArray{{values, values + count}};
}

HEITU_EXPORT FloatArray* aclCreateFloatArray(const float* values, uint64_t count) {
  return new FloatArray{{values, values + count}};
}

HEITU_EXPORT BoolArray* aclCreateBoolArray(const bool* values, uint64_t count) {
  return new BoolArray{{values, values + count}};
}

HEITU_EXPORT TensorList* aclCreateTensorList(Tensor* const* values, uint64_t count) {
  return new TensorList{{values, values + count}};
}

HEITU_EXPORT ScalarList* aclCreateScalarList(Scalar* const* values, uint64_t count) {
  return new ScalarList{{values, values + count}};
}

HEITU_EXPORT int aclDestroyTensor(const Tensor* tensor) { return destroy(tensor); }
HEITU_EXPORT int aclDestroyScalar(const Scalar* scalar) { return destroy(scalar); }
HEITU_EXPORT int aclDestroyIntArray(const IntArray* array) { return destroy(array); }
HEITU_EXPORT int aclDestroyFloatArray(const FloatArray* array) { return destroy(array); }
HEITU_EXPORT int aclDestroyBoolArray(const BoolArray* array) { return destroy(array); }

// A list owns what it lists.
HEITU_EXPORT int aclDestroyTensorList(const TensorList* list) {
  for (const Tensor* tensor : list->values) delete tensor;
  return destroy(list);
}

HEITU_EXPORT int aclDestroyScalarList(const ScalarList* list) {
  for (const Scalar* scalar : list->values) delete scalar;
  return destroy(list);
}

}  // namespace heitu::cann
