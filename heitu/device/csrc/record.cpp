#include "record.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <mutex>

#include "allocator.h"
#include "streams.h"
#include "thread_state.h"

namespace heitu {
namespace {

constexpr uint32_t kSlots = 65536;
constexpr uint32_t kSamples = 4096;
constexpr uint32_t kNothing = 0xffffffff;

struct MemorySample {
  uint64_t elapsed_ns, allocated, reserved;
};

struct RecordFile {
  char magic[8];
  uint32_t version, slot_capacity;
  std::atomic<uint32_t> slots_used, in_flight;
  std::atomic<uint64_t> elapsed_ns, steps, first_step_ns, last_step_ns;
  uint64_t capacity;
  std::array<std::atomic<uint64_t>, kMostDevices> peak_allocated, peak_reserved;
  std::atomic<uint32_t> samples;
  uint32_t unused;
  std::atomic<uint64_t> sample_interval_ns;
  char rest[4096 - 1104];
  MemorySample sample[kSamples];
  Slot slots[kSlots];
};
static_assert(offsetof(RecordFile, peak_allocated) == 64);
static_assert(offsetof(RecordFile, samples) == 1088);
static_assert(offsetof(RecordFile, sample) == 4096);
static_assert(offsetof(RecordFile, slots) == 102400);

RecordFile* mapped = nullptr;
Observer* current_observer = nullptr;
int64_t began_at = 0;
std::mutex sampling;

void raise_most(std::atomic<uint64_t>& most, uint64_t value) {
  auto seen = most.load(std::memory_order_relaxed);
  while (seen < value && !most.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

// Bounded: when the samples are full, every second one goes and the interval doubles.
void thin_out() {
  for (uint32_t i = 0; i < kSamples / 2; ++i) {
    const auto& one = mapped->sample[2 * i];
    const auto& other = mapped->sample[2 * i + 1];
    mapped->sample[i] = one.allocated >= other.allocated ? one : other;
  }
  mapped->samples = kSamples / 2;
  mapped->sample_interval_ns = mapped->sample_interval_ns * 2;
}

// (allocated, reserved) now, in bytes.
std::pair<uint64_t, uint64_t> note_peaks(c10::DeviceIndex device) {
  const auto statistics = memory_stats(device);
  const auto& allocated = statistics.allocated_bytes[0];
  const auto& reserved = statistics.reserved_bytes[0];
  raise_most(mapped->peak_allocated[device], allocated.peak);
  raise_most(mapped->peak_reserved[device], reserved.peak);
  return {allocated.current, reserved.current};
}

void sample_memory(uint64_t elapsed, c10::DeviceIndex device) {
  static uint64_t next = 0;
  if (elapsed < std::atomic_ref<uint64_t>(next).load(std::memory_order_relaxed)) return;
  const std::unique_lock lock(sampling, std::try_to_lock);
  if (!lock) return;
  const auto [allocated, reserved] = note_peaks(device);
  if (mapped->samples == kSamples) thin_out();
  const uint32_t index = mapped->samples;
  mapped->sample[index] = {elapsed, allocated, reserved};
  mapped->samples = index + 1;
  std::atomic_ref<uint64_t>(next).store(elapsed + mapped->sample_interval_ns,
                                        std::memory_order_relaxed);
}

}  // namespace

int64_t record_clock() noexcept {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

void start_record(const std::string& path, uint64_t capacity, Observer observer) {
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  TORCH_CHECK(file >= 0, path, ": ", std::strerror(errno));
  void* memory = MAP_FAILED;
  // Reserved now: a full disk is an error here, and not a SIGBUS in the middle of the program.
  int error = posix_fallocate(file, 0, sizeof(RecordFile));
  if (error == 0) {
    memory = mmap(nullptr, sizeof(RecordFile), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    error = memory == MAP_FAILED ? errno : 0;
  }
  close(file);
  TORCH_CHECK(error == 0, path, ": ", std::strerror(error));
  auto* made = static_cast<RecordFile*>(memory);
  std::memcpy(made->magic, "HEITUREC", 8);
  made->version = 1;
  made->slot_capacity = kSlots;
  made->slots_used = 1;
  made->in_flight = kNothing;
  made->capacity = capacity;
  made->sample_interval_ns = 1'000'000;
  current_observer = new Observer(std::move(observer));
  began_at = record_clock();
  mapped = made;
}

bool recording() noexcept { return mapped != nullptr; }
const Observer& observer() { return *current_observer; }

std::pair<uint32_t, Slot*> new_slot() {
  auto id = mapped->slots_used.load(std::memory_order_relaxed);
  do {
    if (id >= kSlots) return {0, &mapped->slots[0]};
  } while (!mapped->slots_used.compare_exchange_weak(id, id + 1, std::memory_order_relaxed));
  return {id, &mapped->slots[id]};
}

void mark_in_flight(uint32_t id) noexcept {
  mapped->in_flight.store(id, std::memory_order_relaxed);
}

void count_call(Slot& slot, int64_t began_ns, uint64_t bytes_in, uint64_t bytes_out,
                c10::DeviceIndex device) noexcept {
  const auto now = record_clock();
  const auto ns = static_cast<uint64_t>(now - began_ns);
  const auto elapsed = static_cast<uint64_t>(now - began_at);
  slot.calls.fetch_add(1, std::memory_order_relaxed);
  slot.ns.fetch_add(ns, std::memory_order_relaxed);
  slot.bytes_in.fetch_add(bytes_in, std::memory_order_relaxed);
  slot.bytes_out.fetch_add(bytes_out, std::memory_order_relaxed);
  raise_most(slot.max_ns, ns);
  mapped->in_flight.store(kNothing, std::memory_order_relaxed);
  mapped->elapsed_ns.store(elapsed, std::memory_order_relaxed);
  if (device >= 0) sample_memory(elapsed, device);
}

std::vector<uint64_t> record_calls() {
  std::vector<uint64_t> calls;
  for (uint32_t id = 0; mapped && id < mapped->slots_used; ++id)
    calls.push_back(mapped->slots[id].calls);
  return calls;
}

void settle_record() {
  if (!mapped) return;
  const auto elapsed = static_cast<uint64_t>(record_clock() - began_at);
  mapped->elapsed_ns = elapsed;
  const std::lock_guard lock(sampling);
  for (c10::DeviceIndex device = 0; device < device_count(); ++device) note_peaks(device);
}

void count_step() noexcept {
  if (!mapped) return;
  const auto elapsed = static_cast<uint64_t>(record_clock() - began_at);
  const bool first = mapped->steps.fetch_add(1, std::memory_order_relaxed) == 0;
  if (first) mapped->first_step_ns = elapsed;
  mapped->last_step_ns = elapsed;
  // So that what a step does can be told from what comes before the first and after the last.
  const auto used = std::min(mapped->slots_used.load(std::memory_order_relaxed), kSlots);
  for (uint32_t id = 0; id < used; ++id) {
    auto& slot = mapped->slots[id];
    slot.at_last_step = slot.calls + slot.replays;
    if (first) slot.at_first_step = slot.at_last_step.load(std::memory_order_relaxed);
  }
}

}  // namespace heitu
