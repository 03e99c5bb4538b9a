#include "streams.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "capture.h"
#include "cuda_error.h"
#include "thread_state.h"

namespace heitu {
namespace {

// As CUDA's: a round robin over 32 streams a priority.
constexpr int kPoolSize = 32;
constexpr int kPriorities = 4;
constexpr c10::StreamId kStreams = 1 + kPoolSize * kPriorities;

struct DeviceStreams {
  // Virtual time up to which each stream is busy.
  std::array<std::atomic<int64_t>, kStreams> ready_at{};
  std::array<std::atomic<uint32_t>, kPriorities> next{};
};

std::atomic<c10::DeviceIndex> count{1};
std::atomic<void (*)()> drain{nullptr};

DeviceStreams& streams(c10::DeviceIndex device) {
  static auto* all = new std::array<DeviceStreams, kMostDevices>;
  return (*all)[device];
}

c10::Stream make(c10::DeviceIndex device, c10::StreamId id) {
  return c10::Stream(c10::Stream::UNSAFE, c10::Device(c10::kCUDA, device), id);
}

// Ids: 0 default; priority p (0, -1, -2, -3), slot s -> 1 + s + 32 * p. External streams (ids out
// of range) share the default stream's time.
size_t slot(c10::StreamId id) { return id > 0 && id < kStreams ? static_cast<size_t>(id) : 0; }

void sleep_until(int64_t ns) {
  if (ns <= 0) return;  // never occupied
  const auto left = ns - now_ns();
  if (left > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(left));
}

}  // namespace

c10::DeviceIndex device_count() noexcept { return count.load(std::memory_order_relaxed); }

void set_device_count(c10::DeviceIndex devices) {
  TORCH_CHECK(devices >= 0 && devices <= kMostDevices, "Heitu emulates 0 to ",
              static_cast<int>(kMostDevices), " devices, not ", static_cast<int>(devices));
  count = devices;
}

c10::DeviceIndex current_device() noexcept { return thread_state.current_device; }

void set_current_device(c10::DeviceIndex device) {
  if (device < 0 || device >= device_count()) throw_cuda_error(kInvalidDevice);
  thread_state.current_device = device;
}

c10::Stream current_stream(c10::DeviceIndex device) noexcept {
  if (device < 0) device = current_device();
  return make(device, thread_state.streams[device]);
}

c10::Stream exchange_stream(c10::Stream stream) {
  auto& id = thread_state.streams[stream.device_index()];
  return make(stream.device_index(), std::exchange(id, stream.id()));
}

c10::Stream pool_stream(c10::DeviceIndex device, int priority) {
  if (device < 0) device = current_device();
  const auto level = std::clamp(-priority, 0, kPriorities - 1);
  const auto turn = streams(device).next[level].fetch_add(1) % kPoolSize;
  return make(device, 1 + turn + kPoolSize * level);
}

int stream_priority(c10::Stream stream) noexcept {
  const auto index = slot(stream.id());
  return index == 0 ? 0 : -static_cast<int>((index - 1) / kPoolSize);
}

int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int64_t stream_ready_at(c10::Stream stream) noexcept {
  return std::max(now_ns(), streams(stream.device_index()).ready_at[slot(stream.id())].load());
}

void occupy_stream(c10::Stream stream, int64_t ns) {
  streams(stream.device_index()).ready_at[slot(stream.id())] = stream_ready_at(stream) + ns;
}

void stream_wait_until(c10::Stream stream, int64_t ns) {
  auto& ready = streams(stream.device_index()).ready_at[slot(stream.id())];
  if (ready < ns) ready = ns;
}

bool stream_idle(c10::Stream stream) {
  return streams(stream.device_index()).ready_at[slot(stream.id())] <= now_ns();
}

void synchronize_stream(c10::Stream stream) {
  sleep_until(streams(stream.device_index()).ready_at[slot(stream.id())]);
}

void set_drain(void (*function)()) { drain = function; }

void synchronize_device(c10::DeviceIndex device) {
  if (auto* function = drain.load()) function();
  int64_t last = 0;
  for (const auto& ready : streams(device).ready_at) last = std::max(last, ready.load());
  sleep_until(last);
}

void record_event(Event& event, c10::Stream stream) {
  event.done_at = stream_ready_at(stream);
  event.device = stream.device_index();
  event.capture = capture_of(stream);
}

void wait_event(const Event& event, c10::Stream stream) {
  if (event.capture) join_capture(stream, event.capture);
  stream_wait_until(stream, event.done_at);
}

bool query_event(const Event& event) { return event.done_at <= now_ns(); }

void synchronize_event(const Event& event) { sleep_until(event.done_at); }

double elapsed_ms(const Event& start, const Event& end) {
  TORCH_CHECK(start.done_at >= 0 && end.done_at >= 0,
              "Both events must be recorded before calculating elapsed time.");
  TORCH_CHECK(query_event(start) && query_event(end),
              "Both events must be completed before calculating elapsed time.");
  return static_cast<double>(end.done_at - start.done_at) / 1e6;
}

}  // namespace heitu
