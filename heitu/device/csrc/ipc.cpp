#include "ipc.h"

#include <c10/core/StorageImpl.h>

#include <memory>
#include <mutex>
#include <vector>

#include "labels.h"

namespace heitu {
namespace {

// Memory that was sent, with what owns it.
struct Sent {
  c10::DataPtr memory;
  OwnWord counter;
  bool held() const { return counter.word->load() > 0; }
};

// What died here while a receiver still held it.
struct Limbo {
  std::mutex mutex;
  std::vector<std::unique_ptr<Sent>> sent;
};
Limbo& limbo() {
  static auto* limbo = new Limbo;
  return *limbo;
}

void die(void* context) {
  std::unique_ptr<Sent> sent(static_cast<Sent*>(context));
  if (!sent->held()) return;
  std::lock_guard<std::mutex> lock(limbo().mutex);
  limbo().sent.push_back(std::move(sent));
}

struct Received {
  void* address;
  std::shared_ptr<Word> counter;
};

void let_go(void* context) {
  std::unique_ptr<Received> received(static_cast<Received*>(context));
  close_shared(received->address);
  received->counter->fetch_sub(1);
}

}  // namespace

SentStorage send_storage(const c10::Storage& storage) {
  auto& impl = *storage.unsafeGetStorageImpl();
  TORCH_CHECK(!impl.received_cuda(),
              "Attempted to send CUDA tensor received from another process; this is not currently "
              "supported. Consider cloning before sending.");
  collect_sent();
  char* address = static_cast<char*>(storage.mutable_data());
  Block* block = find_containing_block(address);
  TORCH_CHECK(block, "CUDA IPC: ", static_cast<const void*>(address),
              " is not memory of the cuda device (made by another library?); send a clone of the "
              "tensor");
  SentStorage result{share(block), {}};
  result.memory.offset += size_t(address - static_cast<char*>(data(block)));
  OwnWord counter = make_word();
  counter.word->store(1);
  result.counter = counter.handle;
  auto host = host_storage(impl);
  auto* sent = new Sent{{}, std::move(counter)};
  sent->memory = host->set_data_ptr({address, sent, &die, c10::Device(c10::kCPU)});
  return result;
}

c10::Storage receive_storage(const SentStorage& sent, size_t bytes, c10::Device device) {
  auto counter = open_word(sent.counter);
  void* address = open_shared(sent.memory);
  auto* received = new Received{address, std::move(counter)};
  auto host = c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), bytes,
      c10::DataPtr(address, received, &let_go, c10::Device(c10::kCPU)),
      /*allocator=*/nullptr, /*resizable=*/false);
  auto storage = device_storage(std::move(host), device);
  storage->set_resizable(false);
  storage->set_received_cuda(true);
  return c10::Storage(std::move(storage));
}

void release_sent(const WordHandle& counter) {
  try {
    open_word(counter)->fetch_sub(1);
  } catch (const c10::Error&) {
    // The sender has ended, and its memory with it.
  }
}

void collect_sent() {
  std::vector<std::unique_ptr<Sent>> done;  // freed without the lock: the allocator has its own
  std::lock_guard<std::mutex> lock(limbo().mutex);
  auto& sent = limbo().sent;
  for (auto& entry : sent)
    if (!entry->held()) done.push_back(std::move(entry));
  std::erase(sent, nullptr);
}

SharedEvent::SharedEvent(c10::DeviceIndex device) : time_(make_word()), device_(device) {
  time_.word->store(-1);
}

SharedEvent::SharedEvent(const WordHandle& handle, c10::DeviceIndex device)
    : time_{open_word(handle), handle}, device_(device) {}

void SharedEvent::record(c10::Stream stream) {
  Event event;
  record_event(event, stream);
  time_.word->store(event.done_at);
}

Event SharedEvent::event() const {
  Event event;
  event.done_at = time_.word->load();
  event.device = device_;
  return event;
}

}  // namespace heitu
