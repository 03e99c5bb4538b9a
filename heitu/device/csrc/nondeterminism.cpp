#include "nondeterminism.h"

#include <ATen/Context.h>

#include <string>
#include <unordered_map>

namespace heitu {
namespace {

using Arguments = c10::ArrayRef<c10::IValue>;

bool always(Arguments) { return true; }

// bincount(input, weights?, minlength)
bool weighted(Arguments arguments) { return arguments[1].isTensor(); }

// median(self, dim, keepdim): the index, not the value, is undetermined.
bool along_dim(Arguments arguments) { return arguments.size() > 1 && arguments[1].isInt(); }

// put_(self, index, source, accumulate); without accumulate the shared code raises.
bool accumulating(Arguments arguments) { return arguments[3].toBool(); }

// _embedding_bag_backward(…, mode at 8, …), the dense one with mode at 7: 2 is max.
bool of_maxima(Arguments arguments) { return arguments[8].toInt() == 2; }
bool of_dense_maxima(Arguments arguments) { return arguments[7].toInt() == 2; }

}  // namespace

const Nondeterminism* Nondeterminism::of(const c10::OperatorName& name) {
  static const auto* table = new std::unordered_map<std::string, Nondeterminism>{
      {"aten::avg_pool3d_backward", {"avg_pool3d_backward_cuda", always}},
      {"aten::_adaptive_avg_pool2d_backward", {"adaptive_avg_pool2d_backward_cuda", always}},
      {"aten::_adaptive_avg_pool3d_backward", {"adaptive_avg_pool3d_backward_cuda", always}},
      {"aten::max_pool3d_with_indices_backward", {"max_pool3d_with_indices_backward_cuda", always}},
      {"aten::adaptive_max_pool2d_backward", {"adaptive_max_pool2d_backward_cuda", always}},
      {"aten::fractional_max_pool2d_backward", {"fractional_max_pool2d_backward_cuda", always}},
      {"aten::fractional_max_pool3d_backward", {"fractional_max_pool3d_backward_cuda", always}},
      {"aten::upsample_linear1d_backward", {"upsample_linear1d_backward_out_cuda", always}},
      {"aten::upsample_bilinear2d_backward", {"upsample_bilinear2d_backward_out_cuda", always}},
      {"aten::upsample_bicubic2d_backward", {"upsample_bicubic2d_backward_out_cuda", always}},
      {"aten::upsample_trilinear3d_backward", {"upsample_trilinear3d_backward_out_cuda", always}},
      {"aten::reflection_pad1d_backward", {"reflection_pad1d_backward_out_cuda", always}},
      {"aten::reflection_pad2d_backward", {"reflection_pad2d_backward_cuda", always}},
      {"aten::reflection_pad3d_backward", {"reflection_pad3d_backward_out_cuda", always}},
      {"aten::nll_loss2d_forward", {"nll_loss2d_forward_out_cuda_template", always}},
      {"aten::_ctc_loss_backward", {"ctc_loss_backward_gpu", always}},
      {"aten::grid_sampler_2d_backward", {"grid_sampler_2d_backward_cuda", always}},
      {"aten::grid_sampler_3d_backward", {"grid_sampler_3d_backward_cuda", always}},
      {"aten::_embedding_bag_backward", {"embedding_bag_backward_cuda_max", of_maxima}},
      {"aten::_embedding_bag_dense_backward", {"embedding_bag_backward_cuda_max", of_dense_maxima}},
      {"aten::bincount", {"_bincount_cuda", weighted}},
      {"aten::median", {"median CUDA with indices output", along_dim}},
      {"aten::nanmedian", {"nanmedian CUDA with indices output", along_dim}},
      {"aten::put_", {"put_", accumulating}},
  };
  const auto entry = table->find(name.name);
  return entry == table->end() ? nullptr : &entry->second;
}

void Nondeterminism::check(Arguments arguments) const {
  if (at::globalContext().deterministicAlgorithms() && applies(arguments))
    at::globalContext().alertNotDeterministic(alert);
}

}  // namespace heitu
