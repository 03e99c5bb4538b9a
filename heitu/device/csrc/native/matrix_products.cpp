// Matrix products that only CUDA has: another type for the result, and int8 with its size limits.
#include <ATen/ops/_int_mm.h>
#include <ATen/ops/matmul.h>

#include "../prelude.h"
#include "../registry.h"
#include "on_host.h"

namespace heitu {
namespace {

using at::Scalar;
using at::ScalarType;
using at::Tensor;

void check_out_dtype(const Tensor& a, const Tensor& b, ScalarType type) {
  TORCH_CHECK(a.scalar_type() == b.scalar_type(),
              "expected m1 and m2 to have the same dtype, but got: ", a.scalar_type(),
              " != ", b.scalar_type());
  TORCH_CHECK(type == a.scalar_type() || (type == at::kFloat && is_reduced_float(a.scalar_type())),
              "out_dtype must be the same as input dtype or fp32 for fp16/bf16 inputs");
}

void check_out(const Tensor& out, ScalarType type) {
  TORCH_CHECK(out.scalar_type() == type,
              "out_dtype must be the same as the dtype of the provided out tensor");
}

// Products of half types are exact in float, so only the sum is rounded.
Tensor product(const Tensor& a, const Tensor& b, ScalarType type) {
  return at::matmul(a.to(type), b.to(type));
}

Tensor scaled_sum(const Tensor& self, const Tensor& a, const Tensor& b, ScalarType type,
                  const Scalar& beta, const Scalar& alpha) {
  Tensor result = product(a, b, type).mul_(alpha);
  TORCH_CHECK(self.scalar_type() == type || self.scalar_type() == a.scalar_type(),
              "self dtype must match either out_dtype or mat1 dtype");
  // beta == 0: what is in self, NaN included, does not matter.
  if (beta.toDouble() != 0) result.add_(self, beta);
  return result;
}

Tensor typed_mm(const Tensor& self, const Tensor& mat2, ScalarType type) {
  TORCH_CHECK(self.dim() == 2, "self must be a matrix");
  TORCH_CHECK(mat2.dim() == 2, "mat2 must be a matrix");
  TORCH_CHECK(self.size(1) == mat2.size(0), "mat1 and mat2 shapes cannot be multiplied (",
              self.size(0), "x", self.size(1), " and ", mat2.size(0), "x", mat2.size(1), ")");
  check_out_dtype(self, mat2, type);
  const OnHost host(self);
  return host.result(product(host.view(self), host.view(mat2), type));
}

Tensor typed_bmm(const Tensor& self, const Tensor& mat2, ScalarType type) {
  TORCH_CHECK(self.dim() == 3, "batch1 must be a 3D tensor");
  TORCH_CHECK(mat2.dim() == 3, "batch2 must be a 3D tensor");
  const std::vector<int64_t> expected{self.size(0), self.size(2)};
  TORCH_CHECK(mat2.sizes().slice(0, 2) == at::IntArrayRef(expected),
              "Expected size for first two dimensions of batch2 tensor to be: [", expected[0], ", ",
              expected[1], "] but got: [", mat2.size(0), ", ", mat2.size(1), "].");
  check_out_dtype(self, mat2, type);
  const OnHost host(self);
  return host.result(product(host.view(self), host.view(mat2), type));
}

Tensor typed_addmm(const Tensor& self, const Tensor& mat1, const Tensor& mat2, ScalarType type,
                   const Scalar& beta, const Scalar& alpha) {
  TORCH_CHECK(mat1.dim() == 2 && mat2.dim() == 2 && mat1.size(1) == mat2.size(0),
              "mat1 and mat2 shapes cannot be multiplied (", mat1.sizes(), " and ", mat2.sizes(),
              ")");
  check_out_dtype(mat1, mat2, type);
  const OnHost host(mat1);
  return host.result(
      scaled_sum(host.view(self), host.view(mat1), host.view(mat2), type, beta, alpha));
}

Tensor typed_baddbmm(const Tensor& self, const Tensor& batch1, const Tensor& batch2,
                     ScalarType type, const Scalar& beta, const Scalar& alpha) {
  TORCH_CHECK(batch1.dim() == 3, "batch1 must be a 3D tensor");
  TORCH_CHECK(batch2.dim() == 3, "batch2 must be a 3D tensor");
  check_out_dtype(batch1, batch2, type);
  const OnHost host(batch1);
  return host.result(
      scaled_sum(host.view(self), host.view(batch1), host.view(batch2), type, beta, alpha));
}

Tensor& store(const Tensor& result, Tensor& out) {
  out.resize_(result.sizes());
  return out.copy_(result);
}

Tensor& typed_mm_out(const Tensor& self, const Tensor& mat2, ScalarType type, Tensor& out) {
  check_out(out, type);
  return store(typed_mm(self, mat2, type), out);
}

Tensor& typed_bmm_out(const Tensor& self, const Tensor& mat2, ScalarType type, Tensor& out) {
  check_out(out, type);
  return store(typed_bmm(self, mat2, type), out);
}

Tensor& typed_addmm_out(const Tensor& self, const Tensor& mat1, const Tensor& mat2, ScalarType type,
                        const Scalar& beta, const Scalar& alpha, Tensor& out) {
  check_out(out, type);
  return store(typed_addmm(self, mat1, mat2, type, beta, alpha), out);
}

Tensor& typed_baddbmm_out(const Tensor& self, const Tensor& batch1, const Tensor& batch2,
                          ScalarType type, const Scalar& beta, const Scalar& alpha, Tensor& out) {
  check_out(out, type);
  return store(typed_baddbmm(self, batch1, batch2, type, beta, alpha), out);
}

// cuBLAS takes int8 matrices only in multiples of 8.
Tensor int_mm(const Tensor& self, const Tensor& mat2) {
  TORCH_CHECK(self.dim() == 2, "Expected self to be of dimension 2 but got ", self.dim());
  TORCH_CHECK(mat2.dim() == 2, "Expected mat2 to be of dimension 2 but got ", mat2.dim());
  TORCH_CHECK(self.size(0) > 16, "self.size(0) needs to be greater than 16, but got ",
              self.size(0));
  TORCH_CHECK(self.size(1) > 0 && self.size(1) % 8 == 0,
              "self.size(1) needs to be greater than 0 and a multiple of 8, but got ",
              self.size(1));
  TORCH_CHECK(self.size(1) == mat2.size(0), "self.size(1) needs to match mat2.size(0) but got ",
              self.size(1), " and ", mat2.size(0));
  TORCH_CHECK(mat2.size(1) > 0 && mat2.size(1) % 8 == 0,
              "mat2.size(1) needs to be greater than 0 and a multiple of 8, but got ",
              mat2.size(1));
  const OnHost host(self);
  return host.result(at::_int_mm(host.view(self), host.view(mat2)));
}

Tensor& int_mm_out(const Tensor& self, const Tensor& mat2, Tensor& out) {
  return store(int_mm(self, mat2), out);
}

HEITU_KERNELS(matrix_products) {
  m.impl("_int_mm", int_mm);
  m.impl("_int_mm.out", int_mm_out);
  m.impl("mm.dtype", typed_mm);
  m.impl("mm.dtype_out", typed_mm_out);
  m.impl("bmm.dtype", typed_bmm);
  m.impl("bmm.dtype_out", typed_bmm_out);
  m.impl("addmm.dtype", typed_addmm);
  m.impl("addmm.dtype_out", typed_addmm_out);
  m.impl("baddbmm.dtype", typed_baddbmm);
  m.impl("baddbmm.dtype_out", typed_baddbmm_out);
}

}  // namespace
}  // namespace heitu
