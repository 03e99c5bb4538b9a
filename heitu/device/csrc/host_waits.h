// What the host waits for on a GPU: a stream under capture refuses it, and
// torch.cuda.set_sync_debug_mode reports it.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <atomic>

namespace heitu {

enum class SyncDebug { off, warn, error };
extern std::atomic<SyncDebug> sync_debug;

// Whether calls of the operator may make the host wait, and whether this call does.
bool may_wait(const c10::OperatorName& name);
bool waits(const c10::OperatorHandle& op, c10::ArrayRef<c10::IValue> arguments);

void report_wait_slow();
// Warns or raises as CUDA does, where the program asked for it.
inline void report_wait() {
  if (C10_UNLIKELY(sync_debug.load(std::memory_order_relaxed) != SyncDebug::off))
    report_wait_slow();
}

}  // namespace heitu
