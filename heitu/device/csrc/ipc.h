// Device storages and events that several processes hold: torch.multiprocessing with CUDA tensors.
//
// The sender keeps the memory until all receivers have released it: each sending has a counter in
// memory that both can write (shared_words.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "allocator.h"
#include "shared_words.h"
#include "streams.h"

namespace heitu {

struct SentStorage {
  SharedMemoryHandle memory;
  WordHandle counter;
};

// Throws c10::Error for a storage received from another process, as CUDA does.
SentStorage send_storage(const c10::Storage& storage);
// Maps what another process sent; the counter is decreased when the storage dies.
c10::Storage receive_storage(const SentStorage& sent, size_t bytes, c10::Device device);
// Decreases a counter for a storage that was received before. Nothing happens if the sender ended.
void release_sent(const WordHandle& counter);
// Frees what was sent, has died here since, and is held nowhere else any more.
void collect_sent();

// An event that any process may record or wait for. Its time is of the steady clock, which is the
// whole system's.
class SharedEvent {
 public:
  explicit SharedEvent(c10::DeviceIndex device);  // not recorded yet
  SharedEvent(const WordHandle& handle, c10::DeviceIndex device);

  const WordHandle& handle() const { return time_.handle; }
  void record(c10::Stream stream);
  // As it is now; nothing is taken over from the capture of a graph.
  Event event() const;

 private:
  OwnWord time_;
  c10::DeviceIndex device_;
};

}  // namespace heitu
