// CUDA graphs. While a stream is captured, every operator that reaches the device on it runs and is
// recorded at the kernel boundary: the operator, its arguments as plain addresses, and the memory
// it took. A replay runs the recorded operators again on the same addresses.
//
// On a GPU a captured operator does not run. Here it must, to know the form of its results, so what
// it did to memory and random state that existed before the capture is undone at its end.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <atomic>

#include "call.h"
#include "frame.h"

namespace heitu {

bool capturing_slow();

// Whether the current stream of the current device is being captured.
inline bool capturing() {
  return C10_UNLIKELY(observed.load(std::memory_order_relaxed)) && capturing_slow();
}

// Whether the stream is being captured.
bool stream_capturing(c10::Stream stream);
// A stream that waits for an event of a captured stream joins its capture.
void join_capture(c10::Stream stream, uint64_t capture);
// The capture that the stream belongs to; 0: none.
uint64_t capture_of(c10::Stream stream);
// Raises CUDA's error, and spoils the capture, if the current stream is being captured.
void refuse_in_capture();

using RunCall = c10::function_ref<void(Stack*)>;

// Runs `run` on the stack and records it for replay. False if the call is part of one that is being
// recorded already; nothing ran then.
bool capture_call(const c10::OperatorHandle& op, Stack* stack, RunCall run,
                  c10::KernelFunction* native, c10::DispatchKey host_key);

}  // namespace heitu
