#include "dry.h"

#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/unbind.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "frame.h"
#include "prelude.h"
#include "tensors.h"

namespace heitu {
namespace {

using c10::DispatchKey;
using c10::DispatchKeySet;
using c10::IValue;
using torch::jit::Stack;

bool is_dry = false;

// Set while a kernel really runs: what it calls runs too.
thread_local bool computing = false;

struct ComputingScope {
  bool before = std::exchange(computing, true);
  ~ComputingScope() { computing = before; }
};

std::mutex counts_mutex;
DryCounts& counts() {
  static auto* counts = new DryCounts;
  return *counts;
}

bool is_index_type(c10::ScalarType type) {
  return type == at::kLong || type == at::kInt || type == at::kShort || type == at::kBool;
}

// On the device a part of a large tensor has no more values than the whole. On the CPU it may: data
// that was read from files.
bool lacks_values(const at::Tensor& tensor) {
  if (is_index_type(tensor.scalar_type())) return tensor.nbytes() > kMostIndexBytesComputed;
  const bool on_device = tensor.is_cuda() || thread_state.scoped_device >= 0;
  return (on_device ? tensor.storage().nbytes() : tensor.nbytes()) > kMostBytesComputed;
}

bool is_plain(const at::Tensor& tensor) {
  return tensor.has_storage() && !tensor.key_set().has_any(kUnusualLayouts) &&
         (tensor.is_cpu() || tensor.is_cuda());
}

// What the arguments of a call, or its results, tell.
struct CallForm {
  bool foreign = false;  // sparse and the like, which meta kernels do not serve
  bool large = false;
  bool tensors = false;
  double elements = 1;  // of all multiplied, which a result of broadcasting does not exceed

  void look(const at::Tensor& tensor) {
    tensors = true;
    foreign = foreign || !is_plain(tensor);
    large = large || (tensor.has_storage() && lacks_values(tensor));
    elements *= std::max<double>(1, static_cast<double>(tensor.numel()));
  }
  void look(const IValue& value) {
    each_tensor(value, [this](const at::Tensor& tensor) { look(tensor); });
    if (value.isDevice()) foreign = foreign || value.toDevice().is_meta();
  }
};

// The arguments of an operator as meta tensors, and its results as tensors of the arguments'
// device.
class MetaFrame {
 public:
  void take(IValue& value) {
    replace_tensors(value, [this](const at::Tensor& tensor) { return take(tensor); });
    if (value.isDevice()) {
      device_ = value.toDevice();
      value = c10::Device(c10::kMeta);
    }
  }

  // Whether `give` can make tensors of the results.
  bool gives(const IValue& value) const {
    bool all = true;
    each_tensor(value, [&](const at::Tensor& tensor) {
      all = all && tensor.is_meta() && tensor.has_storage() && tensor.layout() == c10::kStrided;
    });
    return all;
  }
  void give(IValue& value) {
    replace_tensors(value, [this](const at::Tensor& meta) { return give(meta); });
  }

  // Arguments take the form that the meta kernel gave them (out=).
  void write_back() {
    for (auto& [original, meta] : pairs_) {
      auto& to = *original.unsafeGetTensorImpl();
      const auto& from = *meta.unsafeGetTensorImpl();
      if (from.sizes() == to.sizes() && from.strides() == to.strides() &&
          from.storage_offset() == to.storage_offset())
        continue;
      resize_to(original, meta);
    }
  }

 private:
  struct Pair {
    at::Tensor original, meta;
  };

  at::Tensor take(const at::Tensor& tensor) {
    // Kernels written in Python take a number for one only where it is on the CPU.
    if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) return tensor;
    for (const auto& pair : pairs_)
      if (pair.original.is_same(tensor)) return pair.meta;
    if (!tensor.is_cpu() || tensor.dim() > 0 || pairs_.empty()) device_ = tensor.device();
    const auto& source = *tensor.unsafeGetTensorImpl();
    auto meta =
        c10::make_intrusive<c10::TensorImpl>(c10::TensorImpl::VIEW, storage_of(tensor),
                                             DispatchKeySet(DispatchKey::Meta), source.dtype());
    Access::copy_metadata(&source, meta.get());
    Access::device(*meta) = c10::Device(c10::kMeta);
    Access::keys(*meta) = meta_keys(source.key_set());
    meta->set_version_counter(c10::VariableVersion(0));
    return pairs_.emplace_back(Pair{tensor, at::Tensor(std::move(meta))}).meta;
  }

  static DispatchKeySet meta_keys(DispatchKeySet keys) {
    return (keys & kLazySigns) | DispatchKeySet({DispatchKey::Meta, DispatchKey::ADInplaceOrView,
                                                 DispatchKey::AutogradMeta});
  }

  // One meta storage for each storage, so that views stay views of one another.
  c10::Storage storage_of(const at::Tensor& tensor) {
    for (const auto& pair : pairs_)
      if (pair.original.is_alias_of(tensor)) return pair.meta.storage();
    return c10::Storage(c10::Storage::use_byte_size_t(), tensor.storage().nbytes(),
                        c10::DataPtr(nullptr, c10::Device(c10::kMeta)),
                        c10::GetAllocator(c10::kMeta), /*resizable=*/true);
  }

  at::Tensor give(const at::Tensor& meta) {
    for (const auto& pair : pairs_)
      if (pair.meta.is_same(meta)) return pair.original;
    for (const auto& pair : pairs_)
      if (pair.meta.is_alias_of(meta))
        return pair.original.as_strided(meta.sizes(), meta.strides(), meta.storage_offset());
    auto result = at::empty_strided(meta.sizes(), meta.strides(),
                                    at::TensorOptions(device_).dtype(meta.scalar_type()));
    clear(result);
    return result;
  }

  // What was in the memory before must not show. Pages that nobody touched stay so.
  static void clear(const at::Tensor& result) {
    constexpr uintptr_t kPage = 4096;
    auto* data = static_cast<char*>(result.mutable_data_ptr());
    const auto bytes = result.storage().nbytes();
    if (bytes == 0) return;
    const auto begin = reinterpret_cast<uintptr_t>(data), end = begin + bytes;
    const auto first = (begin + kPage - 1) & ~(kPage - 1), last = end & ~(kPage - 1);
    if (bytes <= kMostBytesComputed || last <= first) {
      std::memset(data, 0, bytes);
      return;
    }
    std::memset(data, 0, first - begin);
    madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
    std::memset(reinterpret_cast<void*>(last), 0, end - last);
  }

  static void resize_to(const at::Tensor& original, const at::Tensor& meta) {
    auto& to = *original.unsafeGetTensorImpl();
    auto* storage = to.unsafe_storage().unsafeGetStorageImpl();
    const auto bytes = at::detail::computeStorageNbytes(meta.sizes(), meta.strides(),
                                                        meta.itemsize(), meta.storage_offset());
    if (bytes > storage->nbytes()) {
      if (original.is_cuda())
        resize_storage(*storage, bytes);
      else
        at::native::resize_bytes_cpu(storage, bytes);
    }
    to.set_sizes_and_strides(meta.sizes(), meta.strides(), meta.storage_offset());
  }

  c10::Device device_ = c10::kCPU;
  c10::SmallVector<Pair, 8> pairs_;
};

// An explicit instantiation may name private members, and what is behind this one is public: the
// kernel that the dispatcher would run.
template <auto member>
struct Opened {
  friend const c10::KernelFunction& kernel_of(const c10::OperatorHandle& op, DispatchKey key) {
    return (op.*member)->op.lookup(DispatchKeySet(key));
  }
};
const c10::KernelFunction& kernel_of(const c10::OperatorHandle& op, DispatchKey key);
template struct Opened<&c10::OperatorHandle::operatorDef_>;

class Dry final : public c10::OperatorKernel {
 public:
  Dry(const c10::OperatorHandle& op, c10::KernelFunction inner) : inner_(std::move(inner)) {
    const auto& schema = op.schema();
    inputs_ = schema.arguments().size();
    for (const auto& argument : schema.arguments()) {
      auto type = argument.type();
      if (auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
      sized_ = sized_ || type->isSubtypeOf(*c10::ListType::ofInts());
    }
    if (op.hasKernelForDispatchKey(DispatchKey::Meta)) meta_ = kernel_of(op, DispatchKey::Meta);
    masked_ = op.operator_name() == c10::OperatorName{"aten::index", "Tensor"};
    in_place_ = schema.returns().size() <= 1 && schema.name().back() == '_';
  }

  void operator()(const c10::OperatorHandle& op, DispatchKeySet keys, Stack* stack) {
    if (computing) return inner_.callBoxed(op, keys, stack);
    CallForm arguments;
    for (const IValue& value : torch::jit::last(*stack, inputs_)) arguments.look(value);
    if (arguments.foreign) return inner_.callBoxed(op, keys, stack);
    const bool surely_small = arguments.tensors && !sized_ && !arguments.large &&
                              arguments.elements * 16 <= double(kMostBytesComputed);
    if (!surely_small && run_meta(op, arguments.large, stack)) return;
    if (arguments.large) note(op);
    const ComputingScope scope;
    inner_.callBoxed(op, keys, stack);
  }

 private:
  // False, with the stack as it was, if the operator is to be computed.
  bool run_meta(const c10::OperatorHandle& op, bool large, Stack* stack) {
    const auto first = stack->size() - inputs_;
    if (!has_meta(op)) {
      if (!large || !in_place_) return false;
      IValue self = (*stack)[first];
      stack->resize(first);
      if (!op.schema().returns().empty()) stack->push_back(std::move(self));
      return count();
    }
    const Stack arguments(stack->begin() + ptrdiff_t(first), stack->end());
    auto outcome = Outcome::kNoForm;
    if (meta_) outcome = try_meta(op, *meta_, large, arguments, stack);
    if (outcome == Outcome::kNoForm) outcome = try_meta(op, std::nullopt, large, arguments, stack);
    return outcome == Outcome::kDone && count();
  }

  enum class Outcome { kDone, kSmall, kNoForm };

  // `kernel`: nothing for the one that the dispatcher finds.
  Outcome try_meta(const c10::OperatorHandle& op, const std::optional<c10::KernelFunction>& kernel,
                   bool large, Stack trial, Stack* stack) const {
    if (masked_) masks_to_indices(trial[1]);
    MetaFrame frame;
    for (auto& value : trial) frame.take(value);
    try {
      const c10::impl::ExcludeDispatchKeyGuard exclude(kBelowDevice);
      constexpr DispatchKeySet keys(DispatchKey::Meta);
      if (kernel)
        kernel->callBoxed(op, keys, &trial);
      else
        op.redispatchBoxed(keys, &trial);
    } catch (const std::exception&) {
      // Either the form of the results depends on values, or the arguments are wrong, which the
      // kernel says in its own words.
      return Outcome::kNoForm;
    }
    for (const auto& value : trial)
      if (!frame.gives(value)) return Outcome::kNoForm;
    if (!large && !any_large(trial)) return Outcome::kSmall;
    for (auto& value : trial) frame.give(value);
    frame.write_back();
    stack->resize(stack->size() - inputs_);
    stack->insert(stack->end(), trial.begin(), trial.end());
    return Outcome::kDone;
  }

  // Asked for at each call: those that are written in Python come when all of torch is imported.
  static bool has_meta(const c10::OperatorHandle& op) {
    for (const auto key : {DispatchKey::Meta, DispatchKey::CompositeExplicitAutograd,
                           DispatchKey::CompositeExplicitAutogradNonFunctional,
                           DispatchKey::CompositeImplicitAutograd})
      if (op.hasKernelForDispatchKey(key)) return true;
    return false;
  }

  static void masks_to_indices(IValue& value) {
    c10::List<std::optional<at::Tensor>> indices;
    for (const std::optional<at::Tensor>& index : value.toOptionalTensorList()) {
      const bool mask = index && index->defined() &&
                        (index->scalar_type() == at::kBool || index->scalar_type() == at::kByte);
      if (!mask) {
        indices.push_back(index);
        continue;
      }
      for (const auto& each : index->nonzero().unbind(1)) indices.push_back(each);
    }
    value = std::move(indices);
  }

  static bool count() {
    const std::lock_guard<std::mutex> lock(counts_mutex);
    ++counts().not_computed;
    return true;
  }
  static void note(const c10::OperatorHandle& op) {
    const std::lock_guard<std::mutex> lock(counts_mutex);
    ++counts().in_full[c10::toString(op.operator_name())];
  }

  c10::KernelFunction inner_;
  // Torch's Python puts others before some of these, which take a hundred times as long.
  std::optional<c10::KernelFunction> meta_;
  size_t inputs_ = 0;
  bool sized_ = false;     // takes numbers that may say how large the result is
  bool masked_ = false;    // may take masks, on whose values the form of the result depends
  bool in_place_ = false;  // returns what it was given and makes nothing
};

// Whether an operator reads or writes the memory of tensors.
bool touches_data(const c10::OperatorHandle& op) {
  static const auto* forms = new std::unordered_set<std::string>{"aten::empty",
                                                                 "aten::empty_strided",
                                                                 "aten::resize_",
                                                                 "aten::set_",
                                                                 "aten::record_stream",
                                                                 "aten::_local_scalar_dense",
                                                                 "aten::from_file",
                                                                 "aten::_resize_output_",
                                                                 "aten::_efficientzerotensor",
                                                                 "aten::copy_sparse_to_sparse_"};
  if (forms->count(op.operator_name().name) != 0) return false;
  const auto& schema = op.schema();
  bool writes = false;
  for (const auto& argument : schema.arguments())
    writes = writes || (argument.alias_info() && argument.alias_info()->isWrite());
  bool tensors = false;
  for (const auto& result : schema.returns()) {
    const auto* alias = result.alias_info();
    if (alias && !alias->isWrite()) return false;  // a view
    const auto& type = *result.type();
    tensors = tensors || type.kind() == c10::TypeKind::TensorType ||
              type.isSubtypeOf(*c10::ListType::ofTensors());
  }
  return writes || tensors;
}

// Composite operators that reach for the processor's kernels without the dispatcher.
constexpr const char* kDirect[] = {"copy_", "convolution", "convolution_backward"};

struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

}  // namespace

void begin_dry_run() noexcept { is_dry = true; }
bool dry_run() noexcept { return is_dry; }

bool any_large(c10::ArrayRef<IValue> values) {
  CallForm arguments;
  for (const auto& value : values) arguments.look(value);
  return arguments.large;
}

DryCounts dry_counts() {
  const std::lock_guard<std::mutex> lock(counts_mutex);
  return counts();
}

c10::KernelFunction dry_kernel(const c10::OperatorHandle& op, c10::KernelFunction inner) {
  // These are made of the CPU's operators, each of which is dry by itself.
  static const auto* made_of_others = new std::unordered_set<std::string>{
      "aten::copy_", "aten::_cudnn_rnn", "aten::_cudnn_rnn_backward",
      "aten::_cudnn_rnn_flatten_weight"};
  if (!is_dry || !touches_data(op) || made_of_others->count(op.operator_name().name) != 0)
    return inner;
  return c10::KernelFunction::makeFromBoxedFunctor(std::make_unique<Dry>(op, std::move(inner)));
}

void install_dry_kernels() {
  if (!is_dry) return;
  static auto* registrations = new std::vector<c10::RegistrationHandleRAII>;
  auto& dispatcher = c10::Dispatcher::singleton();
  Silent silent;  // that kernels are replaced is the purpose
  const c10::WarningUtils::WarningHandlerGuard guard(&silent);
  const auto wrap = [&](const c10::OperatorHandle& op) {
    registrations->push_back(
        dispatcher.registerImpl(op.operator_name(), DispatchKey::CPU,
                                c10::KernelFunction::makeFromBoxedFunctor(
                                    std::make_unique<Dry>(op, kernel_of(op, DispatchKey::CPU))),
                                std::nullopt, nullptr, "heitu"));
  };
  for (const auto& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findOp(name);
    if (op && op->hasSchema() && name.name.starts_with("aten::") &&
        op->hasKernelForDispatchKey(DispatchKey::CPU) && touches_data(*op))
      wrap(*op);
  }
  for (const char* name : kDirect) {
    const auto op = dispatcher.findOp({std::string("aten::") + name, ""});
    if (op && !op->hasKernelForDispatchKey(DispatchKey::CPU)) wrap(*op);
  }
}

// ---- memory of CPU tensors ----

namespace {

std::mutex untouched_mutex;
std::unordered_map<void*, size_t>& untouched() {
  static auto* sizes = new std::unordered_map<void*, size_t>;
  return *sizes;
}

}  // namespace

void* map_untouched(size_t bytes) {
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return nullptr;
  madvise(address, bytes, MADV_NOHUGEPAGE);  // a byte that is touched costs a page
  const std::lock_guard<std::mutex> lock(untouched_mutex);
  untouched()[address] = bytes;
  return address;
}

bool unmap_untouched(void* address) noexcept {
  size_t bytes = 0;
  {
    const std::lock_guard<std::mutex> lock(untouched_mutex);
    const auto found = untouched().find(address);
    if (found == untouched().end()) return false;
    bytes = found->second;
    untouched().erase(found);
  }
  munmap(address, bytes);
  return true;
}

}  // namespace heitu
