// Device memory. The addresses that programs hold cannot be read or written by the host; kernels
// use a second mapping of the same pages, so whatever touches device memory in another way is
// caught.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace heitu::cann {

struct Allocation {
  uintptr_t base;
  size_t bytes;
  int device;
};

// Takes `bytes` of a device's memory; null where it has no more.
void* allocate(int device, size_t bytes);
// Gives it back; false where it was not taken.
bool release(void* address);

// An address range with no memory behind it yet, and the memory itself, for callers that map one to
// the other.
void* reserve_addresses(int device, size_t bytes);
bool take_memory(int device, size_t bytes);
void give_memory(int device, size_t bytes);

bool is_device_address(const void* address);
// The allocation that holds `address`.
std::optional<Allocation> find_allocation(const void* address);
// Where kernels read and write `address`; host addresses stay what they are.
void* kernel_address(const void* address);
// The same for a copy of `bytes`; throws std::runtime_error where they exceed the allocation.
void* kernel_range(const void* address, size_t bytes, const std::string& what);

size_t used_memory(int device);

}  // namespace heitu::cann
