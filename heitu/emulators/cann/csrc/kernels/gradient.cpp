#include "gradient.h"

#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/autograd.h>

namespace heitu::cann {

Tensors gradients(const Tensors& inputs, const std::function<Tensors(const Tensors&)>& function,
                  const Tensors& grads) {
  // Kernels run below autograd; here it is wanted again.
  c10::impl::ForceDispatchKeyGuard all_keys(c10::default_included_set, c10::default_excluded_set);
  c10::AutoGradMode with_gradients(true);
  Tensors leaves, wanted;
  for (const auto& input : inputs) {
    at::Tensor leaf = input;
    if (input.defined() && input.is_floating_point()) {
      leaf = input.detach().requires_grad_(true);
      wanted.push_back(leaf);
    }
    leaves.push_back(leaf);
  }
  Tensors results, weights;
  const auto all = function(leaves);
  for (size_t i = 0; i < all.size() && i < grads.size(); ++i) {
    if (!grads[i].defined() || !all[i].requires_grad()) continue;
    results.push_back(all[i]);
    weights.push_back(grads[i].to(all[i].scalar_type()).reshape(all[i].sizes()));
  }
  const auto found = torch::autograd::grad(results, wanted, weights, /*retain_graph=*/std::nullopt,
                                           /*create_graph=*/false, /*allow_unused=*/true);
  Tensors each;
  size_t next = 0;
  for (const auto& input : inputs) {
    const bool has = input.defined() && input.is_floating_point();
    each.push_back(has ? found[next++] : at::Tensor());
  }
  return each;
}

}  // namespace heitu::cann
