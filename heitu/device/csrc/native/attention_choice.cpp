// Which kernel scaled_dot_product_attention takes: CUDA's rules, so that sdpa_kernel() and its
// refusals behave. What the fused kernels share is asked of PyTorch itself.
#include "attention_choice.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>

#include <array>
#include <cmath>

#include "../prelude.h"
#include "../properties.h"
#include "../registry.h"
#include "../rules.h"

namespace heitu {
namespace {

using at::Tensor;
using sdp::sdp_params;
using sdp::SDPBackend;
using Check = bool (*)(const sdp_params&, bool);

template <size_t count>
bool all(const std::array<Check, count>& checks, const sdp_params& params, bool debug) {
  return std::all_of(checks.begin(), checks.end(),
                     [&](Check check) { return check(params, debug); });
}

const DeviceProperties& device_of(const sdp_params& params) {
  return properties(params.query.device().index());
}

long cudnn_version() {
#if HEITU_TORCH_AT_LEAST(2, 11)
  return at::detail::getCUDAHooks().versionRuntimeCuDNN();
#else
  return at::detail::getCUDAHooks().versionCuDNN();
#endif
}

// cuDNN comes first where its attention is the fastest one: 9.15.1 and later on Hopper and
// data-centre Blackwell.
std::array<SDPBackend, sdp::num_backends> priority_order(const sdp_params& params) {
  static const bool initialised = [&] {
    const int major = device_of(params).major;
    const bool opted_out = c10::utils::check_env("TORCH_CUDNN_SDPA_DEPRIORITIZED") == true;
    if (!opted_out && (major == 9 || major == 10) && at::globalContext().userEnabledCuDNN() &&
        at::detail::getCUDAHooks().hasCuDNN() && cudnn_version() > 91500) {
      const std::vector<int64_t> order{static_cast<int64_t>(SDPBackend::cudnn_attention),
                                       static_cast<int64_t>(SDPBackend::flash_attention),
                                       static_cast<int64_t>(SDPBackend::efficient_attention),
                                       static_cast<int64_t>(SDPBackend::math)};
      at::globalContext().setSDPPriorityOrder(order);
    }
    return true;
  }();
  (void)initialised;
  return at::globalContext().sDPPriorityOrder();
}

// ---- checks that only CUDA makes ----

bool on_device(const sdp_params& params, bool debug) {
  if (params.query.device().type() == at::kCUDA) return true;
  if (debug) {
    TORCH_WARN(
        "All tensors need to be on cuda device. Got query on device: ", params.query.device(),
        ", key on device: ", params.key.device(), ", value on device: ", params.value.device());
  }
  return false;
}

bool low_precision(const sdp_params& params, bool debug) {
  if (device_of(params).major >= 8) {
    return sdp::check_tensor_dtype(params, std::array{at::kHalf, at::kBFloat16}, debug);
  }
  return sdp::check_tensor_dtype(params, std::array{at::kHalf}, debug);
}

bool efficient_dtype(const sdp_params& params, bool debug) {
  if (device_of(params).major >= 8) {
    return sdp::check_tensor_dtype(params, std::array{at::kHalf, at::kFloat, at::kBFloat16}, debug);
  }
  return sdp::check_tensor_dtype(params, std::array{at::kHalf, at::kFloat}, debug);
}

bool compute_capability_from(int major, const char* message, const sdp_params& params, bool debug) {
  const DeviceProperties& device = device_of(params);
  if (device.major >= major) return true;
  if (debug) TORCH_WARN(message, device.major, ".", device.minor, " gpu.");
  return false;
}

bool flash_hardware(const sdp_params& params, bool debug) {
  return compute_capability_from(8,
                                 "Flash attention only supports gpu architectures in the range "
                                 "[sm80, sm121]. Attempting to run on a sm ",
                                 params, debug);
}

bool cudnn_hardware(const sdp_params& params, bool debug) {
  return compute_capability_from(8,
                                 "cuDNN MHA only supports gpu architectures in the range "
                                 "[sm80, sm121]. Attempting to run on a sm ",
                                 params, debug);
}

bool equal_head_dims(const sdp_params& params, bool debug) {
  const auto q = params.query.sym_size(-1), k = params.key.sym_size(-1),
             v = params.value.sym_size(-1);
  if (q == k && q == v && q <= 256) return true;
  if (debug) {
    TORCH_WARN(
        "Flash attention requires q,k,v to have the same last dimension and to be less than or "
        "equal "
        "to 256. Got Query.size(-1): ",
        q, ", Key.size(-1): ", k, ", Value.size(-1): ", v, " instead.");
  }
  return false;
}

bool nested_head_dims(const sdp_params& params, bool debug) {
  if (!sdp::has_for_nested_inputs(params)) return true;
  const auto q = params.query.sym_size(-1), k = params.key.sym_size(-1),
             v = params.value.sym_size(-1);
  if (q == k && q == v && q % 8 == 0 && q <= 256) return true;
  if (debug) {
    TORCH_WARN(
        "For NestedTensor inputs, Flash attention requires q,k,v to have the same last dimension "
        "and "
        "to be a multiple of 8 and less than or equal to 256. Got Query.size(-1): ",
        q, ", Key.size(-1): ", k, ", Value.size(-1): ", v, " instead.");
  }
  return false;
}

bool square_if_causal(const sdp_params& params, bool debug) {
  if (!params.is_causal || params.query.is_nested() || params.key.is_nested()) return true;
  const auto q = params.query.sym_size(-2), k = params.key.sym_size(-2);
  if (q == k) return true;
  if (debug) {
    TORCH_WARN("Flash attention does not support the is_causal flag when seqlen_q != seqlen_k. ",
               "Got seqlen_q: ", q, " seqlen_k: ", k,
               ". If you would like to use causal attention with non-square masks, please see "
               "CausalAttnMask.");
  }
  return false;
}

// Backward kernels for large heads lack the shared memory on consumer GPUs.
bool backward_fits(const sdp_params& params, bool debug) {
  const DeviceProperties& device = device_of(params);
  const bool small = (device.major == 8 && device.minor >= 6) || device.major == 12;
  if (!small || !sdp::input_requires_grad(params)) return true;
  const auto head_dim = params.query.sym_size(-1);
  if (head_dim <= 192 || (head_dim > 224 && params.dropout == 0)) return true;
  if (debug) {
    TORCH_WARN(
        "Flash attention currently doesn't support training with head_dim ∈ (192, 224] or "
        "(head_dim "
        "∈ (224, 256] and dropout > 0.0) on gpu architectures in the range[sm86, sm89].Attempting "
        "to "
        "run with dropout set to: ",
        params.dropout, "and head_dim: ", head_dim, " on a sm ", device.major, ".", device.minor,
        " gpu.");
  }
  return false;
}

// CUTLASS loads 128 bits at a time where there are tensor cores.
int64_t gemm_alignment(const sdp_params& params) {
  const auto type = params.query.scalar_type();
  const bool half = type == at::kHalf || type == at::kBFloat16;
  const int major = device_of(params).major;
  if (major >= 8 || (major == 7 && half)) return half ? 8 : 4;
  return 1;
}

bool efficient_head_dims(const sdp_params& params, bool debug) {
  const auto q = params.query.sym_size(-1), k = params.key.sym_size(-1),
             v = params.value.sym_size(-1);
  const int64_t alignment = gemm_alignment(params);
  if (q == k && q % alignment == 0 && q > 0 && v % alignment == 0 && v > 0) return true;
  if (debug) {
    TORCH_WARN("Mem efficient attention requires last dimension of inputs to be divisible by ",
               alignment, ". Got Query.size(-1): ", q, ", Key.size(-1): ", k,
               ", Value.size(-1): ", v, " instead.");
  }
  return false;
}

bool cudnn_enabled(const sdp_params&, bool debug) {
  if (at::globalContext().userEnabledCuDNNSDP()) return true;
  if (debug) TORCH_WARN("cuDNN attention has been runtime disabled.");
  return false;
}

bool cudnn_dense(const sdp_params& params, bool debug) {
  if (!sdp::has_for_nested_inputs(params)) return true;
  if (debug) TORCH_WARN("Experimental cuDNN SDPA nested tensor support is not enabled.");
  return false;
}

bool cudnn_deterministic(const sdp_params&, bool debug) {
  const auto& context = at::globalContext();
  if (!context.deterministicAlgorithms() || context.deterministicAlgorithmsWarnOnly()) return true;
  if (debug) TORCH_WARN("cuDNN SDPA is not deterministic.");
  return false;
}

bool cudnn_dropout(const sdp_params& params, bool debug) {
  if (params.dropout * 16 == std::floor(params.dropout * 16)) return true;
  if (debug) {
    TORCH_WARN(
        "cuDNN dropout probability resolution is limited to 1/16.Use a dropout probability that is "
        "a "
        "multiple of 1/16 to select the cuDNN backend");
  }
  return false;
}

bool cudnn_heads(const sdp_params& params, bool debug) {
#if HEITU_TORCH_AT_LEAST(2, 8)
  return sdp::check_batch_size_and_num_heads_dense<true, false>(params, debug);
#else
  return sdp::check_batch_size_and_num_heads_dense<true>(params, debug);
#endif
}

bool cudnn_shapes(const sdp_params& params, bool debug) {
  const auto d_qk = params.query.sym_size(3), d_v = params.value.sym_size(3);
  const bool hopper = device_of(params).major == 9 || device_of(params).major == 10;
  const int64_t limit = hopper && cudnn_version() >= 91100 && d_qk == 192 && d_v == 128 ? 192 : 128;
  const char* reason = nullptr;
  if (d_qk > limit || d_v > limit) {
    if (debug) TORCH_WARN("head_dim should be no more than ", limit);
    return false;
  }
  if (d_qk % 8 != 0 || d_v % 8 != 0) {
    reason = "head_dim should be a multiple of 8";
  } else if (params.key.sym_size(2) == 1) {
    reason = "cudnn SDPA does not support key/value sequence length 1.";
  } else if (params.dropout != 0 && params.query.sym_size(2) == 1) {
    reason = "cudnn SDPA does not support query sequence length 1 with dropout.";
  }
  if (reason != nullptr && debug) TORCH_WARN(reason);
  return reason == nullptr;
}

// ---- the kernels ----

bool cudnn_serves(const sdp_params& params, bool debug) {
  if (!at::detail::getCUDAHooks().hasCuDNN()) {
    if (debug) TORCH_WARN("Torch was not compiled with cuDNN attention.");
    return false;
  }
  if (params.dropout > 0 && cudnn_version() > 91100 && cudnn_version() < 91400) {
    if (debug)
      TORCH_WARN(cudnn_version(),
                 " cuDNN version does not support droppout in SDPA (9.11 - 9.13).");
    return false;
  }
  static constexpr std::array<Check, 13> checks{cudnn_enabled,
                                                cudnn_dense,
                                                on_device,
                                                sdp::check_tensor_shapes,
                                                cudnn_deterministic,
                                                low_precision,
                                                sdp::check_attn_mask_shape,
                                                cudnn_hardware,
                                                cudnn_dropout,
                                                sdp::check_nonzero_sequence_lengths_dense,
                                                sdp::check_last_dim_stride_equals_1_dense<true>,
                                                cudnn_heads,
                                                cudnn_shapes};
  return all(checks, params, debug);
}

bool flash_serves(const sdp_params& params, bool debug) {
  static constexpr std::array<Check, 10> checks{sdp::check_runtime_disabled_flash,
                                                on_device,
                                                sdp::check_tensor_shapes,
                                                sdp::check_for_attn_mask,
                                                equal_head_dims,
                                                flash_hardware,
                                                backward_fits,
                                                square_if_causal,
                                                low_precision,
                                                nested_head_dims};
  static constexpr std::array<Check, 2> nested{sdp::check_batch_size_nested,
                                               sdp::check_for_seq_len_0_nested_tensor};
  static constexpr std::array<Check, 3> dense{sdp::check_batch_size_and_num_heads_dense<true>,
                                              sdp::check_nonzero_sequence_lengths_dense,
                                              sdp::check_last_dim_stride_equals_1_dense<true>};
  return all(checks, params, debug) &&
         (!sdp::has_for_nested_inputs(params) || all(nested, params, debug)) &&
         (!sdp::has_only_dense_inputs(params) || all(dense, params, debug));
}

bool efficient_serves(const sdp_params& params, bool debug) {
  static constexpr std::array<Check, 4> checks{sdp::check_runtime_disabled_mem_efficient, on_device,
                                               sdp::check_tensor_shapes, efficient_head_dims};
  static constexpr std::array<Check, 3> nested{sdp::check_requires_grad_and_nested,
                                               sdp::check_batch_size_nested,
                                               sdp::check_for_seq_len_0_nested_tensor};
  static constexpr std::array<Check, 3> dense{sdp::check_nonzero_sequence_lengths_dense,
                                              sdp::check_last_dim_stride_equals_1_dense<false>,
                                              sdp::check_batch_size_and_num_heads_dense<false>};
  return all(checks, params, debug) &&
         (!sdp::has_for_nested_inputs(params) || all(nested, params, debug)) &&
         (!sdp::has_only_dense_inputs(params) || all(dense, params, debug)) &&
         efficient_dtype(params, debug);
}

SDPBackend select(const sdp_params& params) {
  const auto& context = at::globalContext();
  const bool any_enabled = context.userEnabledMathSDP() || context.userEnabledFlashSDP() ||
                           context.userEnabledMemEfficientSDP() || context.userEnabledCuDNNSDP();
  TORCH_CHECK(any_enabled,
              "No viable backend for scaled_dot_product_attention was found. This is likely due to "
              "turning off both the math kernel and the fused kernels.");
  for (const SDPBackend backend : priority_order(params)) {
    switch (backend) {
      case SDPBackend::cudnn_attention:
        if (cudnn_serves(params, false)) return backend;
        break;
      case SDPBackend::flash_attention:
        if (flash_serves(params, false)) return backend;
        break;
      case SDPBackend::efficient_attention:
        if (efficient_serves(params, false)) return backend;
        break;
      case SDPBackend::math:
        if (context.userEnabledMathSDP()) return backend;
        break;
      default:
        break;
    }
  }
  TORCH_WARN("Memory efficient kernel not used because:");
  efficient_serves(params, true);
  TORCH_WARN("Flash attention kernel not used because:");
  flash_serves(params, true);
  TORCH_WARN("cuDNN attention kernel not used because:");
  cudnn_serves(params, true);
  TORCH_CHECK(false, "No available kernel. Aborting execution.");
}

int64_t fused_sdp_choice(const Tensor& query, const Tensor& key, const Tensor& value,
                         const std::optional<Tensor>& mask, double dropout, bool causal,
                         std::optional<double> /*scale*/, bool enable_gqa) {
  if (!has_fused_attention()) return static_cast<int64_t>(SDPBackend::math);
  return static_cast<int64_t>(
      select(sdp_params{query, key, value, mask, dropout, causal, enable_gqa}));
}

HEITU_KERNELS(attention_choice) {
  m.impl("_fused_sdp_choice", fused_sdp_choice);
  m.impl("_fused_sdp_choice", fused_sdp_choice, c10::DispatchKey::NestedTensorCUDA);
}

[[maybe_unused]] const bool stub_registered = [] {
  at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(fused_sdp_choice);
  return true;
}();

}  // namespace

bool attention_serves(SDPBackend backend, const sdp_params& params, bool debug) {
  switch (backend) {
    case SDPBackend::cudnn_attention:
      return cudnn_serves(params, debug);
    case SDPBackend::flash_attention:
      return flash_serves(params, debug);
    case SDPBackend::efficient_attention:
      return efficient_serves(params, debug);
    default:
      return backend == SDPBackend::math;
  }
}

}  // namespace heitu
