// Which device memory is in use, for a build with AddressSanitizer: by itself it knows malloc's
// only.
#pragma once

#include <cstddef>

#ifdef __has_feature  // clang
#if __has_feature(address_sanitizer)
#define HEITU_ADDRESS_SANITIZER
#endif
#elif defined(__SANITIZE_ADDRESS__)  // gcc
#define HEITU_ADDRESS_SANITIZER
#endif

#ifdef HEITU_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace heitu {

// Every access from here on is an error.
inline void poison([[maybe_unused]] char* address, [[maybe_unused]] size_t bytes) noexcept {
#ifdef HEITU_ADDRESS_SANITIZER
  __asan_poison_memory_region(address, bytes);
#endif
}

inline void unpoison([[maybe_unused]] char* address, [[maybe_unused]] size_t bytes) noexcept {
#ifdef HEITU_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(address, bytes);
#endif
}

}  // namespace heitu
