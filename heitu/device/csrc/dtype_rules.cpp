#include "dtype_rules.h"

#include <ATen/native/TypeProperties.h>

#include <string>
#include <unordered_map>

#include "tensors.h"

namespace heitu {

using c10::ScalarType;

namespace {

constexpr uint64_t bit(ScalarType type) { return uint64_t{1} << static_cast<int>(type); }

constexpr uint64_t kIntegers = bit(ScalarType::Byte) | bit(ScalarType::Char) |
                               bit(ScalarType::Short) | bit(ScalarType::Int) |
                               bit(ScalarType::Long);
constexpr uint64_t kBool = bit(ScalarType::Bool);
constexpr uint64_t kHalf = bit(ScalarType::Half), kBFloat16 = bit(ScalarType::BFloat16);
constexpr uint64_t kFloating = bit(ScalarType::Float) | bit(ScalarType::Double);
constexpr uint64_t kComplex = bit(ScalarType::ComplexFloat) | bit(ScalarType::ComplexDouble);
constexpr uint64_t kComplexHalf = bit(ScalarType::ComplexHalf);
// Of other dtypes (float8, bits, quantized) the rules say nothing.
constexpr uint64_t kAll =
    kIntegers | kBool | kHalf | kBFloat16 | kFloating | kComplex | kComplexHalf;
// The float8 of other makers' chips.
constexpr uint64_t kFloat8Fnuz =
    bit(ScalarType::Float8_e4m3fnuz) | bit(ScalarType::Float8_e5m2fnuz);
constexpr uint64_t kReal = kFloating | kHalf | kBFloat16;

// The dtypes that CUDA's kernel of an operator is compiled for, where the CPU's takes more. The
// rule holds for all overloads, in-place and out= too. From the AT_DISPATCH macros in
// aten/src/ATen/native/cuda of PyTorch 2.6 and the dtypes that OpInfo of PyTorch 2.13 declares.
struct Compiled {
  const char* op;
  const char* argument;  // whose dtype decides; null: the common one
  uint64_t dtypes;
  const char* text;
  const char* unless = nullptr;  // holds for all calls but those with this word
  const char* when = nullptr;    // holds for calls with this word
};
constexpr Compiled kCompiled[] = {
    {"mm", "self", kReal | kComplex, "addmm_cuda"},
    {"addmm", "mat1", kReal | kComplex, "addmm_cuda"},
    {"_addmm_activation", "mat1", kReal | kComplex, "addmm_cuda"},
    {"addbmm", "batch1", kReal | kComplex, "addmm_cuda"},
    {"bmm", "self", kReal | kComplex, "baddbmm_cuda"},
    {"baddbmm", "batch1", kReal | kComplex, "baddbmm_cuda"},
    {"addmv", "mat", kReal | kComplex, "addmv_impl_cuda"},
    {"dot", "self", kReal | kComplex, "dot"},
    {"vdot", "self", kReal | kComplex, "dot"},
    {"convolution", "input", kReal | kComplex | kComplexHalf,
     "getCudnnDataTypeFromScalarType() not supported for {}"},
    {"convolution_backward", "grad_output", kReal | kComplex | kComplexHalf,
     "getCudnnDataTypeFromScalarType() not supported for {}"},
    {"avg_pool2d", "self", kReal, "avg_pool2d_out_cuda_frame"},
    {"avg_pool3d", "self", kReal, "avg_pool3d_out_cuda"},
    {"max_pool2d_with_indices", "self", kReal, "max_pool2d_with_indices_out_cuda_frame"},
    {"max_pool3d_with_indices", "self", kReal, "max_pool3d_with_indices_out_frame"},
    {"upsample_bilinear2d", "self", kReal, "upsample_bilinear2d_out_frame"},
    {"_upsample_bilinear2d_aa", "self", kReal, "upsample_bilinear2d_out_frame"},
    {"upsample_bicubic2d", "self", kReal, "upsample_bicubic2d_out_frame"},
    {"_upsample_bicubic2d_aa", "self", kReal, "upsample_bilinear2d_out_frame"},
    {"igamma", nullptr, kFloating, "igamma_cuda"},
    {"igammac", nullptr, kFloating, "igammac_cuda"},
    {"angle", "self", kAll & ~(kHalf | kBFloat16), "angle_cuda"},
    {"histc", "self", kFloating | kIntegers, "histc"},
    {"linalg_vector_norm", "self", kAll & ~kComplexHalf, "norm_cuda"},
    {"native_dropout_backward", "grad_output", kReal, "masked_scale"},
    {"_scaled_mm", "self", kAll, "Cannot convert ScalarType {} to cudaDataType."},
    {"_scaled_mm_v2", "self", kAll, "Cannot convert ScalarType {} to cudaDataType."},
    {"scatter_reduce", "self", kAll & ~kBool, "cuda_scatter_gather_base_kernel_func", "sum"},
    {"scatter", "self", kReal | kIntegers, "cuda_scatter_gather_base_kernel_func", nullptr,
     "multiply"},
};

// Dtypes that CUDA's kernel takes and the CPU's does not.
struct Promoted {
  uint64_t dtypes;
  std::initializer_list<const char*> ops;
};
const Promoted kPromoted[] = {
    {kComplexHalf,
     {"acos",
      "acosh",
      "asin",
      "asinh",
      "atan",
      "atanh",
      "cos",
      "cosh",
      "div",
      "exp",
      "log",
      "pow",
      "logaddexp",
      "rsqrt",
      "sqrt",
      "sin",
      "sinh",
      "tan",
      "tanh",
      "lerp",
      "angle",
      "sigmoid",
      "prod",
      "sum",
      "trace",
      "tanh_backward",
      "sigmoid_backward",
      "convolution",
      "convolution_backward",
      "diagonal_backward",
      "reciprocal",
      "abs",
      "sgn",
      "cumprod",
      "index_put",
      "masked_scatter",
      "where",
      "cumsum"}},
    {kHalf | kBFloat16,
     {"avg_pool3d", "avg_pool3d_backward", "_upsample_bilinear2d_aa",
      "_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa",
      "_upsample_bicubic2d_aa_backward", "multi_margin_loss", "multi_margin_loss_backward",
      "multilabel_margin_loss_forward", "multilabel_margin_loss_backward"}},
    {kHalf, {"rrelu_with_noise", "rrelu_with_noise_backward", "round", "polygamma"}},
    {kBool, {"abs", "trace"}},
};

// Operators that PyTorch compiles for the CPU alone (native_functions.yaml).
constexpr const char* kAbsent[] = {
    "histogram",
    "_histogramdd_bin_edges",
    "_histogramdd_from_bin_cts",
    "_histogramdd_from_bin_tensors",
    "_add_relu",
    "_spdiags",
    "narrow_copy",  // CUDA: narrow, then clone
    "_sparse_mm_reduce_impl",
    "_sparse_mm_reduce_impl_backward",
    "to_mkldnn",
    "mkldnn_rnn_layer",
    "mkldnn_rnn_layer_backward",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    "_weight_int4pack_mm_for_cpu",
    "_convert_weight_to_int4pack_for_cpu",
};

// Operators whose CUDA kernels index by cuda::detail::TensorInfo, which takes fewer than 25
// dimensions.
constexpr const char* kTensorInfo[] = {"median", "nanmedian"};

}  // namespace

struct DtypeTable {
  DtypeTable() {
    for (const auto& row : kCompiled) {
      auto& rule = rules[row.op];
      rule.argument_ = row.argument;
      rule.text_ = row.text;
      rule.unless_ = row.unless;
      rule.when_ = row.when;
      rule.refused_ = (kAll | kFloat8Fnuz) & ~row.dtypes;
    }
    for (const auto& group : kPromoted)
      for (const char* op : group.ops) rules[op].promoted_ |= group.dtypes;
    for (const char* op : kAbsent) rules[op].absent_ = true;
    for (const char* op : kTensorInfo) rules[op].dims_ = 25;
  }
  std::unordered_map<std::string, DtypeRule> rules;
};

const DtypeRule* DtypeRule::of(const c10::OperatorHandle& op) {
  static const auto* table = new DtypeTable;
  const auto& full = op.operator_name().name;
  if (full.rfind("aten::", 0) != 0) return nullptr;
  auto name = full.substr(6);
  auto found = table->rules.find(name);
  if (found == table->rules.end() && name.back() == '_') {
    name.pop_back();
    found = table->rules.find(name);
  }
  return found == table->rules.end() ? nullptr : &found->second;
}

void DtypeRule::check(const c10::OperatorHandle& op, c10::ArrayRef<c10::IValue> arguments) const {
  if (refused_ == 0 && dims_ == kAnyDims) return;
  at::native::ResultTypeState state;
  auto type = ScalarType::Undefined;
  bool holds = when_ == nullptr;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto& value = arguments[i];
    if (value.isString()) {
      if (unless_ && value.toStringRef() == unless_) return;
      holds = holds || value.toStringRef() == when_;
    }
    if (!value.isTensor() || !value.toTensor().defined()) continue;
    const auto& tensor = value.toTensor();
    const auto& argument = op.schema().arguments()[i];
    if (argument.is_out()) continue;
    TORCH_CHECK(tensor.dim() < dims_, "CUDA Tensors cannot have more than ", dims_, " dimensions");
    // Of nothing, CUDA gives nothing before it looks for a kernel, but in TensorIterator.
    if (argument_ && tensor.numel() == 0) return;
    if (!argument_) {
      state = at::native::update_result_type_state(tensor, state);
    } else if (argument.name() == argument_) {
      type = tensor.scalar_type();
    }
  }
  if (!holds) return;
  if (!argument_) type = at::native::result_type(state);
  if (type == ScalarType::Undefined || static_cast<int>(type) > 63) return;
  if ((refused_ & bit(type)) == 0) return;
  std::string text = text_;
  if (const auto hole = text.find("{}"); hole != std::string::npos) {
    text.replace(hole, 2, c10::toString(type));
    TORCH_CHECK(false, text);
  }
  TORCH_CHECK_NOT_IMPLEMENTED(false, '"', text, "\" not implemented for '", c10::toString(type),
                              "'");
}

ScalarType DtypeRule::narrow(c10::ArrayRef<c10::IValue> arguments) const {
  uint64_t seen = 0;
  each_tensor(arguments, [&](const at::Tensor& tensor) {
    if (static_cast<int>(tensor.scalar_type()) < 64) seen |= bit(tensor.scalar_type());
  });
  seen &= promoted_;
  for (const auto type :
       {ScalarType::ComplexHalf, ScalarType::Half, ScalarType::BFloat16, ScalarType::Bool}) {
    if (seen & bit(type)) return type;
  }
  return ScalarType::Undefined;
}

void raise_absent(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  // A backend that is never there: the dispatcher says so, in its own words.
  std::string text;
  try {
    auto copy = stack;
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::XPU), &copy);
  } catch (const c10::NotImplementedError& error) {
    text = error.what_without_backtrace();
  }
  for (size_t at = 0; (at = text.find("'XPU'", at)) != std::string::npos;)
    text.replace(at, 5, "'CUDA'");
  TORCH_CHECK_NOT_IMPLEMENTED(false, text);
}

}  // namespace heitu
