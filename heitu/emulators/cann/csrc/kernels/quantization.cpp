// Quantization, and products of quantized matrices.
#include <ATen/ATen.h>

#include <bit>

#include "operators.h"

namespace heitu::cann {
namespace {

constexpr int64_t kNibbles = 8;  // four-bit numbers in an int32
// What the unit that scales products keeps of a float32.
constexpr int64_t kScaleBits = 0xFFFFE000;
constexpr int64_t kParameterMark = int64_t{1} << 46;
constexpr int kOffsetShift = 37;
constexpr int64_t kOffsetMask = 0x1FF;

std::pair<double, double> limits(at::ScalarType type) {
  switch (type) {
    case at::kChar:
      return {-128, 127};
    case at::kByte:
      return {0, 255};
    case at::kInt:
      return {-2147483648.0, 2147483647.0};
    default:
      throw std::runtime_error("quantizing to this element type is not emulated");
  }
}

at::Tensor as_whole(const at::Tensor& values, at::ScalarType type) {
  const auto [least, most] = limits(type);
  return at::round(values).clamp(least, most).to(type);
}

// Eight signed numbers of four bits from each int32, the lowest first.
at::Tensor nibbles(const at::Tensor& words) {
  const auto shifts = at::arange(0, 4 * kNibbles, 4, words.options());
  const auto low = at::bitwise_and(at::bitwise_right_shift(words.unsqueeze(-1), shifts), 15);
  return at::where(low > 7, low - 16, low).flatten(-2).to(at::kFloat);
}

// A scale as the chip's products take it: floats, or words with scale and offset packed.
std::pair<at::Tensor, at::Tensor> unpacked_scale(const at::Tensor& scale) {
  if (scale.is_floating_point()) return {scale.to(at::kFloat), {}};
  const auto words = scale.contiguous().view(at::kLong);
  const auto bits = at::bitwise_and(words, int64_t{0xFFFFFFFF});
  const auto signed_bits =
      at::where(bits > INT32_MAX, bits - (int64_t{1} << 32), bits).to(at::kInt);
  auto offset = at::bitwise_and(at::bitwise_right_shift(words, kOffsetShift), kOffsetMask);
  offset = at::where(offset > kOffsetMask / 2, offset - kOffsetMask - 1, offset);
  return {signed_bits.view(at::kFloat), offset.to(at::kFloat)};
}

at::Tensor oriented(const at::Tensor& x, bool transposed) {
  return transposed ? x.transpose(-2, -1) : x;
}

}  // namespace

HEITU_KERNEL(ascend_quant) {
  auto scale = call.tensor(1).to(at::kFloat);
  if (call.flag(3)) scale = scale * scale;
  auto y = call.tensor(0).to(at::kFloat) * scale;
  if (call.has(2)) y = y + call.tensor(2).to(at::kFloat);
  const auto out = call.index("out");
  call.put(out, as_whole(y, call.tensor(out).scalar_type()));
}

HEITU_KERNEL(ascend_anti_quant) {
  auto scale = call.tensor(1).to(at::kFloat);
  if (call.flag(4)) scale = scale * scale;
  auto x = call.tensor(0).to(at::kFloat);
  if (call.has(2)) x = x + call.tensor(2).to(at::kFloat);
  call.put(5, x * scale);
}

HEITU_KERNEL(quantize) {
  const auto x = call.tensor(0).to(at::kFloat);
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[static_cast<size_t>(at::maybe_wrap_dim(call.integer(4), x.dim()))] = -1;
  const auto wide = [&](const at::Tensor& per) {
    return per.numel() == 1 ? per.to(at::kFloat) : per.to(at::kFloat).reshape(shape);
  };
  auto y = at::round(x / wide(call.tensor(1)));
  if (call.has(2)) y = y + wide(call.tensor(2));
  call.put(5, as_whole(y, call.tensor(5).scalar_type()));
}

HEITU_KERNEL(dynamic_quant) {
  auto x = call.tensor(0).to(at::kFloat);
  if (call.has(1)) x = x * call.tensor(1).to(at::kFloat);
  if (call.has(call.index("group_index"))) throw std::runtime_error("groups are not emulated");
  const auto mode = call.index("mode");
  if (call.has(mode) && call.text(mode) != "pertoken") {
    throw std::runtime_error("quantizing " + call.text(mode) + " is not emulated");
  }
  const auto out = call.index("out"), scales = call.index("scale"), offsets = call.index("offset");
  if (call.has(offsets)) {
    const auto most = x.amax(-1, true), least = x.amin(-1, true);
    const auto scale = (most - least) / 255;
    const auto offset = 127 - most / scale;
    call.put(out, as_whole(x / scale + offset, at::kChar));
    call.put(scales, scale);
    call.put(offsets, offset);
    return;
  }
  const auto scale = x.abs().amax(-1, true) / 127;
  call.put(out, as_whole(x / at::where(scale == 0, at::ones_like(scale), scale), at::kChar));
  call.put(scales, scale);
}

HEITU_KERNEL(fake_quantize_tensor) {
  const auto enabled = at::full({1}, call.real(3) != 0 ? 1 : 0, at::kLong);
  const auto [out, mask] = at::_fake_quantize_per_tensor_affine_cachemask_tensor_qparams(
      call.tensor(0), call.tensor(1).to(at::kFloat), call.tensor(2).to(at::kInt), enabled,
      call.integer(4), call.integer(5));
  call.put(6, out);
  call.put(7, mask);
}

HEITU_KERNEL(fake_quantize_channel) {
  const auto [out, mask] = at::fake_quantize_per_channel_affine_cachemask(
      call.tensor(0), call.tensor(1).to(at::kFloat), call.tensor(2).to(at::kInt), call.integer(3),
      call.integer(4), call.integer(5));
  call.put(6, out);
  call.put(7, mask);
}

HEITU_KERNEL(trans_quant_param) {
  const auto scale = call.tensor(0).contiguous();
  const auto round = call.index("round");
  auto bits = scale.view(at::kInt).to(at::kLong);
  if (call.has(round) && call.integer(round) == 1) bits = bits + (kScaleBits & -kScaleBits) / 2;
  auto words = at::bitwise_and(bits, kScaleBits);
  if (call.has(1)) {
    const auto offset = at::bitwise_and(at::round(call.tensor(1)).to(at::kLong), kOffsetMask);
    words = at::bitwise_or(words, at::bitwise_left_shift(offset, kOffsetShift));
  }
  const auto out = call.index("out");
  call.put(out, at::bitwise_or(words, kParameterMark).view(call.tensor(out).scalar_type()));
}

HEITU_KERNEL(quant_matmul) {
  const auto given = [&](const char* name) { return call.tensor(call.index(name)); };
  const auto x1 = oriented(given("x1"), call.flag(call.index("transpose1"))),
             x2 = oriented(given("x2"), call.flag(call.index("transpose2")));
  if (x1.scalar_type() != at::kChar || x2.scalar_type() != at::kChar) {
    throw std::runtime_error("products of other types than int8 are not emulated");
  }
  // Sums of products of int8 are exact in float64.
  auto y = at::matmul(x1.to(at::kDouble), x2.to(at::kDouble));
  const auto bias = given("bias");
  if (bias.defined() && bias.scalar_type() == at::kInt) y = y + bias;
  const auto [scale, packed_offset] = unpacked_scale(given("x2_scale"));
  y = y * scale;
  const auto x1_scale = given("x1_scale");
  if (x1_scale.defined()) y = y * x1_scale.to(at::kFloat).unsqueeze(-1);
  if (bias.defined() && bias.scalar_type() != at::kInt) y = y + bias;
  const auto out = call.index("out");
  if (call.tensor(out).scalar_type() != at::kChar) {
    call.put(out, y);
    return;
  }
  const auto x2_offset = given("x2_offset");
  if (x2_offset.defined() && x2_offset.numel() > 0) {
    y = y + x2_offset;
  } else if (packed_offset.defined()) {
    y = y + packed_offset;
  }
  call.put(out, as_whole(y, at::kChar));
}

HEITU_KERNEL(weight_quant_matmul) {
  const auto x = call.tensor(0).to(at::kFloat);
  auto weight = call.tensor(1);
  weight = weight.scalar_type() == at::kInt ? nibbles(weight) : weight.to(at::kFloat);
  const auto per =
      [&](size_t index) {  // one number for all, a column, or a group of rows of each column
        const auto values = call.tensor(index).to(at::kFloat);
        const bool grouped =
            values.dim() == 2 && values.size(0) > 1 && values.size(0) != weight.size(-2);
        return grouped ? values.repeat_interleave(weight.size(-2) / values.size(0), 0) : values;
      };
  if (call.has(3)) weight = weight + per(3);
  weight = weight * per(2);
  auto y = at::matmul(x, weight);
  if (call.has(6)) y = y + call.tensor(6).to(at::kFloat);
  const auto out = call.index("out");
  if (call.has(4)) {
    const auto [scale, offset] = unpacked_scale(call.tensor(4));
    y = y * scale;
    if (call.has(5)) y = y + call.tensor(5).to(at::kFloat);
    y = as_whole(y, call.tensor(out).scalar_type());
  }
  call.put(out, y);
}

}  // namespace heitu::cann
