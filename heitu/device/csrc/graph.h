// One CUDA graph: torch.cuda.CUDAGraph.
#pragma once

#include <ATen/core/Generator.h>
#include <c10/core/Stream.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "allocator.h"
#include "call.h"
#include "tape.h"

namespace heitu {

struct Slot;  // record.h

// One recorded operator.
struct RecordedCall {
  c10::OperatorHandle op;
  c10::KernelFunction* native;  // what to run; null: the CPU's kernel for host_key
  c10::DispatchKey host_key;
  Stack arguments;  // over plain addresses: nothing is owned but CPU tensors
  Tape tape;
  std::vector<at::Tensor> results;  // over plain addresses
  at::Generator random_state;       // of the default generator; undefined if it never changes
  c10::DeviceIndex device;
  Slot* replayed = nullptr;  // where the record counts replays; one call of those it is made of
};

class Graph {
 public:
  explicit Graph(bool keep_graph);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Starts on the current stream. Raises CUDA's errors for the default stream, or when a capture is
  // under way; RuntimeError if the graph was captured before.
  void capture_begin(PoolId pool, const std::string& mode);
  void capture_end();
  void instantiate();
  void replay();
  void reset();
  PoolId pool() const;
  void register_generator(const at::Generator& generator);
  std::vector<std::string> operator_names() const;

 private:
  friend class Recorder;
  struct Saved {
    void* address;
    std::vector<char> bytes;
  };

  void save(const at::Tensor& tensor);
  void restore();

  bool keep_graph_;
  bool captured_ = false;
  bool instantiated_ = false;
  bool recording_ = false;
  bool spoiled_ = false;
  uint64_t id_ = 0;
  c10::DeviceIndex device_ = 0;
  std::optional<c10::Stream> stream_;
  PoolId pool_{0, 0};
  std::vector<at::Generator> generators_;
  std::vector<std::shared_ptr<void>> generator_memory_;
  std::vector<RecordedCall> calls_;
  std::unordered_set<const void*> own_;  // memory taken during the capture
  std::vector<Saved> saved_;
};

}  // namespace heitu
