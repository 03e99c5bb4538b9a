// The one place where differences between torch releases are settled.
#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/version.h>

#define HEITU_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) ||        \
   (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

namespace heitu {

// A node of the autograd graph; its pointer type differs between releases.
template <class Node>
auto new_node() {
#if HEITU_TORCH_AT_LEAST(2, 13)
  return c10::make_intrusive<Node>();
#else
  return std::shared_ptr<Node>(new Node(), torch::autograd::deleteNode);
#endif
}

}  // namespace heitu
