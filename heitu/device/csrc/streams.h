// Current device, streams and events. The emulated device computes synchronously; a stream keeps a
// virtual time up to which it is busy, so that _sleep, queries and elapsed times behave.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <cstdint>

namespace heitu {

c10::DeviceIndex device_count() noexcept;
void set_device_count(c10::DeviceIndex count);
c10::DeviceIndex current_device() noexcept;
void set_current_device(c10::DeviceIndex device);

c10::Stream current_stream(c10::DeviceIndex device) noexcept;  // -1: of the current device
c10::Stream exchange_stream(c10::Stream stream);
c10::Stream pool_stream(c10::DeviceIndex device, int priority);
int stream_priority(c10::Stream stream) noexcept;

// Nanoseconds on the steady clock.
int64_t now_ns() noexcept;
// Keeps the stream busy for a further `ns`, as torch.cuda._sleep does.
void occupy_stream(c10::Stream stream, int64_t ns);
int64_t stream_ready_at(c10::Stream stream) noexcept;
void stream_wait_until(c10::Stream stream, int64_t ns);
bool stream_idle(c10::Stream stream);
void synchronize_stream(c10::Stream stream);
void synchronize_device(c10::DeviceIndex device);
// `drain` waits for work that other threads do for the devices; synchronize_device calls it.
void set_drain(void (*drain)());

struct Event {
  int64_t done_at = -1;  // -1: never recorded
  c10::DeviceIndex device = -1;
  bool timing = false;
  uint64_t capture = 0;  // the graph capture it was recorded in; 0: none
};

void record_event(Event& event, c10::Stream stream);
void wait_event(const Event& event, c10::Stream stream);
bool query_event(const Event& event);
void synchronize_event(const Event& event);
double elapsed_ms(const Event& start, const Event& end);  // torch's errors if not both recorded

}  // namespace heitu
