// Device memory as CUDA keeps it: a caching allocator over host pages.
//
// Requests are rounded to 512 bytes and served from segments (2 MiB for requests up to 1 MiB, 20
// MiB below 10 MiB, otherwise one of their own); freed blocks are kept per stream and reused, so
// their pages stay faulted in. The numbers and rules are those of PyTorch's native CUDA allocator
// (docs.pytorch.org, "CUDA semantics", memory management).
//
// All functions are thread-safe; none needs the GIL.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace heitu {

struct Block;  // one allocation

// ---- allocating ----

// Memory for `bytes` on the stream; null for 0 bytes. Throws c10::OutOfMemoryError with CUDA's
// text.
Block* allocate(c10::DeviceIndex device, c10::StreamId stream, size_t bytes);
// Gives a block back; a c10::DeleterFnPtr whose context is the Block*. Null is ignored.
void release(void* block) noexcept;
// Base address; null for null.
void* data(const Block* block) noexcept;
// Rounded size in bytes.
size_t block_size(const Block* block) noexcept;
c10::Device block_device(const Block* block) noexcept;
// The live block that begins at `ptr`, or null. Walks one segment: not for hot paths.
Block* find_block(const void* ptr);
// The live block that contains `ptr`, or null.
Block* find_containing_block(const void* ptr);
// Delays reuse of the block's memory until `stream` is idle after the release.
void record_stream(Block* block, c10::Stream stream);
// Tells whether a recorded stream's work is over; default: always.
void set_stream_idle(bool (*stream_idle)(c10::Stream));

// Whether torch's profilers hear of each allocation; finding out if one listens takes a third of
// the time of an allocation, so the switch stays off until a profiler was started. On by default.
void report_memory_use(bool enabled);

// False: every release returns its memory to the system at once (PYTORCH_NO_CUDA_MEMORY_CACHING).
void set_caching(bool enabled);
bool caching();

// ---- capacity ----

// Bytes of memory of the device.
void set_capacity(c10::DeviceIndex device, size_t bytes);
// (free, total) in bytes; free = total - reserved.
std::pair<size_t, size_t> memory_info(c10::DeviceIndex device);
// Limits the process to a fraction (0..1) of the capacity.
void set_memory_fraction(c10::DeviceIndex device, double fraction);
double memory_fraction(c10::DeviceIndex device);

// ---- pools ----

// {graph capture's, user's}; exactly one is not 0. {0, 0} is the device's default pool.
using PoolId = std::pair<unsigned long long, unsigned long long>;
using StreamFilter = std::function<bool(c10::Stream)>;

PoolId new_pool_id(bool user_created);
// Creates the pool or adds a use.
void acquire_pool(c10::DeviceIndex device, PoolId pool);
// Drops a use; at 0 the pool's memory may be returned to the system.
void release_pool(c10::DeviceIndex device, PoolId pool);
int pool_use_count(c10::DeviceIndex device, PoolId pool);
void set_pool_use_on_oom(c10::DeviceIndex device, PoolId pool, bool use_on_oom);
void set_pool_no_split(c10::DeviceIndex device, PoolId pool);
// Routes allocations whose stream passes the filter to the pool, and adds a use of it. The filter
// is called with the allocator's lock held, on the allocating thread.
void begin_allocate_to_pool(c10::DeviceIndex device, PoolId pool, StreamFilter filter);
void begin_allocate_thread_to_pool(c10::DeviceIndex device, PoolId pool);  // calling thread's
// Ends the routing; the use stays until release_pool.
void end_allocate_to_pool(c10::DeviceIndex device, PoolId pool);
// Whether the live blocks of the pool are exactly those that begin at `addresses`.
bool pool_live_blocks_equal(c10::DeviceIndex device, PoolId pool,
                            const std::vector<const void*>& addresses);

// Returns cached memory to the system; of one pool, or with {0, 0} all that may be returned.
void empty_cache(PoolId pool = {0, 0});

// A pool's layout at one moment, and the way back to it (torch._C._cuda_setCheckpointPoolState).
struct PoolCheckpoint {
  struct BlockLayout {
    char* address;
    size_t size, requested;
    bool live;
  };
  struct SegmentLayout {
    char* base;
    std::vector<BlockLayout> blocks;
  };
  PoolId pool;
  std::vector<SegmentLayout> segments;
};
std::shared_ptr<PoolCheckpoint> checkpoint_pool(c10::DeviceIndex device, PoolId pool);
struct RestoredPool {
  std::vector<void*> freed;      // addresses whose blocks were live before
  std::vector<Block*> restored;  // blocks live now, owned by the caller
};
RestoredPool restore_pool(c10::DeviceIndex device, const PoolCheckpoint& checkpoint);

// ---- statistics ----

struct Stat {
  int64_t current = 0;
  int64_t peak = 0;
  int64_t allocated = 0;  // sum of increases
  int64_t freed = 0;      // sum of decreases
};
using StatArray = std::array<Stat, 3>;  // all, small pool, large pool

struct MemoryStats {
  StatArray allocation, segment, active, inactive_split;  // counts
  StatArray allocated_bytes, reserved_bytes, active_bytes, inactive_split_bytes, requested_bytes;
  std::map<PoolId, StatArray> reserved_bytes_by_private_pools;
  Stat oversize_allocations, oversize_segments;
  int64_t num_alloc_retries = 0;
  int64_t num_ooms = 0;
  int64_t num_sync_all_streams = 0;
  int64_t num_device_alloc = 0;
  int64_t num_device_free = 0;
  int64_t num_oom_rejections = 0;
  int64_t max_split_size = 0;  // bytes; -1: unlimited
};

MemoryStats memory_stats(c10::DeviceIndex device);
void reset_accumulated_stats(c10::DeviceIndex device);
void reset_peak_stats(c10::DeviceIndex device);

// ---- history and snapshots ----

using StackContext = std::shared_ptr<c10::GatheredContext>;
using GatherStack = StackContext (*)();

enum class RecordStack { never, state, alloc, all };

enum class TraceAction {
  alloc,
  free_requested,
  free_completed,
  segment_alloc,
  segment_free,
  segment_map,
  segment_unmap,
  snapshot,
  oom
};
constexpr int kTraceActions = 9;
const char* trace_action_name(TraceAction action);

struct TraceEntry {
  TraceAction action;
  c10::DeviceIndex device;
  size_t address;  // of an out-of-memory error: bytes free on the device
  size_t size;
  c10::StreamId stream;
  PoolId pool;
  int64_t time_us;  // since the epoch
  StackContext stack;
  std::string compile_context;
  std::string metadata;
};

struct BlockInfo {
  size_t address, size, requested_size;
  bool allocated, active;
  StackContext stack;
};

struct SegmentInfo {
  c10::DeviceIndex device;
  size_t address, total_size, requested_size, allocated_size, active_size;
  c10::StreamId stream;
  bool is_large;
  PoolId pool;
  StackContext stack;
  std::vector<BlockInfo> blocks;
};

struct MemorySnapshot {
  std::vector<SegmentInfo> segments;            // by device and address
  std::vector<std::vector<TraceEntry>> traces;  // a list per device
};

struct HistoryOptions {
  bool enabled = false;
  GatherStack gather = nullptr;
  size_t max_entries = 1;
  RecordStack when = RecordStack::never;
  bool clear = false;
  std::array<bool, kTraceActions> skip{};
};

void record_history(const HistoryOptions& options);
bool history_enabled();
// Of one pool, or with {0, 0} of all.
MemorySnapshot memory_snapshot(PoolId pool = {0, 0}, bool traces = true);
StackContext allocation_stack(const void* ptr);
void set_memory_metadata(std::string metadata);
std::string memory_metadata();
void push_compile_context(std::string context);
void pop_compile_context();

// Called without locks held, before the error is thrown:
// (device, bytes asked for, limit in bytes, bytes free).
using OutOfMemoryObserver = std::function<void(int64_t, size_t, size_t, size_t)>;
void attach_out_of_memory_observer(OutOfMemoryObserver observer);

// ---- sharing between processes ----

// A place in another process's device memory; valid while that process keeps the block.
struct SharedMemoryHandle {
  int64_t pid = 0;
  int64_t fd = -1;     // of the memory file, in process `pid`
  uint64_t inode = 0;  // guards against a reused descriptor
  size_t size = 0;     // of the segment, bytes
  size_t offset = 0;   // of the block in the segment, bytes
};

// Turns the block's segment, in place, into memory other processes can map. Other threads must not
// write to the segment meanwhile.
SharedMemoryHandle share(Block* block);
// Maps it, or adds a reference to the mapping this process has. Throws c10::Error if it is gone.
void* open_shared(const SharedMemoryHandle& handle);
// Drops one reference; `ptr` is what open_shared returned.
void close_shared(const void* ptr);

// ---- c10 ----

// The allocator torch knows as the CUDA device's: on the current device and stream, with
// device-labelled DataPtrs. A c10::DeviceAllocator where torch has that class.
c10::Allocator& device_allocator();
// Registers it with c10, and the parser of PYTORCH_ALLOC_CONF with torch.
void register_device_allocator();

}  // namespace heitu
