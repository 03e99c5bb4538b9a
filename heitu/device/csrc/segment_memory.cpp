#include "segment_memory.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <string>

#include "dry.h"
#include "sanitizer.h"

namespace heitu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

std::atomic<int64_t> mapped_bytes{0};

int64_t read_number(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : kNoLimit;  // "max" is no number
}

// "Key:  value kB" of /proc/meminfo, or "key value" of memory.stat.
int64_t read_field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  int64_t value = 0;
  while (file >> name >> value) {
    if (name == key) return value;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return -1;
}

// What the memory control groups of this process leave, version 2 or 1.
class ControlGroup {
 public:
  ControlGroup() {
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
      size_t controllers = line.find(':');
      size_t path = line.find(':', controllers + 1);
      if (path == std::string::npos) continue;
      std::string names = line.substr(controllers + 1, path - controllers - 1);
      if (names.empty()) {
        add_version2("/sys/fs/cgroup", line.substr(path + 1));
      } else if (names == "memory") {
        // In a container the group's own directory is often mounted at the top.
        add_version1("/sys/fs/cgroup/memory" + line.substr(path + 1));
        add_version1("/sys/fs/cgroup/memory");
      }
    }
  }

  int64_t room() const {
    int64_t room = kNoLimit;
    for (const Group& group : groups_) {
      int64_t limit = read_number(group.limit), used = read_number(group.usage);
      if (limit == kNoLimit || used == kNoLimit || limit > int64_t{1} << 60) continue;
      int64_t reclaimable = std::max<int64_t>(0, read_field(group.stat, group.reclaimable));
      room = std::min(room, std::max<int64_t>(0, limit - used + reclaimable));
    }
    return room;
  }

 private:
  struct Group {
    std::string limit, usage, stat, reclaimable;
  };

  void add_version2(const std::string& root, std::string path) {
    // A limit may be set on any ancestor.
    for (;;) {
      std::string group = root + (path == "/" ? "" : path);
      if (access((group + "/memory.max").c_str(), R_OK) == 0)
        groups_.push_back({group + "/memory.max", group + "/memory.current", group + "/memory.stat",
                           "inactive_file"});
      size_t parent = path.rfind('/');
      if (path.size() <= 1 || parent == std::string::npos) return;
      path = parent ? path.substr(0, parent) : "/";
    }
  }

  void add_version1(const std::string& group) {
    if (access((group + "/memory.limit_in_bytes").c_str(), R_OK) == 0)
      groups_.push_back({group + "/memory.limit_in_bytes", group + "/memory.usage_in_bytes",
                         group + "/memory.stat", "total_inactive_file"});
  }

  std::vector<Group> groups_;
};

// Pages of this process that no file backs, in bytes.
int64_t anonymous_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0, shared = 0;
  if (!(file >> total >> resident >> shared)) return 0;
  return (resident - shared) * sysconf(_SC_PAGESIZE);
}

class HostRoom {
 public:
  bool take(int64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto now = std::chrono::steady_clock::now();
    if (bytes > room_ || now - looked_at_ > kTrust) {
      look();
      looked_at_ = now;
    }
    if (bytes > room_) return false;
    room_ -= bytes;
    return true;
  }

  int64_t room() {
    std::lock_guard<std::mutex> lock(mutex_);
    return room_;
  }

 private:
  static constexpr std::chrono::milliseconds kTrust{100};

  void look() {
    int64_t total = read_field("/proc/meminfo", "MemTotal:");
    int64_t available = read_field("/proc/meminfo", "MemAvailable:");
    if (total < 0 || available < 0) {  // no /proc: the system's refusal must do
      room_ = kNoLimit;
      return;
    }
    int64_t resident = anonymous_bytes();
    int64_t mapped = mapped_bytes.load(std::memory_order_relaxed);
    if (baseline_ < 0) baseline_ = std::max<int64_t>(0, resident - mapped);
    int64_t touched = std::clamp<int64_t>(resident - baseline_, 0, mapped);
    int64_t margin = std::min<int64_t>(total * 1024 / 32, int64_t{1} << 30);
    room_ = std::min(available * 1024, group_.room()) - (mapped - touched) - margin;
    room_ = std::max<int64_t>(room_, 0);
  }

  std::mutex mutex_;
  ControlGroup group_;
  int64_t baseline_ = -1;  // anonymous bytes of the process apart from device memory
  int64_t room_ = 0;
  std::chrono::steady_clock::time_point looked_at_{};
};

HostRoom& host() {
  static HostRoom* room = new HostRoom;  // outlives every other static
  return *room;
}

}  // namespace

char* map_pages(size_t bytes) {
  void* region = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) return nullptr;
  auto start = reinterpret_cast<uintptr_t>(region);
  uintptr_t aligned = (start + kHugePage - 1) & ~(kHugePage - 1);
  if (aligned > start) munmap(region, aligned - start);
  size_t tail = start + kHugePage - aligned;
  if (tail) munmap(reinterpret_cast<void*>(aligned + bytes), tail);
  auto* base = reinterpret_cast<char*>(aligned);
  // Advice: kernels without it keep small pages. In a dry run few bytes of many are touched.
  madvise(base, bytes, dry_run() ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
  mapped_bytes.fetch_add(int64_t(bytes), std::memory_order_relaxed);
  return base;
}

void unmap_pages(char* base, size_t bytes) noexcept {
  unpoison(base, bytes);  // for whoever is given the addresses next
  munmap(base, bytes);
  mapped_bytes.fetch_sub(int64_t(bytes), std::memory_order_relaxed);
}

bool host_has_room(size_t bytes) {
  return bytes <= size_t(kNoLimit) && (dry_run() || host().take(int64_t(bytes)));
}

size_t host_room() { return size_t(host().room()); }

// ---- sharing ----

void make_shareable(Segment& segment) {
  if (segment.fd >= 0) return;
  unpoison(segment.base, segment.size);
  int fd = memfd_create("heitu-device-memory", MFD_CLOEXEC);
  auto fail = [&](const char* step) {
    std::string reason = std::strerror(errno);
    if (fd >= 0) close(fd);
    TORCH_CHECK(false, "CUDA IPC: cannot turn the segment of ", segment.size,
                " bytes into shared memory (", step, ": ", reason, ")");
  };
  if (fd < 0) fail("memfd_create");
  if (ftruncate(fd, off_t(segment.size)) != 0) fail("ftruncate");
  struct stat status{};
  if (fstat(fd, &status) != 0) fail("fstat");
  // Only pages that were touched are copied; the file reads as zeros elsewhere, as they would.
  const size_t page = size_t(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> resident(kHugePage / page);
  for (size_t offset = 0; offset < segment.size; offset += kHugePage) {
    size_t bytes = std::min(kHugePage, segment.size - offset);
    if (mincore(segment.base + offset, bytes, resident.data()) == 0 &&
        std::none_of(resident.begin(), resident.begin() + ptrdiff_t((bytes + page - 1) / page),
                     [](unsigned char in_core) { return in_core & 1; }))
      continue;
    for (size_t done = 0; done < bytes;) {
      ssize_t written =
          pwrite(fd, segment.base + offset + done, bytes - done, off_t(offset + done));
      if (written <= 0) fail("pwrite");
      done += size_t(written);
    }
  }
  if (mmap(segment.base, segment.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
      MAP_FAILED)
    fail("mmap");
  segment.fd = fd;
  segment.inode = status.st_ino;
}

void close_memory_file(Segment& segment) noexcept {
  if (segment.fd >= 0) close(segment.fd);
  segment.fd = -1;
}

namespace {

struct OpenedSegment {
  char* base;
  size_t size;
  int references;
};

std::mutex opened_mutex;
std::map<std::pair<int64_t, uint64_t>, OpenedSegment>& opened() {
  static auto* segments = new std::map<std::pair<int64_t, uint64_t>, OpenedSegment>;
  return *segments;
}

}  // namespace

void* open_shared(const SharedMemoryHandle& handle) {
  std::lock_guard<std::mutex> lock(opened_mutex);
  auto [entry, fresh] = opened().try_emplace({handle.pid, handle.inode}, OpenedSegment{});
  if (fresh) {
    std::string path = "/proc/" + std::to_string(handle.pid) + "/fd/" + std::to_string(handle.fd);
    int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    struct stat status{};
    bool same = fd >= 0 && fstat(fd, &status) == 0 && status.st_ino == handle.inode;
    void* base =
        same ? mmap(nullptr, handle.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    std::string reason = fd < 0 || same ? std::strerror(errno) : "its memory was released";
    if (fd >= 0) close(fd);
    if (base == MAP_FAILED) {
      opened().erase(entry);
      TORCH_CHECK(
          false, "CUDA IPC: cannot open ", handle.size, " bytes of process ", handle.pid, " (",
          path, ": ", reason,
          "). The sending process must be alive, run as the same user and keep the tensor.");
    }
    entry->second = {static_cast<char*>(base), handle.size, 0};
  }
  ++entry->second.references;
  return entry->second.base + handle.offset;
}

void close_shared(const void* ptr) {
  std::lock_guard<std::mutex> lock(opened_mutex);
  const char* address = static_cast<const char*>(ptr);
  for (auto entry = opened().begin(); entry != opened().end(); ++entry) {
    OpenedSegment& segment = entry->second;
    if (address < segment.base || address >= segment.base + segment.size) continue;
    if (--segment.references == 0) {
      munmap(segment.base, segment.size);
      opened().erase(entry);
    }
    return;
  }
  TORCH_CHECK(false, "CUDA IPC: ", ptr, " is not memory opened from another process");
}

}  // namespace heitu
