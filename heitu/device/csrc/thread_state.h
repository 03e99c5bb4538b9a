// What belongs to one thread, in one place: finding a thread's variables costs a call.
#pragma once

#include <c10/core/Stream.h>
#include <c10/core/TensorImpl.h>

namespace heitu {

class Tape;
struct Slot;  // record.h

constexpr c10::DeviceIndex kMostDevices = 64;

// Shadows that the thread has done with, kept for its next operators (labels_inline.h).
struct SpareShadows {
  static constexpr int kMost = 8;
  c10::TensorImpl* shadows[kMost] = {};
  int count = 0;
  bool open = false;  // between the thread's first spare and its end
};

struct ThreadState {
  // The device whose memory CPU tensors get; below zero outside an operator of the device.
  c10::DeviceIndex scoped_device = -1;
  c10::DeviceIndex current_device = 0;
  int operator_depth = 0;        // of operators that the rules of a chip have judged
  Slot* counted_slot = nullptr;  // of the one that runs, until a capture takes it
  SpareShadows spare_shadows;
  // Of graphs; at most one is set.
  Tape* recording_tape = nullptr;
  Tape* replaying_tape = nullptr;
  c10::StreamId streams[kMostDevices] = {};  // the current one of each device
};

extern thread_local constinit ThreadState thread_state;

}  // namespace heitu
