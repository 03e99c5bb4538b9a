// The device that a thread works on, and the streams behind the handles that it passes.
#pragma once

#include "stream.h"

namespace heitu::cann {

int current_device();
// Whether the thread has chosen a device, or needed one, so far.
bool has_device();
void set_current_device(int device);
// The stream behind a handle; null is the default stream of the current device.
Stream& stream_of(void* handle);
// Reports what failed on the stream since the last call, as a code with a message.
int report(Stream& stream);

}  // namespace heitu::cann
