// Pinned host memory, cached as CUDA's host allocator does: blocks of powers of two, kept after
// use.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator.h"

namespace heitu {

// Of torch's pin_memory; where torch has at::HostAllocator, it is one.
c10::Allocator* pinned_allocator();
// Whether `ptr` points into a pinned block in use, or into memory registered by register_pinned.
bool is_pinned(const void* ptr);
// Keeps a pinned block from being handed out again before the work queued on the stream is done.
// False if `ptr` is in no such block.
bool record_pinned_use(const void* ptr, c10::Stream stream);

// cudaHostRegister and cudaHostUnregister; false if it is registered already, or not.
bool register_pinned(const void* ptr, size_t bytes);
bool unregister_pinned(const void* ptr);

// Microseconds.
struct DurationStat {
  int64_t total = 0, max = 0, min = 0, count = 0;
};

struct HostMemoryStats {
  Stat allocations, allocated_bytes;   // blocks that exist, and their bytes
  Stat active_requests, active_bytes;  // of these, in use
  DurationStat alloc_time, free_time;  // of taking from the system, of giving back
  int64_t num_alloc = 0, num_free = 0;
};

HostMemoryStats host_memory_stats();
void reset_accumulated_host_stats();
void reset_peak_host_stats();
// Returns cached blocks to the system.
void empty_host_cache();

}  // namespace heitu
