// What programs ask of streams, events, callbacks and recorded graphs.
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "acl.h"
#include "device.h"
#include "errors.h"

namespace heitu::cann {
namespace {

Event& event_of(void* handle) { return *static_cast<Event*>(handle); }

int refuse_while_captured() {
  return fail(kStreamCaptured, "a stream that is captured cannot be waited for");
}

// A recording is known by its address from the begin of the capture until it is destroyed.
std::mutex graphs_mutex;
std::map<void*, std::shared_ptr<Graph>> graphs;

}  // namespace

HEITU_EXPORT int aclrtCreateStreamWithConfig(void** stream, uint32_t priority, uint32_t) {
  *stream = create_stream(current_device(), priority);
  return kSuccess;
}

HEITU_EXPORT int aclrtCreateStream(void** stream) {
  return aclrtCreateStreamWithConfig(stream, 0, 0);
}

HEITU_EXPORT int aclrtDestroyStream(void* stream) {
  destroy_stream(static_cast<Stream*>(stream));
  return kSuccess;
}

HEITU_EXPORT int aclrtDestroyStreamForce(void* stream) { return aclrtDestroyStream(stream); }

HEITU_EXPORT int aclrtSynchronizeStreamWithTimeout(void* handle, int32_t milliseconds) {
  Stream& stream = stream_of(handle);
  if (stream.capture()) return refuse_while_captured();
  if (!stream.synchronize(milliseconds)) {
    return fail(kStreamSyncTimeout,
                "the stream was not done within " + std::to_string(milliseconds) + " ms");
  }
  return report(stream);
}

HEITU_EXPORT int aclrtSynchronizeStream(void* stream) {
  return aclrtSynchronizeStreamWithTimeout(stream, -1);
}

HEITU_EXPORT int aclrtStreamQuery(void* stream, int* status) {
  *status = stream_of(stream).idle() ? kStreamComplete : kStreamNotReady;
  return kSuccess;
}

HEITU_EXPORT int aclrtStreamGetId(void* stream, int32_t* id) {
  *id = stream_of(stream).id();
  return kSuccess;
}

HEITU_EXPORT int aclrtSetStreamFailureMode(void*, uint64_t) { return kSuccess; }
HEITU_EXPORT int aclrtSetStreamOverflowSwitch(void*, uint32_t) { return kSuccess; }
HEITU_EXPORT int aclrtSetStreamAttribute(void*, int, void*) { return kSuccess; }

HEITU_EXPORT int aclrtGetStreamOverflowSwitch(void*, uint32_t* flag) {
  *flag = 0;
  return kSuccess;
}

HEITU_EXPORT int aclrtCreateEventExWithFlag(void** event, uint32_t) {
  *event = new Event;
  return kSuccess;
}

HEITU_EXPORT int aclrtCreateEventWithFlag(void** event, uint32_t flag) {
  return aclrtCreateEventExWithFlag(event, flag);
}

HEITU_EXPORT int aclrtDestroyEvent(void* event) {
  delete static_cast<Event*>(event);
  return kSuccess;
}

HEITU_EXPORT int aclrtRecordEvent(void* event, void* stream) {
  event_of(event).record(stream_of(stream));
  return kSuccess;
}

HEITU_EXPORT int aclrtResetEvent(void*, void*) { return kSuccess; }

HEITU_EXPORT int aclrtStreamWaitEvent(void* stream, void* event) {
  event_of(event).wait(stream_of(stream));
  return kSuccess;
}

HEITU_EXPORT int aclrtSynchronizeEvent(void* event) {
  event_of(event).synchronize();
  return kSuccess;
}

HEITU_EXPORT int aclrtQueryEventStatus(void* event, int* status) {
  *status = event_of(event).complete() ? kEventComplete : kEventNotReady;
  return kSuccess;
}

HEITU_EXPORT int aclrtQueryEventWaitStatus(void*, int* status) {
  *status = 0;
  return kSuccess;
}

HEITU_EXPORT int aclrtEventElapsedTime(float* milliseconds, void* start, void* end) {
  const auto from = static_cast<double>(event_of(start).nanoseconds());
  const auto until = static_cast<double>(event_of(end).nanoseconds());
  *milliseconds = static_cast<float>((until - from) / 1e6);
  return kSuccess;
}

HEITU_EXPORT int aclrtEventGetTimestamp(void* event, uint64_t* microseconds) {
  *microseconds = event_of(event).nanoseconds() / 1000;
  return kSuccess;
}

HEITU_EXPORT int aclrtLaunchCallback(void (*function)(void*), void* data, int, void* stream) {
  stream_of(stream).submit([=] { function(data); });
  return kSuccess;
}

HEITU_EXPORT int aclrtLaunchHostFunc(void* stream, void (*function)(void*), void* data) {
  return aclrtLaunchCallback(function, data, 1, stream);
}

HEITU_EXPORT int aclrtSubscribeReport(uint64_t, void*) { return kSuccess; }
HEITU_EXPORT int aclrtUnSubscribeReport(uint64_t, void*) { return kSuccess; }

HEITU_EXPORT int aclrtProcessReport(int32_t milliseconds) {
  // Callbacks run on the stream's own thread; there is nothing to report.
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds < 0 ? 10 : milliseconds));
  return kSuccess;
}

HEITU_EXPORT int aclmdlRICaptureBegin(void* stream, int) {
  static std::atomic<uint32_t> next_id{1};
  if (stream_of(stream).capture()) {
    return fail(kInvalidParameter, "the stream is captured already");
  }
  stream_of(stream).set_capture(std::make_shared<Graph>(Graph{next_id++, {}}));
  return kSuccess;
}

HEITU_EXPORT int aclmdlRICaptureGetInfo(void* stream, int* status, void** graph) {
  const auto capture = stream_of(stream).capture();
  *status = capture != nullptr;
  if (graph != nullptr) *graph = capture.get();
  return kSuccess;
}

HEITU_EXPORT int aclmdlRICaptureEnd(void* stream, void** graph) {
  const auto capture = stream_of(stream).capture();
  if (!capture) return fail(kStreamNotCaptured, "the stream is not captured");
  for (auto& other : streams_of(stream_of(stream).device())) {
    if (other->capture() == capture) other->set_capture(nullptr);
  }
  std::lock_guard<std::mutex> lock(graphs_mutex);
  graphs[capture.get()] = capture;
  *graph = capture.get();
  return kSuccess;
}

HEITU_EXPORT int aclmdlRIExecuteAsync(void* graph, void* stream) {
  std::shared_ptr<Graph> recorded;
  {
    std::lock_guard<std::mutex> lock(graphs_mutex);
    const auto found = graphs.find(graph);
    if (found == graphs.end()) return fail(kInvalidParameter, "there is no such recorded graph");
    recorded = found->second;
  }
  stream_of(stream).submit([recorded] {
    for (const auto& task : recorded->tasks) task();
  });
  return kSuccess;
}

HEITU_EXPORT int aclmdlRIDestroy(void* graph) {
  std::lock_guard<std::mutex> lock(graphs_mutex);
  graphs.erase(graph);
  return kSuccess;
}

HEITU_EXPORT int aclmdlRICaptureThreadExchangeMode(int*) { return kSuccess; }

HEITU_EXPORT int aclmdlRIDebugPrint(void*) { return kSuccess; }

}  // namespace heitu::cann
