// Kernels for which no operator of PyTorch's has the same arguments: reductions and decompositions.
#include <ATen/ATen.h>

#include "operators.h"

namespace heitu::cann {

HEITU_KERNEL(aminmax) {
  const auto dims = call.ints(1);
  const auto self = call.tensor(0);
  const auto dim = dims.size() == 1 ? std::optional<int64_t>(dims[0]) : std::nullopt;
  const auto [least, most] = at::aminmax(self, dim, call.flag(2));
  call.put(3, least);
  call.put(4, most);
}

HEITU_KERNEL(vector_norm) {
  const auto dims = call.ints(2);
  const auto dim = dims.empty() ? at::OptionalIntArrayRef() : at::OptionalIntArrayRef(dims);
  const auto self = call.tensor(0);
  std::optional<at::ScalarType> type;
  if (call.has(4) && call.type(4) != self.scalar_type()) type = call.type(4);
  call.put(5, at::linalg_vector_norm(self, call.scalar(1), dim, call.flag(3), type));
}

HEITU_KERNEL(linalg_qr) {
  const char* modes[] = {"reduced", "complete", "r"};
  const auto [q, r] = at::linalg_qr(call.tensor(0), modes[call.integer(1)]);
  if (call.integer(1) != 2) call.put(2, q);
  call.put(3, r);
}

HEITU_KERNEL(svd) {
  const bool vectors = call.flag(2);
  if (!vectors) {
    call.put(3, at::linalg_svdvals(call.tensor(0)));
    return;
  }
  const auto [u, s, vh] = at::linalg_svd(call.tensor(0), call.flag(1));
  call.put(3, s);
  call.put(4, u);
  call.put(5, vh.mH());
}

HEITU_KERNEL(histc) {  // of whole numbers too, which the CPU's refuses
  const auto self = call.tensor(0);
  const auto real = self.is_floating_point() ? self : self.to(at::kDouble);
  call.put(4, at::histc(real, call.integer(1), call.scalar(2), call.scalar(3)));
}

// Everything comes broadcast to (…, P, R, M); the gradient is that of the first of the two.
HEITU_KERNEL(graph_CdistGrad) {
  const auto in = [&](const char* name) { return call.tensor(call.index(name)); };
  const auto difference = in("in1") - in("in2"), distance = in("in3");
  const double p = call.real(call.index("p"));
  auto slope = at::sign(difference);
  if (p < 0) {  // what the plugin passes for infinity
    slope = slope * difference.abs().eq(distance);
  } else if (p == 0) {
    slope = at::zeros_like(slope);
  } else if (p != 1) {
    slope = slope * at::pow(difference.abs(), p - 1) / at::pow(distance, p - 1);
    slope = slope.masked_fill(distance.eq(0), 0);
  }
  call.put(call.index("out0"), (in("in0") * slope).sum(-2));
}

}  // namespace heitu::cann
