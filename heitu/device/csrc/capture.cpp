#include "capture.h"

#include <mutex>

#include "block.h"
#include "block_table.h"
#include "cuda_error.h"
#include "generator.h"
#include "graph.h"
#include "host_waits.h"
#include "labels.h"
#include "record.h"
#include "streams.h"
#include "tensors.h"

namespace heitu {
namespace {

// The captures under way. Guarded by `mutex`; there are few, and the operators that look here are
// slow anyway.
struct Under {
  std::mutex mutex;
  struct Capture {
    uint64_t id;
    Graph* graph;
    std::set<std::pair<c10::DeviceIndex, c10::StreamId>> streams;
  };
  std::vector<Capture> captures;
  uint64_t next_id = 1;

  Capture* of(c10::Stream stream) {
    for (auto& capture : captures)
      if (capture.streams.count({stream.device_index(), stream.id()})) return &capture;
    return nullptr;
  }
};

Under& under() {
  static auto* state = new Under;
  return *state;
}

thread_local int depth = 0;

// The same tensor over memory that it does not own, as a kernel launch knows its arguments.
at::Tensor by_address(const at::Tensor& tensor) {
  if (!tensor.is_cuda() || !tensor.has_storage() ||
      tensor.unsafeGetTensorImpl()->key_set().has_any(kUnusualLayouts))
    return tensor;
  const auto& storage = *tensor.storage().unsafeGetStorageImpl();
  auto plain = c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), storage.nbytes(),
      c10::DataPtr(const_cast<void*>(storage.data()), tensor.device()), nullptr,
      /*resizable=*/false);
  auto impl = c10::make_intrusive<c10::TensorImpl>(c10::Storage(std::move(plain)), tensor.key_set(),
                                                   tensor.dtype());
  Access::copy_metadata(tensor.unsafeGetTensorImpl(), impl.get());
  return at::Tensor(std::move(impl));
}

c10::IValue by_address(c10::IValue value) {
  replace_tensors(value, [](const at::Tensor& tensor) { return by_address(tensor); });
  return value;
}

}  // namespace

bool stream_capturing(c10::Stream stream) { return capture_of(stream) != 0; }

bool capturing_slow() { return stream_capturing(current_stream(-1)); }

uint64_t capture_of(c10::Stream stream) {
  if (C10_LIKELY(!observed.load(std::memory_order_relaxed))) return 0;
  std::lock_guard<std::mutex> lock(under().mutex);
  const auto* capture = under().of(stream);
  return capture ? capture->id : 0;
}

void join_capture(c10::Stream stream, uint64_t id) {
  std::lock_guard<std::mutex> lock(under().mutex);
  for (auto& capture : under().captures)
    if (capture.id == id) capture.streams.emplace(stream.device_index(), stream.id());
}

// Gives the default generator, for one replayed operator, the state that it had in the capture.
class RandomState {
 public:
  explicit RandomState(const RecordedCall& call) {
    if (!call.random_state.defined()) return;
    generator_ = default_generator(call.device);
    before_ = generator_.graphsafe_get_state();
    generator_.graphsafe_set_state(call.random_state);
  }
  ~RandomState() {
    if (before_.defined()) generator_.graphsafe_set_state(before_);
  }
  RandomState(const RandomState&) = delete;
  RandomState& operator=(const RandomState&) = delete;

 private:
  at::Generator generator_, before_;
};

// The part of a capture that touches the graph's inside.
class Recorder {
 public:
  static Graph* graph_of(c10::Stream stream) {
    std::lock_guard<std::mutex> lock(under().mutex);
    auto* capture = under().of(stream);
    return capture ? capture->graph : nullptr;
  }

  static void spoil(Graph& graph) { graph.spoiled_ = true; }

  static void record(Graph& graph, const c10::OperatorHandle& op, Stack* stack, RunCall run,
                     c10::KernelFunction* native, c10::DispatchKey host_key) {
    const auto& arguments = op.schema().arguments();
    const auto first = stack->size() - arguments.size();
    if (waits(op, torch::jit::last(*stack, arguments.size()))) {
      spoil(graph);
      throw_cuda_error(kCaptureUnsupported);
    }
    RecordedCall call{op, native, host_key, {}, {}, {}, {}, current_device()};
    call.replayed = std::exchange(thread_state.counted_slot, nullptr);
    if (graph.generators_.size() > 1)
      call.random_state = default_generator(call.device).graphsafe_get_state();
    std::vector<std::pair<size_t, c10::IValue>> written;
    for (size_t i = 0; i < arguments.size(); ++i) {
      const auto& value = (*stack)[first + i];
      const auto* alias = arguments[i].alias_info();
      const bool running = arguments[i].name().rfind("running_", 0) == 0;
      if ((alias && alias->isWrite()) || running) {
        each_tensor(value, [&](const at::Tensor& tensor) { graph.save(tensor); });
        written.emplace_back(i, value);
      }
      call.arguments.push_back(by_address(value));
    }
    {
      TapeScope tape(thread_state.recording_tape, &call.tape);
      ++depth;
      try {
        run(stack);
      } catch (...) {
        --depth;
        throw;
      }
      --depth;
    }
    for (const auto& taken : call.tape.taken()) graph.own_.insert(taken.address);
    // What the operator resized is replayed with the size and the memory that it has now.
    for (const auto& [i, value] : written) {
      call.arguments[i] = by_address(value);
      each_tensor(value, [&](const at::Tensor& tensor) {
        if (tensor.has_storage()) call.tape.forget(tensor.storage().data());
      });
    }
    each_tensor(c10::ArrayRef<c10::IValue>(*stack),
                [&](const at::Tensor& tensor) { call.results.push_back(by_address(tensor)); });
    graph.calls_.push_back(std::move(call));
  }

  static void replay(Graph& graph, RecordedCall& call) {
    Stack stack(call.arguments);
    if (call.replayed) call.replayed->replays.fetch_add(1, std::memory_order_relaxed);
    call.tape.rewind();
    TapeScope tape(thread_state.replaying_tape, &call.tape);
    const RandomState random(call);
    if (call.native) {
      c10::impl::ExcludeDispatchKeyGuard exclude(kBelowDevice);
      call.native->callBoxed(call.op, c10::DispatchKeySet(c10::DispatchKey::CUDA), &stack);
    } else {
      delegate(call.op, call.host_key)
          .callBoxed(call.op, c10::DispatchKeySet(c10::DispatchKey::CUDA), &stack);
    }
    // A result that landed elsewhere (the operator took other amounts of memory than when it was
    // recorded) is brought to where the graph's readers expect it.
    size_t i = 0;
    each_tensor(c10::ArrayRef<c10::IValue>(stack), [&](const at::Tensor& tensor) {
      auto& expected = call.results[i++];
      if (tensor.is_cuda() && tensor.has_storage() && expected.has_storage() &&
          tensor.const_data_ptr() != expected.const_data_ptr() &&
          tensor.sizes() == expected.sizes())
        host_view(expected).copy_(host_view(tensor));
    });
  }
};

void refuse_in_capture() {
  if (!observed.load(std::memory_order_relaxed)) return;
  if (auto* graph = Recorder::graph_of(current_stream(-1))) {
    Recorder::spoil(*graph);
    throw_cuda_error(kCaptureUnsupported);
  }
}

bool capture_call(const c10::OperatorHandle& op, Stack* stack, RunCall run,
                  c10::KernelFunction* native, c10::DispatchKey host_key) {
  if (depth > 0) return false;
  auto* graph = Recorder::graph_of(current_stream(-1));
  if (!graph) return false;
  Recorder::record(*graph, op, stack, run, native, host_key);
  return true;
}

// ---- the graph ----

Graph::Graph(bool keep_graph) : keep_graph_(keep_graph) {}

Graph::~Graph() { reset(); }

void Graph::capture_begin(PoolId pool, const std::string& mode) {
  TORCH_CHECK(!captured_,
              "This CUDAGraph instance already owns a captured graph. "
              "To capture a new graph, create a new instance.");
  TORCH_CHECK(mode == "global" || mode == "thread_local" || mode == "relaxed",
              "Unknown capture error mode. Expected `global`, `thread_local`, or `relaxed`, got ",
              mode);
  device_ = current_device();
  stream_ = current_stream(device_);
  TORCH_CHECK(stream_->id() != 0,
              "CUDA graphs must be captured on a non-default stream. "
              "(However, after capture, it's ok to replay them on the default stream.)");
  if (stream_capturing(*stream_)) throw_cuda_error(kCaptureUnsupported);
  pool_ = pool.first || pool.second ? pool : new_pool_id(false);
  register_generator(default_generator(device_));
  for (auto& generator : generators_)
    at::check_generator<PhiloxGenerator>(generator)->begin_capture();
  {
    std::lock_guard<std::mutex> lock(under().mutex);
    id_ = under().next_id++;
    under().captures.push_back({id_, this, {{device_, stream_->id()}}});
    observed = true;
  }
  // Memory that any stream of this capture takes comes from the graph's pool.
  begin_allocate_to_pool(device_, pool_,
                         [id = id_](c10::Stream stream) { return capture_of(stream) == id; });
  // What other graphs of the pool have left may be given back, taken anew and written over in this
  // capture, and its first replay reads it nevertheless.
  const auto pool_before = checkpoint_pool(device_, pool_);
  for (const auto& segment : pool_before->segments)
    for (const auto& block : segment.blocks)
      if (block.live)
        saved_.push_back({block.address, {block.address, block.address + block.size}});
  recording_ = true;
}

void Graph::capture_end() {
  TORCH_CHECK(recording_, "CUDA graph capture has not begun.");
  TORCH_CHECK(current_stream(device_) == *stream_,
              "Capture must end on the same stream it began on.");
  recording_ = false;
  end_allocate_to_pool(device_, pool_);
  {
    std::lock_guard<std::mutex> lock(under().mutex);
    auto& captures = under().captures;
    captures.erase(std::remove_if(captures.begin(), captures.end(),
                                  [&](const auto& capture) { return capture.graph == this; }),
                   captures.end());
    observed = !captures.empty();
  }
  for (auto& generator : generators_)
    at::check_generator<PhiloxGenerator>(generator)->end_capture();
  restore();
  captured_ = true;
  if (spoiled_) throw_cuda_error(kCaptureInvalidated);
  if (calls_.empty())
    TORCH_WARN("The CUDA Graph is empty. This usually means that the graph was ",
               "attempted to be captured on wrong device or stream.");
  if (!keep_graph_) instantiate();
}

void Graph::instantiate() {
  TORCH_CHECK(captured_, "capture_end() must have been called before calling instantiate");
  instantiated_ = true;
}

void Graph::replay() {
  TORCH_CHECK(captured_, "Called CUDAGraph::replay without a preceding successful capture.");
  if (!instantiated_) instantiate();
  const auto before = current_device();
  set_current_device(device_);
  for (auto& call : calls_) Recorder::replay(*this, call);
  set_current_device(before);
}

void Graph::reset() {
  if (recording_) {
    spoiled_ = true;
    try {
      set_current_device(device_);
      exchange_stream(*stream_);
      capture_end();
    } catch (const c10::Error&) {  // the spoiled capture says so; there is nothing more to undo
    }
  }
  if (captured_) heitu::release_pool(device_, pool_);
  captured_ = instantiated_ = spoiled_ = false;
  calls_.clear();
  own_.clear();
  generators_.clear();
  generator_memory_.clear();
}

PoolId Graph::pool() const {
  TORCH_CHECK(captured_ || recording_,
              "Called CUDAGraph::pool() without a preceding successful capture.");
  return pool_;
}

std::vector<std::string> Graph::operator_names() const {
  std::vector<std::string> names;
  for (const auto& call : calls_) names.push_back(c10::toString(call.op.operator_name()));
  return names;
}

void Graph::register_generator(const at::Generator& generator) {
  for (const auto& known : generators_)
    if (known == generator) return;
  generators_.push_back(generator);
  generator_memory_.push_back(at::check_generator<PhiloxGenerator>(generator)->graph_memory());
}

void Graph::save(const at::Tensor& tensor) {
  if (!tensor.is_cuda() || !tensor.has_storage()) return;
  const auto& storage = *tensor.storage().unsafeGetStorageImpl();
  auto* address = const_cast<void*>(storage.data());
  if (!address || own_.count(address)) return;
  // What lies in the graph's pool has no content before the first replay, or is saved already.
  if (const Block* block = BlockTable::find(address);
      block && block->arena && block->arena->pool.id == pool_)
    return;
  for (const auto& saved : saved_)
    if (saved.address == address) return;
  const auto* bytes = static_cast<const char*>(address);
  saved_.push_back({address, {bytes, bytes + storage.nbytes()}});
}

void Graph::restore() {
  for (const auto& saved : saved_)
    std::copy(saved.bytes.begin(), saved.bytes.end(), static_cast<char*>(saved.address));
  saved_.clear();
}

}  // namespace heitu
