// The record of a rehearsal: what ran, counted in a file that is mapped, so that it is whole
// whatever becomes of the process. docs/report.md has the format.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Device.h>

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "ruling.h"

namespace heitu {

// Counters of one way in which an operator was called.
struct Slot {
  std::atomic<uint64_t> calls, ns, bytes_in, bytes_out, max_ns, replays;
  std::atomic<uint64_t> at_last_step, at_first_step;  // calls and replays until then
};
static_assert(sizeof(Slot) == 64);

// An operator met in a way that the record does not have yet.
struct Meeting {
  uint32_t id;
  const c10::OperatorHandle& op;
  bool backward;
  Ruling ruling;
  DtypeRuling dtype;
  c10::ArrayRef<c10::IValue> arguments;
  bool shapes;  // false: this line stands for all further shapes
};

// Who writes down what is met. Called without locks of ours.
struct Observer {
  // Returns what a strict run raises; empty for nothing.
  std::function<std::string(const Meeting&)> met;
  // A number for the place in the program that runs now.
  std::function<uint64_t()> place;
};

// Maps the file of counters; `limit_bytes` is the capacity of one device. Throws c10::Error.
void start_record(const std::string& path, uint64_t capacity, Observer observer);
bool recording() noexcept;
const Observer& observer();

// The next free slot; the first one, shared by all that found no room, when there is none.
std::pair<uint32_t, Slot*> new_slot();
void mark_in_flight(uint32_t id) noexcept;
// Adds a call, and now and then a sample of the device's memory.
void count_call(Slot& slot, int64_t began_ns, uint64_t bytes_in, uint64_t bytes_out,
                c10::DeviceIndex device) noexcept;
void count_step() noexcept;
// Calls by slot, as far as slots are used.
std::vector<uint64_t> record_calls();
// Brings peaks up to date, at the end of a process.
void settle_record();
int64_t record_clock() noexcept;  // nanoseconds

}  // namespace heitu
