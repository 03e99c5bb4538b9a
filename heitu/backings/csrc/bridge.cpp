// Operators whose gradient is the plugin's own: their part of the autograd graph is the plugin's,
// spliced into cuda's by two nodes that only change labels, each the other's derivative. So the
// plugin's nodes see the plugin's tensors, everything else sees cuda tensors, and derivatives of
// any order follow.
#include <ATen/autocast_mode.h>
#include <c10/core/Event.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include "accelerator.h"
#include "forward.h"
#include "saved_tensors.h"
#include "version.h"

namespace heitu {
namespace {

namespace autograd = torch::autograd;

at::Tensor enter(const at::Tensor& cuda);
at::Tensor leave(const at::Tensor& plugin);

// From cuda to the plugin; its gradient goes back.
struct HeituEnter : autograd::Node {
  using Node::Node;
  autograd::variable_list apply(autograd::variable_list&& gradients) override {
    for (auto& gradient : gradients) {
      // What other nodes hold too must not look as if it were held here alone: it would become two
      // parameters' gradient, or be added to in place.
      const size_t own = 1 + !post_hooks().empty();
      if (is_plugin(gradient) && gradient.use_count() > own) gradient = gradient.clone();
      gradient = leave(gradient);
    }
    return std::move(gradients);
  }
  std::string name() const override { return "HeituEnter"; }
};

// From the plugin to cuda.
struct HeituLeave : autograd::Node {
  using Node::Node;
  autograd::variable_list apply(autograd::variable_list&& gradients) override {
    for (auto& gradient : gradients) {
      if (gradient.defined()) hand_over(gradient.device());
      gradient = enter(gradient);
    }
    return std::move(gradients);
  }
  std::string name() const override { return "HeituLeave"; }

 private:
  // This node runs on the stream of its forward pass, the plugin's nodes on the default stream: the
  // engine knows streams of one accelerator only. On the way back it waits by itself.
  static void hand_over(c10::Device device) {
    const auto& guard = cuda_guard();
    const auto own = guard.getStream(device), standing = guard.getDefaultStream(device);
    if (own == standing) return;
    c10::Event event(c10::kCUDA);
    event.record(own);
    event.block(standing);
  }
};

template <class Node>
void connect(const at::Tensor& from, const at::Tensor& to) {
  auto node = new_node<Node>();
  node->set_next_edges(autograd::edge_list{autograd::impl::gradient_edge(from)});
  autograd::set_history(to, node);
}

bool tracked(const at::Tensor& tensor) {
  return tensor.defined() && at::GradMode::is_enabled() && tensor.requires_grad();
}

at::Tensor enter(const at::Tensor& cuda) {
  if (!cuda.defined() || !cuda.is_cuda()) return cuda;
  auto plugin = shadow(cuda);
  if (tracked(cuda)) connect<HeituEnter>(cuda, plugin);
  return plugin;
}

at::Tensor leave(const at::Tensor& plugin) {
  if (!is_plugin(plugin)) return plugin;
  auto cuda = wrap(plugin);
  if (tracked(plugin)) connect<HeituLeave>(plugin, cuda);
  return cuda;
}

// Autocast of the plugin's device as it is of cuda: what the plugin composes follows it.
class AutocastScope {
 public:
  AutocastScope() : active_(at::autocast::is_autocast_enabled(c10::kCUDA)) {
    if (C10_LIKELY(!active_)) return;
    before_ = at::autocast::is_autocast_enabled(kPlugin);
    dtype_ = at::autocast::get_autocast_dtype(kPlugin);
    at::autocast::set_autocast_enabled(kPlugin, true);
    at::autocast::set_autocast_dtype(kPlugin, at::autocast::get_autocast_dtype(c10::kCUDA));
  }
  ~AutocastScope() {
    if (C10_LIKELY(!active_)) return;
    at::autocast::set_autocast_enabled(kPlugin, before_);
    at::autocast::set_autocast_dtype(kPlugin, dtype_);
  }
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  bool active_;
  bool before_ = false;
  at::ScalarType dtype_ = at::ScalarType::Undefined;
};

// The dispatcher tells which kernel it would run only to itself; explicit instantiation may name a
// private member.
template <auto member>
struct OpenedHandle {
  friend const c10::KernelFunction& dispatched(const c10::OperatorHandle& op,
                                               c10::DispatchKey key) {
    return (op.*member)->op.lookup(c10::DispatchKeySet(key));
  }
};
const c10::KernelFunction& dispatched(const c10::OperatorHandle& op, c10::DispatchKey key);
template struct OpenedHandle<&c10::OperatorHandle::operatorDef_>;

// Tensors that stand for others: torch.func's, fake ones, subclasses written in Python.
constexpr c10::DispatchKeySet kWrappers =
    c10::DispatchKeySet({c10::DispatchKey::Python, c10::DispatchKey::FuncTorchBatched,
                         c10::DispatchKey::FuncTorchGradWrapper, c10::DispatchKey::Functionalize});

class Bridge final : public c10::OperatorKernel {
 public:
  explicit Bridge(const c10::OperatorHandle& op)
      : inputs_(op.schema().arguments().size()),
        pytorch_(dispatched(op, c10::DispatchKey::AutogradCUDA)) {
    const auto& arguments = op.schema().arguments();
    for (size_t i = 0; i < inputs_; ++i) {
      const auto* alias = arguments[i].alias_info();
      if (alias && alias->isWrite()) written_.push_back(static_cast<int>(i));
    }
  }

  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
    // Modes and wrapped tensors are to see PyTorch's operators on cuda tensors, as on CUDA.
    if (C10_UNLIKELY(c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::Python) ||
                     any_wrapper(torch::jit::last(*stack, inputs_))))
      return pytorch_.callBoxed(op, keys, stack);
    const auto first = stack->size() - inputs_;
    c10::SmallVector<at::Tensor, 2> written;
    for (int i : written_) {
      const auto& value = (*stack)[first + i];
      if (value.isTensor() && value.toTensor().defined()) written.push_back(value.toTensor());
    }
    Passage passage;
    for (size_t i = first; i < stack->size(); ++i) passage.take((*stack)[i], &enter);
    {
      const AcceleratorScope accelerator(kPlugin);
      const AutocastScope autocast;
      const SavedTensorScope saved;
      op.callBoxed(stack);
    }
    for (const auto& cuda : written) {
      if (!cuda.is_cuda()) continue;
      passage.write_back(cuda);
      // In-place: the history of the tensor goes on from the plugin's.
      const auto plugin = passage.take(cuda, &enter);
      if (tracked(plugin)) rebase(plugin, cuda);
    }
    for (size_t i = first; i < stack->size(); ++i) passage.give((*stack)[i], &leave);
  }

 private:
  static bool any_wrapper(c10::ArrayRef<c10::IValue> arguments) {
    for (const auto& value : arguments) {
      if (value.isTensor()) {
        if (value.toTensor().defined() && value.toTensor().key_set().has_any(kWrappers))
          return true;
      } else if (value.isTensorList() || value.isOptionalTensorList()) {
        if (any_wrapper(value.toListRef())) return true;
      }
    }
    return false;
  }

  static void rebase(const at::Tensor& plugin, const at::Tensor& cuda) {
    auto node = new_node<HeituLeave>();
    const auto edge = autograd::impl::gradient_edge(plugin);
    if (dynamic_cast<HeituEnter*>(edge.function.get())) return;  // nothing happened to it
    node->set_next_edges(autograd::edge_list{edge});
    autograd::impl::rebase_history(cuda, {node, node->add_input_metadata(cuda)});
  }

  size_t inputs_;
  c10::SmallVector<int, 2> written_;
  c10::KernelFunction pytorch_;  // what PyTorch does where the plugin has nothing of its own
};

}  // namespace

at::Tensor enter_plugin(const at::Tensor& cuda) { return enter(cuda); }
at::Tensor leave_plugin(const at::Tensor& plugin) { return leave(plugin); }

c10::KernelFunction bridge(const c10::OperatorHandle& op) {
  return c10::KernelFunction::makeFromBoxedFunctor(std::make_unique<Bridge>(op));
}

}  // namespace heitu
