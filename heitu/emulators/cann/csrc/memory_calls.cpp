// What programs ask of memory: taking, giving back, copying, filling, and mapping addresses by
// hand.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "acl.h"
#include "device.h"
#include "errors.h"
#include "memory.h"
#include "settings.h"

namespace heitu::cann {
namespace {

// Where a copy goes; default means that the addresses say it.
int check_direction(const void* to, const void* from, int kind) {
  const bool to_device = kind == kHostToDevice || kind == kDeviceToDevice;
  const bool from_device = kind == kDeviceToHost || kind == kDeviceToDevice;
  if (kind == kDefaultCopy) return kSuccess;
  const auto wrong = [](const char* which, bool device) {
    return fail(kInvalidParameter, std::string("copy: ") + which + " is declared to be " +
                                       (device ? "device" : "host") + " memory and is not");
  };
  if (is_device_address(to) != to_device) return wrong("the destination", to_device);
  if (is_device_address(from) != from_device) return wrong("the source", from_device);
  return kSuccess;
}

void copy(void* to, const void* from, size_t bytes) {
  std::memmove(kernel_range(to, bytes, "the destination of a copy"),
               kernel_range(from, bytes, "the source of a copy"), bytes);
}

int check_size(size_t capacity, size_t bytes) {
  if (bytes <= capacity) return kSuccess;
  return fail(kInvalidParameter, "copy of " + std::to_string(bytes) + " bytes into " +
                                     std::to_string(capacity) + " bytes");
}

struct Physical {
  int device;
  size_t bytes;
};

}  // namespace

HEITU_EXPORT int aclrtMalloc(void** address, size_t bytes, int) {
  *address = allocate(current_device(), bytes);
  if (*address != nullptr) return kSuccess;
  return fail(kMemoryAllocation, "npu:" + std::to_string(current_device()) + " has no " +
                                     std::to_string(bytes) + " bytes left of " +
                                     std::to_string(settings().memory_bytes) +
                                     " (HEITU_CANN_MEMORY)");
}

HEITU_EXPORT int aclrtMallocAlign32(void** address, size_t bytes, int policy) {
  return aclrtMalloc(address, bytes, policy);
}

HEITU_EXPORT int aclrtFree(void* address) {
  // As on the chip, what still uses the memory is done first.
  const auto found = find_allocation(address);
  if (!found) return fail(kInvalidParameter, "aclrtFree of an address that was not allocated");
  for (auto& stream : streams_of(found->device)) {
    if (!stream->capture()) stream->synchronize(-1);
  }
  release(address);
  return kSuccess;
}

HEITU_EXPORT int aclrtMallocHost(void** address, size_t bytes) {
  *address = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  return *address != nullptr ? kSuccess : fail(kMemoryAllocation, "no host memory");
}

HEITU_EXPORT int aclrtFreeHost(void* address) {
  std::free(address);
  return kSuccess;
}

HEITU_EXPORT int aclrtHostRegister(void* address, uint64_t, int, void** device_address) {
  *device_address = address;
  return kSuccess;
}

HEITU_EXPORT int aclrtHostRegisterV2(void*, uint64_t, uint32_t) { return kSuccess; }
HEITU_EXPORT int aclrtHostUnregister(void*) { return kSuccess; }

HEITU_EXPORT int aclrtGetMemInfo(int, size_t* free, size_t* total) {
  *total = settings().memory_bytes;
  *free = *total - used_memory(current_device());
  return kSuccess;
}

HEITU_EXPORT int aclrtGetDeviceInfo(uint32_t, int, int64_t* value) {
  *value = static_cast<int64_t>(settings().memory_bytes);
  return kSuccess;
}

HEITU_EXPORT int aclrtMemcpy(void* to, size_t capacity, const void* from, size_t bytes, int kind) {
  if (const int code = check_size(capacity, bytes)) return code;
  if (const int code = check_direction(to, from, kind)) return code;
  try {
    copy(to, from, bytes);
  } catch (const std::exception& error) {
    return fail(kInvalidParameter, error.what());
  }
  return kSuccess;
}

HEITU_EXPORT int aclrtMemcpyAsync(void* to, size_t capacity, const void* from, size_t bytes,
                                  int kind, void* stream) {
  if (const int code = check_size(capacity, bytes)) return code;
  if (const int code = check_direction(to, from, kind)) return code;
  stream_of(stream).submit([=] { copy(to, from, bytes); });
  return kSuccess;
}

HEITU_EXPORT int aclrtMemset(void* address, size_t capacity, int32_t value, size_t bytes) {
  if (const int code = check_size(capacity, bytes)) return code;
  try {
    std::memset(kernel_range(address, bytes, "the target of a fill"), value, bytes);
  } catch (const std::exception& error) {
    return fail(kInvalidParameter, error.what());
  }
  return kSuccess;
}

HEITU_EXPORT int aclrtMemsetAsync(void* address, size_t capacity, int32_t value, size_t bytes,
                                  void* stream) {
  if (const int code = check_size(capacity, bytes)) return code;
  stream_of(stream).submit(
      [=] { std::memset(kernel_range(address, bytes, "the target of a fill"), value, bytes); });
  return kSuccess;
}

HEITU_EXPORT int aclrtReserveMemAddress(void** address, size_t bytes, size_t, void*, uint64_t) {
  *address = reserve_addresses(current_device(), bytes);
  return *address != nullptr ? kSuccess : fail(kMemoryAllocation, "no address range is left");
}

HEITU_EXPORT int aclrtReleaseMemAddress(void* address) {
  return release(address) ? kSuccess : fail(kInvalidParameter, "the range was not reserved");
}

HEITU_EXPORT int aclrtMallocPhysical(void** handle, size_t bytes, const void*, uint64_t) {
  if (!take_memory(current_device(), bytes)) {
    return fail(kMemoryAllocation, "npu:" + std::to_string(current_device()) + " has no " +
                                       std::to_string(bytes) + " bytes left");
  }
  *handle = new Physical{current_device(), bytes};
  return kSuccess;
}

HEITU_EXPORT int aclrtFreePhysical(void* handle) {
  auto* memory = static_cast<Physical*>(handle);
  give_memory(memory->device, memory->bytes);
  delete memory;
  return kSuccess;
}

// Pages come with the addresses here, so there is nothing to map.
HEITU_EXPORT int aclrtMapMem(void*, size_t, size_t, void*, uint64_t) { return kSuccess; }
HEITU_EXPORT int aclrtUnmapMem(void*) { return kSuccess; }

}  // namespace heitu::cann
