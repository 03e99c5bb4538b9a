// Dry runs: programs too large for this machine are rehearsed without the values of large tensors.
// The tensors stay what they are, of the device or of the CPU, with memory that is mapped and
// accounted but never touched; an operator on them runs as its meta kernel, for the form of its
// results. Small tensors are computed as ever, so that counters, positions, masks and what programs
// decide by them stay right.
#pragma once

#include <ATen/core/boxing/KernelFunction.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <map>
#include <string>

namespace heitu {

// A tensor of more bytes than this has no values: what the allocator's small pool serves is
// computed, so large blocks stay untouched.
constexpr size_t kMostBytesComputed = size_t{1} << 20;
// Of integers that index, count or mask. (8-bit ones are weights of quantized models.)
constexpr size_t kMostIndexBytesComputed = size_t{16} << 20;

// Once, before the kernels are installed.
void begin_dry_run() noexcept;
bool dry_run() noexcept;

// Whether a tensor among them has no values in a dry run.
bool any_large(c10::ArrayRef<c10::IValue> values);

// The kernel that stands before `inner` in a dry run; `inner` itself outside of one.
c10::KernelFunction dry_kernel(const c10::OperatorHandle& op, c10::KernelFunction inner);

// Puts such kernels before those of the CPU, through which the device's operators run too.
void install_dry_kernels();

struct DryCounts {
  int64_t not_computed = 0;                // calls that ran as meta kernels
  std::map<std::string, int64_t> in_full;  // calls on large tensors that have no other way
};
DryCounts dry_counts();

// ---- memory of CPU tensors ----

// Pages that nothing is reserved for; null if the system has no addresses left.
void* map_untouched(size_t bytes);
// False if `address` is not of map_untouched.
bool unmap_untouched(void* address) noexcept;

}  // namespace heitu
