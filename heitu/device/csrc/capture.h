// CUDA graphs: what is recorded at the kernel boundary, and its replay.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <atomic>

#include "call.h"
#include "frame.h"

namespace heitu {

bool capturing_slow();

// Whether this thread's current stream is being captured.
inline bool capturing() {
  return C10_UNLIKELY(observed.load(std::memory_order_relaxed)) && capturing_slow();
}

using RunCall = c10::function_ref<void(Stack*)>;

// Runs `run` on the stack and records it for replay. False if the call is not to be recorded (it is
// part of one that is); nothing ran then.
bool capture_call(const c10::OperatorHandle& op, Stack* stack, RunCall run);

}  // namespace heitu
