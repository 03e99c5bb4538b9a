#include "call.h"

#include <ATen/core/Generator.h>
#include <ATen/record_function.h>

#include <unordered_set>

#include "capture.h"
#include "dtype_rules.h"
#include "frame.h"
#include "host_waits.h"
#include "narrow_products.h"
#include "nondeterminism.h"
#include "promotion.h"
#include "seeding.h"
#include "streams.h"
#include "tensors.h"

namespace heitu {

std::atomic<bool> observed{false};

namespace {

// Shadows of a boxed call's arguments, by layout, and the way back.
class BoxedFrame {
 public:
  BoxedFrame() : previous_(thread_state.scoped_device), exclude_(kBelowDevice) {}
  ~BoxedFrame() { thread_state.scoped_device = previous_; }
  BoxedFrame(const BoxedFrame&) = delete;
  BoxedFrame& operator=(const BoxedFrame&) = delete;

  void take(c10::IValue& value) {
    replace_tensors(value, [this](at::Tensor tensor) { return take(std::move(tensor)); });
    if (value.isDevice()) {
      const auto device = value.toDevice();
      if (device.is_cuda()) {
        if (pairs_.empty()) set_device(device.has_index() ? device.index() : current_device());
        value = c10::Device(c10::kCPU);
      }
    }
  }

  void give(c10::IValue& value) {
    replace_tensors(value, [this](at::Tensor result) { return give(std::move(result)); });
  }

  // Arguments that the kernel may have written to follow their shadows.
  void write_back_all() {
    for (auto& pair : pairs_) write_back(pair.shadow, pair.original);
  }
  void write_back_one(const at::Tensor& original) {
    for (auto& pair : pairs_)
      if (pair.original.is_same(original)) write_back(pair.shadow, pair.original);
  }

  void set_device(c10::DeviceIndex index) { thread_state.scoped_device = index; }

 private:
  struct Pair {
    at::Tensor original;
    at::Tensor shadow;
  };

  at::Tensor take(at::Tensor tensor) {
    if (tensor.device().type() != c10::kCUDA) {
      if (tensor.device().is_cpu()) guests_.push_back(tensor);
      return tensor;
    }
    if (pairs_.empty()) set_device(tensor.device().index());
    for (auto& pair : pairs_)
      if (pair.original.is_same(tensor)) return pair.shadow;
    auto shadow = host_view(tensor);
    return pairs_.emplace_back(Pair{std::move(tensor), std::move(shadow)}).shadow;
  }

  static const c10::StorageImpl* storage_of(const at::Tensor& tensor) {
    const auto& impl = *tensor.unsafeGetTensorImpl();
    return impl.has_storage() ? impl.unsafe_storage().unsafeGetStorageImpl() : nullptr;
  }

  at::Tensor give(at::Tensor result) {
    if (!result.device().is_cpu()) return result;
    for (const auto& guest : guests_)
      if (guest.is_same(result)) return result;
    for (const auto& pair : pairs_)
      if (pair.shadow.is_same(result)) return pair.original;
    if (const auto* storage = storage_of(result)) {
      for (const auto& pair : pairs_)
        if (storage_of(pair.shadow) == storage) return alias(std::move(result), pair.original);
      for (const auto& guest : guests_)
        if (storage_of(guest) == storage) return result;
      for (const auto& [host, device] : given_)
        if (host.get() == storage) return alias(std::move(result), device);
      c10::intrusive_ptr<c10::StorageImpl> host;
      if (result.storage().use_count() > 1)
        host = c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(
            const_cast<c10::StorageImpl*>(storage));
      auto labelled = device_label(std::move(result), {c10::kCUDA, thread_state.scoped_device});
      if (host) given_.emplace_back(std::move(host), labelled);
      return labelled;
    }
    return device_label(std::move(result), {c10::kCUDA, thread_state.scoped_device});
  }

  static at::Tensor alias(at::Tensor result, const at::Tensor& original) {
    if (result.use_count() != 1) result = result.detach();
    auto& impl = *result.unsafeGetTensorImpl();
    Access::storage(impl) = original.unsafeGetTensorImpl()->unsafe_storage();
    Access::keys(impl) = device_keys(impl.key_set());
    Access::device(impl) = original.device();
    return result;
  }

  c10::DeviceIndex previous_;
  c10::impl::ExcludeDispatchKeyGuard exclude_;
  c10::SmallVector<Pair, 8> pairs_;
  c10::SmallVector<at::Tensor, 2> guests_;  // CPU tensors among the arguments
  std::vector<std::pair<c10::intrusive_ptr<c10::StorageImpl>, at::Tensor>> given_;
};

// What is known of an operator before any call.
struct Operator {
  explicit Operator(const c10::OperatorHandle& op) {
    const auto& arguments = op.schema().arguments();
    inputs = arguments.size();
    for (size_t i = 0; i < arguments.size(); ++i) {
      const auto* alias = arguments[i].alias_info();
      if (alias && alias->isWrite()) written.push_back(static_cast<int>(i));
      auto type = arguments[i].type();
      if (auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
      if (type->kind() == c10::TypeKind::GeneratorType) generator = static_cast<int>(i);
    }
    for (const auto& tag : op.getTags())
      if (tag == at::Tag::nondeterministic_seeded) seeded = true;
    rule = DtypeRule::of(op);
    nondeterminism = Nondeterminism::of(op.operator_name());
    waiting = may_wait(op.operator_name());
    static const auto* products = new std::unordered_set<std::string>{
        "aten::mm",    "aten::bmm",    "aten::addmm",       "aten::baddbmm",
        "aten::addmv", "aten::addbmm", "aten::convolution", "aten::convolution_backward"};
    product = products->count(op.operator_name().name) != 0;
    widened = op.operator_name().name.rfind("aten::grid_sampler_", 0) == 0;
  }

  size_t inputs = 0;
  c10::SmallVector<int, 2> written;
  int generator = -1;
  bool seeded = false;
  bool product = false;             // whose 16-bit kernel on the CPU may be slow
  bool waiting = false;             // the host may have to wait for it
  bool widened = false;             // CUDA computes in float32 what the CPU computes in 16 bits
  const DtypeRule* rule = nullptr;  // where CUDA's kernel takes other dtypes than the CPU's
  const Nondeterminism* nondeterminism = nullptr;
};

// Runs an operator on the CPU's kernel.
class Delegate final : public c10::OperatorKernel {
 public:
  Delegate(const c10::OperatorHandle& op, c10::DispatchKey host_key)
      : op_(op), host_key_(host_key), host_keys_(host_key) {}

  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet, Stack* stack) {
    if (C10_UNLIKELY(capturing())) {
      if (capture_call(op, stack, [&](Stack* s) { run(op, s); }, nullptr, host_key_)) return;
    }
    run(op, stack);
  }

 private:
  void run(const c10::OperatorHandle& op, Stack* stack) {
    const auto first = stack->size() - op_.inputs;
    check_devices(op, torch::jit::last(*stack, op_.inputs));
    if (C10_UNLIKELY(op_.rule != nullptr))
      op_.rule->check(op, torch::jit::last(*stack, op_.inputs));
    if (C10_UNLIKELY(op_.nondeterminism != nullptr))
      op_.nondeterminism->check(torch::jit::last(*stack, op_.inputs));
    if (C10_UNLIKELY(op_.waiting) && waits(op, torch::jit::last(*stack, op_.inputs))) report_wait();
    BoxedFrame frame;
    c10::SmallVector<at::Tensor, 4> written;
    for (int i : op_.written) {
      each_tensor((*stack)[first + i], [&](const at::Tensor& tensor) {
        if (tensor.is_cuda()) written.push_back(tensor);
      });
    }
    for (size_t i = first; i < stack->size(); ++i) frame.take((*stack)[i]);
    std::optional<SeededScope> seeded;
    if (C10_UNLIKELY(op_.seeded || op_.generator >= 0)) {
      seeded.emplace(thread_state.scoped_device < 0 ? current_device()
                                                    : thread_state.scoped_device);
      if (op_.generator >= 0) seeded->replace((*stack)[first + op_.generator]);
    }
    if ((op_.product && is_slow((*stack)[first])) || (op_.widened && is_narrow((*stack)[first]))) {
      const auto arguments = torch::jit::pop(*stack, op_.inputs);
      run_in_wider_dtype(op, host_keys_, arguments, arguments[0].toTensor().scalar_type(), stack);
    } else if (C10_UNLIKELY(op_.rule != nullptr && op_.rule->promotes())) {
      run_promoting(op, stack);
    } else {
      op.redispatchBoxed(host_keys_, stack);
    }
    for (const auto& tensor : written) frame.write_back_one(tensor);
    for (auto& value : *stack) frame.give(value);
  }

  static bool is_slow(const c10::IValue& value) {
    return value.isTensor() && value.toTensor().defined() &&
           slow_on_host(value.toTensor().scalar_type());
  }

  static bool is_narrow(const c10::IValue& value) {
    if (!value.isTensor() || !value.toTensor().defined()) return false;
    const auto type = value.toTensor().scalar_type();
    return type == c10::ScalarType::Half || type == c10::ScalarType::BFloat16;
  }

  // The arguments are gone when a kernel has refused them: they are kept.
  void run_promoting(const c10::OperatorHandle& op, Stack* stack) const {
    const auto kept = torch::jit::last(*stack, op_.inputs).vec();
    const auto first = stack->size() - op_.inputs;
    try {
      op.redispatchBoxed(host_keys_, stack);
    } catch (const c10::NotImplementedError&) {
      const auto narrow = op_.rule->narrow(kept);
      if (narrow == c10::ScalarType::Undefined) throw;
      stack->resize(first);
      run_in_wider_dtype(op, host_keys_, kept, narrow, stack);
    }
  }

  Operator op_;
  c10::DispatchKey host_key_;
  c10::DispatchKeySet host_keys_;
};

// Runs an operator that the device implements itself.
class Native final : public c10::OperatorKernel {
 public:
  Native(const c10::OperatorHandle& op, c10::KernelFunction kernel)
      : kernel_(std::move(kernel)),
        rule_(DtypeRule::of(op)),
        inputs_(op.schema().arguments().size()),
        copies_(op.operator_name().name == "aten::copy_"),
        waiting_(!copies_ && may_wait(op.operator_name())) {}

  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
    const auto arguments = torch::jit::last(*stack, inputs_);
    if (!copies_) check_devices(op, arguments);
    if (C10_UNLIKELY(rule_ != nullptr)) rule_->check(op, arguments);
    if (C10_UNLIKELY(waiting_) && waits(op, arguments)) report_wait();
    const auto run = [&](Stack* s) {
      c10::impl::ExcludeDispatchKeyGuard exclude(kBelowDevice);
      kernel_.callBoxed(op, keys, s);
    };
    if (C10_UNLIKELY(capturing()) && capture_call(op, stack, run, &kernel_, c10::DispatchKey::CUDA))
      return;
    run(stack);
  }

 private:
  c10::KernelFunction kernel_;
  const DtypeRule* rule_;
  size_t inputs_;
  bool copies_;   // between devices, and waits by itself
  bool waiting_;  // the host may have to wait for it
};

}  // namespace

c10::KernelFunction delegate(const c10::OperatorHandle& op, c10::DispatchKey host_key) {
  return c10::KernelFunction::makeFromBoxedFunctor(std::make_unique<Delegate>(op, host_key));
}

c10::KernelFunction native(const c10::OperatorHandle& op, c10::KernelFunction kernel) {
  return c10::KernelFunction::makeFromBoxedFunctor(std::make_unique<Native>(op, std::move(kernel)));
}

}  // namespace heitu
