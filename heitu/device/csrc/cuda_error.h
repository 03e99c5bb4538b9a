// Errors of the CUDA runtime, raised as torch raises them: torch.AcceleratorError with CUDA's code.
#pragma once

#include <c10/util/Exception.h>

#include <string>

#include "version.h"

namespace heitu {

// Codes and texts of the CUDA runtime (driver_types.h).
struct CudaError {
  int code;
  const char* text;
};
constexpr CudaError kInitializationError{3, "initialization error"};
constexpr CudaError kInvalidDevice{101,
                                   "invalid device ordinal\n"
                                   "GPU device may be out of range, do you have enough GPUs?"};
constexpr CudaError kCaptureUnsupported{900, "operation not permitted when stream is capturing"};
constexpr CudaError kCaptureInvalidated{901,
                                        "operation failed due to a previous error during capture"};
constexpr CudaError kDeviceAssert{710, "device-side assert triggered"};

#if HEITU_TORCH_AT_LEAST(2, 8)
[[noreturn]] inline void throw_cuda_error(CudaError error, const std::string& more = "") {
  throw c10::AcceleratorError({__func__, __FILE__, __LINE__}, error.code,
                              std::string("CUDA error: ") + error.text + more);
}
#else
[[noreturn]] inline void throw_cuda_error(CudaError error, const std::string& more = "") {
  TORCH_CHECK(false, "CUDA error: ", error.text, more);
}
#endif

}  // namespace heitu
