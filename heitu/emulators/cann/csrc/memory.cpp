#include "memory.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <vector>

#include "settings.h"

namespace heitu::cann {
namespace {

constexpr size_t kAlignment = 512;
constexpr size_t kPage = 4096;
// Growing segments reserve addresses for a device's whole memory each, and there is one a stream.
constexpr size_t kAddressesPerByte = 16;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

struct sigaction previous_handler;
std::atomic<uintptr_t> arena_begin{0};
std::atomic<uintptr_t> arena_end{0};

// Only what a signal handler may call.
void on_segmentation_fault(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  if (address >= arena_begin.load() && address < arena_end.load()) {
    char text[200];
    const int length = std::snprintf(text, sizeof text,
                                     "heitu: host access to device memory at 0x%zx: the CPU read "
                                     "or wrote an address of the npu. "
                                     "Copy the tensor with .cpu() first.\n",
                                     static_cast<size_t>(address));
    [[maybe_unused]] const auto written = write(2, text, static_cast<size_t>(length));
  }
  if (previous_handler.sa_flags & SA_SIGINFO) {
    previous_handler.sa_sigaction(signal, info, context);
  } else {
    sigaction(SIGSEGV, &previous_handler,
              nullptr);  // the access is tried again and ends the process
  }
}

// All devices' addresses are one range, so that one addition leads from an address to its pages.
class Arena {
 public:
  Arena()
      : span_(round_up(settings().memory_bytes, kPage) * kAddressesPerByte),
        used_(settings().devices) {
    const size_t total = span_ * static_cast<size_t>(settings().devices);
    const int file = memfd_create("heitu-cann", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(total)) != 0) throw std::bad_alloc();
    void* pages = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    void* addresses =
        mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED || addresses == MAP_FAILED) throw std::bad_alloc();
    pages_ = reinterpret_cast<uintptr_t>(pages);
    begin_ = reinterpret_cast<uintptr_t>(addresses);
    arena_begin = begin_;
    arena_end = begin_ + total;
    for (int device = 0; device < settings().devices; ++device) {
      free_.push_back({{begin_ + span_ * static_cast<size_t>(device), span_}});
    }
    struct sigaction handler = {};
    handler.sa_sigaction = on_segmentation_fault;
    handler.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &handler, &previous_handler);
  }

  bool contains(uintptr_t address) const { return address >= begin_ && address < arena_end; }
  uintptr_t page_address(uintptr_t address) const { return address - begin_ + pages_; }

  void* reserve(int device, size_t bytes, bool counted) {
    std::lock_guard<std::mutex> lock(mutex_);
    // Kernels may read a little past the end, as they may on the chip.
    const size_t size = round_up(std::max<size_t>(bytes, 1) + 32, kAlignment);
    auto& used = used_[static_cast<size_t>(device)];
    if (counted && used + size > settings().memory_bytes) return nullptr;
    auto& gaps = free_[static_cast<size_t>(device)];
    const auto gap =
        std::find_if(gaps.begin(), gaps.end(), [&](auto& entry) { return entry.second >= size; });
    if (gap == gaps.end()) return nullptr;
    const uintptr_t base = gap->first;
    const size_t left = gap->second - size;
    gaps.erase(gap);
    if (left > 0) gaps[base + size] = left;
    taken_[base] = {base, bytes, device};
    sizes_[base] = {size, counted};
    if (counted) used += size;
    return reinterpret_cast<void*>(base);
  }

  bool release(uintptr_t base) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = taken_.find(base);
    if (found == taken_.end()) return false;
    const auto [size, counted] = sizes_[base];
    const auto device = static_cast<size_t>(found->second.device);
    if (counted) used_[device] -= size;
    // Whole pages go back to the system; what they held is zero from now on.
    const uintptr_t first = round_up(page_address(base), kPage);
    const uintptr_t last = page_address(base + size) / kPage * kPage;
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_REMOVE);
    taken_.erase(found);
    sizes_.erase(base);
    give_back(free_[device], base, size);
    return true;
  }

  bool count(int device, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& used = used_[static_cast<size_t>(device)];
    if (used + bytes > settings().memory_bytes) return false;
    used += bytes;
    return true;
  }

  void uncount(int device, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    used_[static_cast<size_t>(device)] -= bytes;
  }

  std::optional<Allocation> find(uintptr_t address) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto after = taken_.upper_bound(address);
    if (after == taken_.begin()) return std::nullopt;
    const Allocation& found = std::prev(after)->second;
    if (address > found.base + found.bytes) return std::nullopt;
    return found;
  }

  size_t used(int device) {
    std::lock_guard<std::mutex> lock(mutex_);
    return used_[static_cast<size_t>(device)];
  }

 private:
  using Gaps = std::map<uintptr_t, size_t>;

  static void give_back(Gaps& gaps, uintptr_t base, size_t size) {
    auto [place, _] = gaps.emplace(base, size);
    const auto next = std::next(place);
    if (next != gaps.end() && base + size == next->first) {
      place->second += next->second;
      gaps.erase(next);
    }
    if (place != gaps.begin()) {
      const auto before = std::prev(place);
      if (before->first + before->second == place->first) {
        before->second += place->second;
        gaps.erase(place);
      }
    }
  }

  size_t span_;  // of one device's addresses: more than its memory, so that gaps do not matter
  uintptr_t begin_ = 0;
  uintptr_t pages_ = 0;
  std::mutex mutex_;
  std::vector<Gaps> free_;
  std::map<uintptr_t, Allocation> taken_;
  std::map<uintptr_t, std::pair<size_t, bool>> sizes_;
  std::vector<size_t> used_;
};

Arena& arena() {
  static auto* only = new Arena;  // outlives the threads of streams
  return *only;
}

uintptr_t number(const void* address) { return reinterpret_cast<uintptr_t>(address); }

}  // namespace

void* allocate(int device, size_t bytes) { return arena().reserve(device, bytes, true); }
void* reserve_addresses(int device, size_t bytes) { return arena().reserve(device, bytes, false); }
bool release(void* address) { return arena().release(number(address)); }
bool take_memory(int device, size_t bytes) { return arena().count(device, bytes); }
void give_memory(int device, size_t bytes) { arena().uncount(device, bytes); }
bool is_device_address(const void* address) { return arena().contains(number(address)); }
size_t used_memory(int device) { return arena().used(device); }

std::optional<Allocation> find_allocation(const void* address) {
  return is_device_address(address) ? arena().find(number(address)) : std::nullopt;
}

void* kernel_address(const void* address) {
  const uintptr_t place = number(address);
  return reinterpret_cast<void*>(arena().contains(place) ? arena().page_address(place) : place);
}

void* kernel_range(const void* address, size_t bytes, const std::string& what) {
  if (is_device_address(address)) {
    const auto found = find_allocation(address);
    if (!found) throw std::runtime_error(what + " is device memory that is not allocated");
    if (number(address) + bytes > found->base + found->bytes + 32) {
      throw std::runtime_error(what + ": " + std::to_string(bytes) + " bytes reach beyond the " +
                               std::to_string(found->bytes) + " bytes allocated");
    }
  }
  return kernel_address(address);
}

}  // namespace heitu::cann
