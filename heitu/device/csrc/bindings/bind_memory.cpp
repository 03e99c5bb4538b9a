// What heitu/device/memory.py builds torch._C's memory functions from.
#include <torch/csrc/profiler/combined_traceback.h>
#include <torch/csrc/utils/pybind.h>

#include <unordered_map>
#include <unordered_set>

#include "allocator.h"
#include "allocator_config.h"
#include "bindings.h"
#include "host_memory.h"
#include "labels.h"
#include "ownership.h"
#include "streams.h"

namespace heitu {
namespace {

namespace py = pybind11;
using namespace py::literals;

c10::DeviceIndex checked_index(int64_t device) {
  TORCH_CHECK(device >= 0 && device < device_count(), "Invalid device argument ", device,
              ": did you call init?");
  return static_cast<c10::DeviceIndex>(device);
}

// ---- statistics ----

py::dict to_dict(const Stat& stat) {
  return py::dict("current"_a = stat.current, "peak"_a = stat.peak, "allocated"_a = stat.allocated,
                  "freed"_a = stat.freed);
}

py::dict to_dict(const StatArray& stats) {
  return py::dict("all"_a = to_dict(stats[0]), "small_pool"_a = to_dict(stats[1]),
                  "large_pool"_a = to_dict(stats[2]));
}

py::dict to_dict(const DurationStat& stat) {
  return py::dict("total"_a = stat.total, "max"_a = stat.max, "min"_a = stat.min,
                  "count"_a = stat.count,
                  "avg"_a = stat.count ? double(stat.total) / double(stat.count) : 0.0);
}

py::dict stats_dict(int64_t device) {
  const MemoryStats stats = memory_stats(checked_index(device));
  auto result = py::dict(
      "num_alloc_retries"_a = stats.num_alloc_retries, "num_ooms"_a = stats.num_ooms,
      "num_oom_rejections"_a = stats.num_oom_rejections, "max_split_size"_a = stats.max_split_size,
      "num_sync_all_streams"_a = stats.num_sync_all_streams,
      "num_device_alloc"_a = stats.num_device_alloc, "num_device_free"_a = stats.num_device_free,
      "allocation"_a = to_dict(stats.allocation), "segment"_a = to_dict(stats.segment),
      "active"_a = to_dict(stats.active), "inactive_split"_a = to_dict(stats.inactive_split),
      "allocated_bytes"_a = to_dict(stats.allocated_bytes),
      "reserved_bytes"_a = to_dict(stats.reserved_bytes),
      "active_bytes"_a = to_dict(stats.active_bytes),
      "inactive_split_bytes"_a = to_dict(stats.inactive_split_bytes),
      "requested_bytes"_a = to_dict(stats.requested_bytes),
      "oversize_allocations"_a = to_dict(stats.oversize_allocations),
      "oversize_segments"_a = to_dict(stats.oversize_segments));
  if constexpr (kStatisticsByPool) {
    py::dict pools;
    for (const auto& [id, pool] : stats.reserved_bytes_by_private_pools)
      pools[py::cast(id)] = to_dict(pool);
    result["reserved_bytes_by_private_pools"] = pools;
  }
  return result;
}

py::dict host_stats_dict() {
  const HostMemoryStats stats = host_memory_stats();
  return py::dict("num_host_alloc"_a = stats.num_alloc, "num_host_free"_a = stats.num_free,
                  "allocations"_a = to_dict(stats.allocations),
                  "allocated_bytes"_a = to_dict(stats.allocated_bytes),
                  "active_requests"_a = to_dict(stats.active_requests),
                  "active_bytes"_a = to_dict(stats.active_bytes),
                  "host_alloc_time"_a = to_dict(stats.alloc_time),
                  "host_free_time"_a = to_dict(stats.free_time));
}

// ---- stacks ----

StackContext gather_python() { return torch::CapturedTraceback::gather(true, true, false); }
StackContext gather_all() { return torch::CapturedTraceback::gather(true, true, true); }

// Collects the dictionaries that want a stack, and resolves all stacks at once: that is far
// cheaper, and equal stacks share their list.
class Frames {
 public:
  void attach(const py::dict& target, const StackContext& stack) {
    target["frames"] = py::list();
    if (auto* captured = dynamic_cast<torch::CapturedTraceback*>(stack.get()))
      targets_[captured].push_back(target);
  }

  void resolve() {
    std::vector<torch::CapturedTraceback*> stacks;
    for (auto& [stack, targets] : targets_) stacks.push_back(stack);
    if (stacks.empty()) return;
    const torch::SymbolizedTracebacks symbols = torch::symbolize(stacks);
    std::vector<py::dict> frames;
    for (const auto& frame : symbols.all_frames)
      frames.push_back(py::dict("name"_a = frame.funcname, "filename"_a = frame.filename,
                                "line"_a = frame.lineno));
    for (size_t i = 0; i < stacks.size(); ++i) {
      py::list list;
      for (uint64_t frame : symbols.tracebacks[i]) list.append(frames[frame]);
      for (py::dict& target : targets_[stacks[i]]) target["frames"] = list;
    }
  }

 private:
  std::unordered_map<torch::CapturedTraceback*, std::vector<py::dict>> targets_;
};

// ---- snapshots ----

py::dict segment_dict(const SegmentInfo& segment, Frames& frames) {
  py::list blocks;
  for (const BlockInfo& block : segment.blocks) {
    const char* state = block.allocated ? "active_allocated"
                        : block.active  ? "active_pending_free"
                                        : "inactive";
    py::dict dict("address"_a = block.address, "size"_a = block.size,
                  "requested_size"_a = block.requested_size, "state"_a = state);
    frames.attach(dict, block.stack);
    blocks.append(dict);
  }
  py::dict dict("device"_a = int(segment.device), "address"_a = segment.address,
                "total_size"_a = segment.total_size, "allocated_size"_a = segment.allocated_size,
                "active_size"_a = segment.active_size, "requested_size"_a = segment.requested_size,
                "stream"_a = segment.stream,
                "segment_type"_a = segment.is_large ? "large" : "small",
                "segment_pool_id"_a = segment.pool, "is_expandable"_a = false, "blocks"_a = blocks);
  frames.attach(dict, segment.stack);
  return dict;
}

py::dict trace_dict(const TraceEntry& entry, Frames& frames) {
  py::dict dict("action"_a = trace_action_name(entry.action), "size"_a = entry.size,
                "stream"_a = entry.stream, "time_us"_a = entry.time_us, "pool_id"_a = entry.pool,
                "compile_context"_a = entry.compile_context, "user_metadata"_a = entry.metadata);
  dict[entry.action == TraceAction::oom ? "device_free" : "addr"] = entry.address;
  frames.attach(dict, entry.stack);
  return dict;
}

py::dict settings_dict() {
  const AllocatorConfig& config = allocator_config();
  py::dict roundup;
  for (size_t i = 0; i < config.roundup_divisions.size(); ++i)
    roundup[py::str(std::to_string(size_t{1} << i))] = config.roundup_divisions[i];
  auto unused = [&](const char* key, const char* otherwise) {
    auto entry = config.unused.find(key);
    return entry == config.unused.end() ? std::string(otherwise) : entry->second;
  };
  return py::dict(
      "PYTORCH_CUDA_ALLOC_CONF"_a = config.settings,
      "max_split_size"_a = int64_t(config.max_split_size),
      "garbage_collection_threshold"_a = config.garbage_collection_threshold,
      "expandable_segments"_a = config.expandable_segments,
      "pinned_num_register_threads"_a = std::stoi(unused("pinned_num_register_threads", "1")),
      "release_lock_on_cudamalloc"_a = unused("release_lock_on_cudamalloc", "False") == "True",
      "pinned_use_cuda_host_register"_a =
          unused("pinned_use_cuda_host_register", "False") == "True",
      "graph_capture_record_stream_reuse"_a =
          unused("graph_capture_record_stream_reuse", "False") == "True",
      "roundup_power2_divisions"_a = roundup);
}

py::dict snapshot_dict(PoolId pool, bool traces) {
  const MemorySnapshot snapshot = memory_snapshot(pool, traces);
  Frames frames;
  py::list segments, device_traces;
  for (const SegmentInfo& segment : snapshot.segments)
    segments.append(segment_dict(segment, frames));
  for (size_t device = 0; device < size_t(device_count()); ++device) {
    py::list list;
    if (device < snapshot.traces.size())
      for (const TraceEntry& entry : snapshot.traces[device])
        list.append(trace_dict(entry, frames));
    device_traces.append(list);
  }
  frames.resolve();
  return py::dict("segments"_a = segments, "device_traces"_a = device_traces,
                  "allocator_settings"_a = settings_dict(), "external_annotations"_a = py::list());
}

void record(bool enabled, const std::string& when, bool cpp_frames, int64_t max_entries, bool clear,
            const std::vector<std::string>& skip_actions) {
  HistoryOptions options;
  options.enabled = enabled;
  options.gather = cpp_frames ? gather_all : gather_python;
  options.max_entries = size_t(max_entries);
  options.clear = clear;
  options.when = when == "all"     ? RecordStack::all
                 : when == "alloc" ? RecordStack::alloc
                 : when == "state" ? RecordStack::state
                                   : RecordStack::never;
  for (const std::string& name : skip_actions) {
    int action = 0;
    while (action < kTraceActions && name != trace_action_name(TraceAction(action))) ++action;
    TORCH_CHECK(action < kTraceActions, "Unknown TraceEntry action: ", name);
    options.skip[size_t(action)] = true;
  }
  if (enabled && cpp_frames) torch::unwind::unwind();  // its first call is slow
  record_history(options);
}

py::object traceback_of(size_t pointer) {
  StackContext stack = allocation_stack(reinterpret_cast<const void*>(pointer));
  if (!stack) return py::none();
  py::dict holder;
  Frames frames;
  frames.attach(holder, stack);
  frames.resolve();
  return holder["frames"];
}

void attach_observer(py::function observer) {
  // Never destroyed: the interpreter may be gone by then.
  auto* held = new py::function(std::move(observer));
  attach_out_of_memory_observer([held](int64_t device, size_t bytes, size_t limit, size_t free) {
    py::gil_scoped_acquire gil;
    (*held)(device, bytes, limit, free);
  });
}

// ---- pools ----

// Puts the pool back as it was. Storages that died since, in the eyes of the graph (`stale`), no
// longer own their memory; those in `revived` own again what they point to.
void restore(int64_t device, const PoolCheckpoint& checkpoint, const std::vector<size_t>& stale,
             const std::vector<size_t>& revived) {
  auto storage = [](size_t address) -> c10::StorageImpl& {
    return *reinterpret_cast<c10::StorageImpl*>(address);
  };
  RestoredPool restored = restore_pool(checked_index(device), checkpoint);
  const std::unordered_set<const void*> freed(restored.freed.begin(), restored.freed.end());
  std::unordered_map<const void*, Block*> blocks;
  for (Block* block : restored.restored) blocks[data(block)] = block;
  size_t gone = 0;
  for (const void* address : freed) {
    auto block = blocks.find(address);
    adopt_address(address, block == blocks.end() ? nullptr : block->second);
    gone += block == blocks.end();
  }
  for (const auto& [address, block] : blocks) adopt_address(address, block);
  const std::unordered_set<size_t> given(stale.begin(), stale.end());
  TORCH_CHECK(given.size() >= gone,
              "Any stale tensors which are being manually freed must be passed to set checkpoint");
  for (size_t address : given) {
    TORCH_CHECK(freed.count(storage(address).data_ptr().get()),
                "a stale storage points to memory that was not in use in the pool");
    TORCH_CHECK(disown_memory(storage(address)),
                "Unexpected deleter function on storage, could not swap function");
  }
  for (size_t address : revived) {
    auto block = blocks.find(storage(address).data_ptr().get());
    if (block != blocks.end()) own_memory(storage(address), block->second);
  }
}

void bind_pools(py::module_& m) {
  m.def("new_pool_id", &new_pool_id);
  m.def("acquire_pool", [](int64_t device, PoolId id) { acquire_pool(checked_index(device), id); });
  m.def("release_pool", [](int64_t device, PoolId id) { release_pool(checked_index(device), id); });
  m.def("pool_use_count",
        [](int64_t device, PoolId id) { return pool_use_count(checked_index(device), id); });
  m.def("set_pool_use_on_oom", [](int64_t device, PoolId id, bool use_on_oom) {
    set_pool_use_on_oom(checked_index(device), id, use_on_oom);
  });
  m.def("set_pool_no_split",
        [](int64_t device, PoolId id) { set_pool_no_split(checked_index(device), id); });
  m.def("begin_allocate_to_pool", [](int64_t device, PoolId id) {
    begin_allocate_to_pool(checked_index(device), id, [](c10::Stream) { return true; });
  });
  m.def("begin_allocate_thread_to_pool", [](int64_t device, PoolId id) {
    begin_allocate_thread_to_pool(checked_index(device), id);
  });
  m.def("begin_allocate_stream_to_pool", [](int64_t device, PoolId id) {
    begin_allocate_to_pool(checked_index(device), id,
                           [current = current_stream(checked_index(device))](c10::Stream stream) {
                             return stream.id() == current.id();
                           });
  });
  m.def("end_allocate_to_pool",
        [](int64_t device, PoolId id) { end_allocate_to_pool(checked_index(device), id); });
  m.def("pool_live_blocks_equal",
        [](int64_t device, PoolId id, const std::vector<size_t>& addresses) {
          std::vector<const void*> pointers;
          for (size_t address : addresses)
            pointers.push_back(reinterpret_cast<const void*>(address));
          return pool_live_blocks_equal(checked_index(device), id, pointers);
        });
  py::class_<PoolCheckpoint, std::shared_ptr<PoolCheckpoint>>(m, "PoolCheckpoint");
  m.def("checkpoint_pool",
        [](int64_t device, PoolId id) { return checkpoint_pool(checked_index(device), id); });
  m.def("restore_pool", &restore);
}

// ---- raw memory ----

size_t raw_allocate(size_t bytes, int64_t stream) {
  return reinterpret_cast<size_t>(data(allocate(current_device(), stream, bytes)));
}

void raw_release(size_t pointer) {
  if (!pointer) return;
  Block* block = find_block(reinterpret_cast<const void*>(pointer));
  TORCH_CHECK(block, "invalid device pointer: ", reinterpret_cast<const void*>(pointer));
  release(block);
}

using Handle = std::tuple<int64_t, int64_t, uint64_t, size_t, size_t>;

Handle share_pointer(size_t pointer) {
  Block* block = find_containing_block(reinterpret_cast<const void*>(pointer));
  TORCH_CHECK(block, "invalid device pointer: ", reinterpret_cast<const void*>(pointer));
  SharedMemoryHandle handle = share(block);
  return {handle.pid, handle.fd, handle.inode, handle.size, handle.offset};
}

size_t open_handle(const Handle& handle) {
  const auto& [pid, fd, inode, size, offset] = handle;
  return reinterpret_cast<size_t>(open_shared({pid, fd, inode, size, offset}));
}

void bind_raw(py::module_& m) {
  m.def("raw_allocate", &raw_allocate);
  m.def("raw_release", &raw_release);
  m.def("share_memory", &share_pointer);
  m.def("open_shared_memory", &open_handle);
  m.def("close_shared_memory",
        [](size_t pointer) { close_shared(reinterpret_cast<const void*>(pointer)); });
  m.def("pinned_allocator", [] { return reinterpret_cast<size_t>(pinned_allocator()); });
  m.def("register_pinned", [](size_t pointer, size_t bytes) {
    return register_pinned(reinterpret_cast<const void*>(pointer), bytes);
  });
  m.def("unregister_pinned",
        [](size_t pointer) { return unregister_pinned(reinterpret_cast<const void*>(pointer)); });
}

}  // namespace

void bind_memory(py::module_& m) {
  m.def("set_capacity",
        [](int64_t device, size_t bytes) { set_capacity(checked_index(device), bytes); });
  m.def("memory_info", [](int64_t device) { return memory_info(checked_index(device)); });
  m.def("memory_fraction", [](int64_t device) { return memory_fraction(checked_index(device)); });
  m.def("set_memory_fraction", [](double fraction, int64_t device) {
    set_memory_fraction(checked_index(device), fraction);
  });
  m.def("report_memory_use", &report_memory_use);
  m.def("set_caching", &set_caching);
  m.def("caching", &caching);
  m.def("resize_storage", [](const c10::Storage& storage, size_t bytes) {
    resize_storage(*storage.unsafeGetStorageImpl(), bytes);
  });
  m.def("empty_cache", &empty_cache, "pool"_a = PoolId{0, 0},
        py::call_guard<py::gil_scoped_release>());
  m.def("set_allocator_settings", &set_allocator_settings);

  m.def("memory_stats", &stats_dict);
  m.def("reset_accumulated_stats",
        [](int64_t device) { reset_accumulated_stats(checked_index(device)); });
  m.def("reset_peak_stats", [](int64_t device) { reset_peak_stats(checked_index(device)); });
  m.def("host_memory_stats", &host_stats_dict);
  m.def("reset_accumulated_host_stats", &reset_accumulated_host_stats);
  m.def("reset_peak_host_stats", &reset_peak_host_stats);
  m.def("empty_host_cache", &empty_host_cache);

  m.def("memory_snapshot", &snapshot_dict);
  m.def("record_history", &record);
  m.def("history_enabled", &history_enabled);
  m.def("allocation_traceback", &traceback_of);
  m.def("set_memory_metadata", &set_memory_metadata);
  m.def("memory_metadata", &memory_metadata);
  m.def("attach_out_of_memory_observer", &attach_observer);
  bind_pools(m);
  bind_raw(m);
}

}  // namespace heitu
