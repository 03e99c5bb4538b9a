// Matrix products of float8 and int4 matrices with scales, in float.
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "../prelude.h"
#include "../registry.h"
#include "on_host.h"

namespace heitu {
namespace {

using at::ScalarType;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kScaleBlock = 128;

int64_t blocks(int64_t size) { return (size + kScaleBlock - 1) / kScaleBlock; }

bool is_float8(const Tensor& t) {
  return t.scalar_type() == at::kFloat8_e4m3fn || t.scalar_type() == at::kFloat8_e5m2;
}

bool given(const OptionalTensor& t) { return t.has_value() && t->defined(); }

// How a scale [rows, columns] is spread over a float8 matrix [outer, inner].
enum class Scaling { kTensor, kRow, kBlock1x128, kBlock128x128, kNone };

bool strided(const Tensor& t, int64_t dim, int64_t size, int64_t stride) {
  return t.size(dim) == size && (size <= 1 || t.stride(dim) == stride);
}

bool fits(Scaling scaling, const Tensor& matrix, const Tensor& scale) {
  if (!is_float8(matrix) || scale.scalar_type() != at::kFloat) return false;
  const int64_t outer = matrix.size(0), inner = matrix.size(1);
  if (scaling == Scaling::kTensor) return scale.numel() == 1;
  if (scale.dim() != 2) return false;
  switch (scaling) {
    case Scaling::kRow:
      return scale.size(0) == outer && scale.size(1) == 1 && scale.is_contiguous();
    case Scaling::kBlock1x128:
      return strided(scale, 0, outer, 1) && strided(scale, 1, blocks(inner), outer);
    case Scaling::kBlock128x128:
      return strided(scale, 0, blocks(outer), blocks(inner)) && strided(scale, 1, blocks(inner), 1);
    default:
      return false;
  }
}

struct Pair {
  Scaling a, b;
};

constexpr Pair kPairs[] = {{Scaling::kTensor, Scaling::kTensor},
                           {Scaling::kRow, Scaling::kRow},
                           {Scaling::kBlock128x128, Scaling::kBlock1x128},
                           {Scaling::kBlock1x128, Scaling::kBlock128x128},
                           {Scaling::kBlock1x128, Scaling::kBlock1x128}};

// `b` is the second factor, [inner, outer].
Pair find_scaling(const Tensor& a, const Tensor& b, const Tensor& scale_a, const Tensor& scale_b) {
  const Tensor transposed = b.t();
  for (const Pair& pair : kPairs) {
    if (fits(pair.a, a, scale_a) &&
        fits(pair.b, transposed, scale_b.dim() <= 2 ? scale_b.t() : scale_b)) {
      return pair;
    }
  }
  const int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  TORCH_CHECK(
      false,
      "Invalid scaling configuration.\n"
      "- For TensorWise scaling, a and b should be float8, scales should be float and singletons.\n"
      "- For RowWise scaling, a and b should be float8, scales should be float, scale_a should be "
      "(",
      m, ", 1) and scale_b should be (1, ", n, "), and both should be contiguous.\n",
      "- For BlockWise 1x128 scaling, a and b should be float8, scales should be float, scale_a "
      "should "
      "be (",
      m, ", ", blocks(k), ") and scale_b should be (", blocks(k), ", ", n,
      "), and both should be outer-dim-major.\n",
      "- For BlockWise 128x128 scaling, a and b should be float8, scales should be float, scale_a "
      "should be (",
      blocks(m), ", ", blocks(k), ") and scale_b should be (", blocks(k), ", ", blocks(n),
      "), and both should be near-inner-dim-major (with 16-byte aligned strides).\n",
      "Got a.dtype()=", a.scalar_type(), ", scale_a.dtype()=", scale_a.scalar_type(),
      ", scale_a.size()=", scale_a.sizes(), ", scale_a.stride()=", scale_a.strides(),
      ", b.dtype()=", b.scalar_type(), ", scale_b.dtype()=", scale_b.scalar_type(),
      ", scale_b.size()=", scale_b.sizes(), " and scale_b.stride()=", scale_b.strides());
}

// The matrix [outer, inner] in float, its block scales applied; others are cheaper on the result.
Tensor apply_blocks(Scaling scaling, const Tensor& matrix, const Tensor& scale) {
  const Tensor values = matrix.to(at::kFloat);
  if (scaling != Scaling::kBlock1x128 && scaling != Scaling::kBlock128x128) return values;
  Tensor factors = scale.repeat_interleave(kScaleBlock, 1).narrow(1, 0, matrix.size(1));
  if (scaling == Scaling::kBlock128x128) {
    factors = factors.repeat_interleave(kScaleBlock, 0).narrow(0, 0, matrix.size(0));
  }
  return values * factors;
}

void check_scaled(const Tensor& a, const Tensor& b, const OptionalTensor& bias,
                  const OptionalTensor& scale_result, ScalarType out_type) {
  TORCH_CHECK(!given(scale_result) ||
                  (scale_result->numel() == 1 && scale_result->scalar_type() == at::kFloat),
              "scale_result must be a float scalar");
  TORCH_CHECK(!given(bias) || bias->numel() == b.size(1), "Bias must be size ", b.size(1),
              " but got ", given(bias) ? bias->numel() : 0);
  TORCH_CHECK(a.size(1) % 16 == 0, "Expected trailing dimension of mat1 to be divisible by 16 ",
              "but got mat1 shape: (", a.size(0), "x", a.size(1), ").");
  TORCH_CHECK(b.size(0) % 16 == 0 && b.size(1) % 16 == 0, "mat2 shape (", b.size(0), "x", b.size(1),
              ") must be divisible by 16");
  TORCH_CHECK_VALUE(a.scalar_type() != at::kFloat8_e5m2 || b.scalar_type() != at::kFloat8_e5m2,
                    "Multiplication of two Float8_e5m2 matrices is not supported");
  if (given(bias)) {
    const ScalarType type = bias->scalar_type();
    TORCH_CHECK(out_type != at::kFloat, "Bias is not supported when out_dtype is set to Float32");
    TORCH_CHECK(is_reduced_float(type), "Bias must be BFloat16 or Half, but got ", type);
    TORCH_CHECK(out_type != at::kBFloat16 || type == at::kBFloat16,
                "Bias must be BFloat16 to compute ", out_type, " output, but got ", type);
    TORCH_CHECK(out_type != at::kHalf || type == at::kHalf, "Bias must be Float16 to compute ",
                out_type, " output, but got ", type);
  }
}

Tensor scaled_mm(const Tensor& a, const Tensor& b, const Tensor& scale_a, const Tensor& scale_b,
                 const OptionalTensor& bias, const OptionalTensor& scale_result,
                 std::optional<ScalarType> out_dtype, bool /*use_fast_accum*/) {
  TORCH_CHECK(a.dim() == 2, "mat1 must be a matrix");
  TORCH_CHECK(b.dim() == 2, "mat2 must be a matrix");
  TORCH_CHECK(a.size(1) == b.size(0), "mat1 and mat2 shapes cannot be multiplied (", a.size(0), "x",
              a.size(1), " and ", b.size(0), "x", b.size(1), ")");
  TORCH_CHECK(
      scale_a.scalar_type() == at::kFloat && scale_b.scalar_type() == at::kFloat,
      "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling cublasLtMatmul: scales of type ",
      scale_a.scalar_type(), " and ", scale_b.scalar_type(),
      " need a GPU of compute capability 10.0");
  const Pair scaling = find_scaling(a, b, scale_a, scale_b);
  const ScalarType out_type = out_dtype.value_or(a.scalar_type());
  check_scaled(a, b, bias, scale_result, out_type);
  const bool empty = a.numel() == 0 || b.numel() == 0;
  TORCH_CHECK(
      empty || (a.stride(1) == 1 && b.stride(0) == 1),
      "Only multiplication of row-major and column-major matrices is supported by cuBLASLt");
  const OnHost host(a);
  const Tensor first = host.view(scale_a), second = host.view(scale_b);
  Tensor result = at::mm(apply_blocks(scaling.a, host.view(a), first),
                         apply_blocks(scaling.b, host.view(b).t(), second.t()).t());
  if (scaling.a == Scaling::kTensor || scaling.a == Scaling::kRow) {
    result.mul_(scaling.a == Scaling::kTensor ? first.reshape({}) : first);
    result.mul_(scaling.a == Scaling::kTensor ? second.reshape({}) : second);
  }
  if (given(bias)) result.add_(host.view(bias));
  if (given(scale_result) && c10::isFloat8Type(out_type)) {
    result.mul_(host.view(scale_result).reshape({}));
  }
  return host.result(result.to(out_type));
}

Tensor& scaled_mm_out(const Tensor& a, const Tensor& b, const Tensor& scale_a,
                      const Tensor& scale_b, const OptionalTensor& bias,
                      const OptionalTensor& scale_result, std::optional<ScalarType> out_dtype,
                      bool use_fast_accum, Tensor& out) {
  TORCH_CHECK(!out_dtype || *out_dtype == out.scalar_type(),
              "out_dtype must match output matrix type");
  const Tensor result =
      scaled_mm(a, b, scale_a, scale_b, bias, scale_result, out.scalar_type(), use_fast_accum);
  out.resize_(result.sizes());
  return out.copy_(result);
}

// ---- groups: a 2D factor's rows or columns (or the common dimension) end where offs says ----

Tensor scaled_grouped_mm(const Tensor& a, const Tensor& b, const Tensor& scale_a,
                         const Tensor& scale_b, const OptionalTensor& offs,
                         const OptionalTensor& bias, const OptionalTensor& /*scale_result*/,
                         std::optional<ScalarType> out_dtype, bool /*use_fast_accum*/) {
  TORCH_CHECK(a.dim() == 2 || a.dim() == 3, "mat_a has to be 2 or 3d");
  TORCH_CHECK(b.dim() == 2 || b.dim() == 3, "mat_b has to be 2 or 3d");
  TORCH_CHECK(is_float8(a) && is_float8(b), "Expected inputs of float8 type, got ", a.scalar_type(),
              " and ", b.scalar_type());
  TORCH_CHECK(!given(bias), "Bias not supported yet");
  const ScalarType type = out_dtype.value_or(at::kBFloat16);
  TORCH_CHECK(type == at::kBFloat16,
              "Only bf16 high precision output types are supported for grouped gemm");
  const bool flat_a = a.dim() == 2, flat_b = b.dim() == 2;
  TORCH_CHECK(
      (flat_a || flat_b) == given(offs),
      "Have to provide offsets if there is a 2d matrix, or no offset if both matrices are 3d");
  TORCH_CHECK(a.size(-1) == b.size(-2) || (flat_a && flat_b && a.size(1) == b.size(0)),
              "contraction dimension of mat_a and mat_b must match");
  const OnHost host(a);
  const Tensor x = host.view(a), y = host.view(b), sx = host.view(scale_a), sy = host.view(scale_b);
  std::vector<int64_t> ends;
  const int64_t groups = given(offs) ? offs->numel() : a.size(0);
  if (given(offs)) {
    const Tensor bounds = host.view(offs);
    for (int64_t g = 0; g < groups; ++g) ends.push_back(bounds[g].item<int64_t>());
  }
  const int64_t m = a.size(-2), n = b.size(-1);
  std::vector<int64_t> shape{m, n};
  if (flat_a == flat_b) shape.insert(shape.begin(), groups);
  const Tensor out = at::zeros(shape, x.options().dtype(type));
  for (int64_t g = 0, start = 0; g < groups; ++g) {
    const int64_t length = given(offs) ? ends[g] - start : 0;
    // Along rows of a, columns of b, or the dimension both share.
    const bool common = flat_a && flat_b;
    const Tensor left = !flat_a ? x[g] : x.narrow(common ? 1 : 0, start, length);
    const Tensor right = !flat_b ? y[g] : y.narrow(common ? 0 : 1, start, length);
    const Tensor row_scale = !flat_a  ? sx[g]
                             : common ? sx.narrow(0, g * m, m)
                                      : sx.narrow(0, start, length);
    const Tensor column_scale = !flat_b  ? sy[g]
                                : common ? sy.narrow(0, g * n, n)
                                         : sy.narrow(0, start, length);
    const Tensor product = at::mm(left.to(at::kFloat), right.to(at::kFloat))
                               .mul_(row_scale.unsqueeze(1))
                               .mul_(column_scale.unsqueeze(0));
    const Tensor place = flat_a == flat_b ? out[g]
                         : flat_a         ? out.narrow(0, start, length)
                                          : out.narrow(1, start, length);
    place.copy_(product);
    start += length;
  }
  return host.result(out);
}

// ---- int4 weights, packed as the tensor cores' m16n8k16 tiles want them ----

constexpr int64_t kRowTile = 8, kInnerTile = 16, kLanes = 32;

// Where the int32 of a lane takes its four bytes (of two values each) from, relative to the first
// byte of a pair of tiles in a row of [n, k / 2].
constexpr int64_t byte_of(int64_t lane, int64_t i) { return lane % 4 + 4 * i; }

Tensor convert_to_int4pack(const Tensor& self, int64_t inner_tiles) {
  TORCH_CHECK(self.dim() == 2 && self.scalar_type() == at::kByte && self.is_contiguous(),
              "_convert_weight_to_int4pack: expected a contiguous uint8 matrix [n, k / 2]");
  TORCH_CHECK(inner_tiles == 2 || inner_tiles == 4 || inner_tiles == 8,
              "innerKTiles must be 2, 4 or 8, got ", inner_tiles);
  const int64_t n = self.size(0), bytes = self.size(1), step = inner_tiles * kInnerTile / 2;
  TORCH_CHECK(bytes % step == 0, "k must be a multiple of ", 2 * step, ", got ", 2 * bytes);
  const OnHost host(self);
  const Tensor out =
      at::empty({(n + kRowTile - 1) / kRowTile, bytes / step, kLanes, inner_tiles / 2},
                host.view(self).options().dtype(at::kInt));
  const uint8_t* in = static_cast<const uint8_t*>(self.data_ptr());
  int32_t* packed = out.data_ptr<int32_t>();
  for (int64_t row_tile = 0; row_tile < out.size(0); ++row_tile) {
    for (int64_t outer = 0; outer < out.size(1); ++outer) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const int64_t row = row_tile * kRowTile + lane / 4;
        for (int64_t pair = 0; pair < inner_tiles / 2; ++pair) {
          uint32_t word = 0;
          for (int64_t i = 0; row < n && i < 4; ++i) {
            const uint32_t byte =
                in[row * bytes + outer * step + pair * kInnerTile + byte_of(lane, i)];
            word |= (byte >> 4) << (4 * i) | (byte & 0xF) << (16 + 4 * i);
          }
          *packed++ = static_cast<int32_t>(word);
        }
      }
    }
  }
  return host.result(out);
}

// The values 0 ... 15 of a packed weight as float [n, k].
Tensor unpack_int4(const Tensor& packed) {
  const int64_t pairs = packed.size(3), row_tiles = packed.size(0), outers = packed.size(1);
  const int64_t n = row_tiles * kRowTile, k = outers * pairs * 2 * kInnerTile;
  const Tensor out = at::empty({n, k}, packed.options().dtype(at::kFloat));
  const int32_t* words = packed.data_ptr<int32_t>();
  float* values = out.data_ptr<float>();
  for (int64_t row_tile = 0; row_tile < row_tiles; ++row_tile) {
    for (int64_t outer = 0; outer < outers; ++outer) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        for (int64_t pair = 0; pair < pairs; ++pair) {
          const uint32_t word = static_cast<uint32_t>(*words++);
          float* row = values + (row_tile * kRowTile + lane / 4) * k +
                       (outer * pairs + pair) * 2 * kInnerTile;
          for (int64_t i = 0; i < 4; ++i) {
            row[2 * byte_of(lane, i)] = static_cast<float>(word >> (4 * i) & 0xF);
            row[2 * byte_of(lane, i) + 1] = static_cast<float>(word >> (16 + 4 * i) & 0xF);
          }
        }
      }
    }
  }
  return out;
}

Tensor int4pack_mm(const Tensor& self, const Tensor& weight, int64_t group,
                   const Tensor& scale_and_zeros) {
  TORCH_CHECK(self.dim() == 2 && self.is_contiguous() && self.scalar_type() == at::kBFloat16,
              "_weight_int4pack_mm: expected A to be a contiguous bfloat16 matrix");
  TORCH_CHECK(weight.dim() == 4 && weight.is_contiguous() && weight.scalar_type() == at::kInt &&
                  weight.size(2) == kLanes,
              "_weight_int4pack_mm: expected B from _convert_weight_to_int4pack");
  const int64_t n = weight.size(0) * kRowTile, k = self.size(1);
  TORCH_CHECK(weight.size(1) * weight.size(3) * 2 * kInnerTile == k, "_weight_int4pack_mm: A has ",
              k, " columns, B is packed for ", weight.size(1) * weight.size(3) * 2 * kInnerTile);
  TORCH_CHECK(group == 32 || group == 64 || group == 128 || group == 256,
              "qGroupSize must be 32, 64, 128 or 256, got ", group);
  TORCH_CHECK(scale_and_zeros.dim() == 3 && scale_and_zeros.size(1) == n &&
                  scale_and_zeros.size(2) == 2 && scale_and_zeros.size(0) * group == k,
              "_weight_int4pack_mm: expected scales and zeros [k / ", group, ", ", n, ", 2], got ",
              scale_and_zeros.sizes());
  const OnHost host(self);
  const Tensor levels = unpack_int4(host.view(weight)).sub_(8).view({n, k / group, group});
  const Tensor parameters = host.view(scale_and_zeros).to(at::kFloat).transpose(0, 1);
  // The GPU has the weight in bfloat16 before it multiplies.
  const Tensor values = levels.mul_(parameters.select(2, 0).unsqueeze(-1))
                            .add_(parameters.select(2, 1).unsqueeze(-1))
                            .to(at::kBFloat16)
                            .view({n, k});
  return host.result(
      at::mm(host.view(self).to(at::kFloat), values.to(at::kFloat).t()).to(at::kBFloat16));
}

HEITU_KERNELS(scaled_products) {
  m.impl("_scaled_mm", scaled_mm);
  m.impl("_scaled_mm.out", scaled_mm_out);
  m.impl("_scaled_grouped_mm", scaled_grouped_mm);
  m.impl("_convert_weight_to_int4pack", convert_to_int4pack);
  m.impl("_weight_int4pack_mm", int4pack_mm);
}

}  // namespace
}  // namespace heitu
