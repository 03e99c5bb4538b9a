// Which of CUDA's ways of computing scaled dot product attention serve a call.
#pragma once

#include <ATen/native/transformers/sdp_utils_cpp.h>

namespace heitu {

// As torch.backends.cuda.can_use_flash_attention and its kin; with `debug` it warns why not.
bool attention_serves(sdp::SDPBackend backend, const sdp::sdp_params& params, bool debug);

}  // namespace heitu
