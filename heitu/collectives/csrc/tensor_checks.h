// What the nccl process group asks of its arguments, in its own words.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace heitu {

inline constexpr const char* kOneTensor =
    "Expecting one tensor only but got multiple. You are probably using multiple devices under one "
    "thread. The support for such usage has been deprecated. For details, please refer to "
    "https://pytorch.org/docs/stable/distributed.html#multi-gpu-collective-functions. "
    "ProcessGroupNCCL continues supporting multi-process and multi-thread modes.";

inline void check_tensor(const at::Tensor& tensor, bool point_to_point = false) {
  if (!tensor.is_cuda() || tensor.is_sparse())
    C10_THROW_ERROR(ValueError, "Tensors must be CUDA and dense");
  if (tensor.is_contiguous(tensor.suggest_memory_format())) return;
  const auto end = tensor.storage_offset() + tensor.numel();
  const bool inside = end * static_cast<int64_t>(tensor.element_size()) <=
                      static_cast<int64_t>(tensor.storage().nbytes());
  if (!point_to_point || !inside) C10_THROW_ERROR(ValueError, "Tensors must be contiguous");
  TORCH_WARN_ONCE(
      "Detected non-contiguous tensor in P2P operations. It is user responsibility to guarantee "
      "that source and destination tensors have the same contiguity format.");
}

inline const at::Tensor& single(const std::vector<at::Tensor>& tensors) {
  TORCH_CHECK(tensors.size() == 1, kOneTensor);
  return tensors.front();
}

inline const std::vector<at::Tensor>& single(const std::vector<std::vector<at::Tensor>>& lists) {
  TORCH_CHECK(lists.size() == 1, kOneTensor);
  return lists.front();
}

inline void check_coalesced(const std::vector<at::Tensor>& tensors) {
  if (tensors.empty()) C10_THROW_ERROR(ValueError, "Tensor list must be nonempty");
  const auto& first = tensors.front();
  for (const auto& tensor : tensors) {
    if (!tensor.is_cuda() || tensor.is_sparse())
      C10_THROW_ERROR(ValueError, "Tensors must be CUDA and dense");
    if (tensor.scalar_type() != first.scalar_type())
      C10_THROW_ERROR(TypeError, "Tensors must have identical type");
    if (!tensor.is_non_overlapping_and_dense())
      C10_THROW_ERROR(ValueError, "Tensors must be non-overlapping and dense");
    TORCH_CHECK_WITH(ValueError, tensor.device() == first.device(),
                     "Expected list of tensors on the same device");
  }
}

// What the root gathers to, or scatters from: one list, with a tensor for each rank. `what` is
// "output" or "input". `fail` takes the message and throws.
template <class Fail>
void check_list_of_root(const Fail& fail, const std::string& what,
                        const std::vector<std::vector<at::Tensor>>& lists, int64_t ranks) {
  const auto count = std::to_string(ranks);
  if (lists.size() != 1)
    fail("requires a single-element " + what + " list containing a list with " + count +
         " tensors.");
  if (lists[0].size() != static_cast<size_t>(ranks))
    fail("Incorrect " + what + " list size " + std::to_string(lists[0].size()) + ". " +
         (what == "output" ? "Output" : "Input") + " list size should be " + count +
         ", same as size of the process group.");
}

template <class Fail>
void check_list_size(const Fail& fail, const std::string& what, size_t size, int64_t ranks) {
  if (size != static_cast<size_t>(ranks))
    fail(what + " tensor list size " + std::to_string(size) + " does not match world size " +
         std::to_string(ranks));
}

}  // namespace heitu
