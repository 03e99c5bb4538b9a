// What the ranks of one process group share: the wire, the order of operations, and the reason why
// it can be used no longer.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "collective_work.h"
#include "lane.h"
#include "wire.h"

namespace heitu {

// Opens a gloo backend over a store; supplied by Python, because gloo's headers are not in wheels.
using OpenGloo = std::function<c10::intrusive_ptr<c10d::Backend>(
    const c10::intrusive_ptr<c10d::Store>&, int rank, int size, std::chrono::milliseconds timeout)>;
void set_open_gloo(OpenGloo open);

// Host and GPU as NCCL tells GPUs apart.
struct Gpu {
  std::string uuid;
  int64_t bus_id;
};
void set_gpus(std::vector<Gpu> gpus);

// NCCL's version as torch.cuda.nccl.version() gives it.
constexpr int kNcclMajor = 2, kNcclMinor = 28, kNcclPatch = 9;

class Communicator : public std::enable_shared_from_this<Communicator> {
 public:
  static std::shared_ptr<Communicator> make(c10::intrusive_ptr<c10d::Store> store, int rank,
                                            int size);

  // Runs one operation with the wire, on the lane of collectives or on that of a peer.
  using Operation = std::function<void(Wire&, Deadline)>;
  c10::intrusive_ptr<CollectiveWork> launch(WorkFacts facts, Operation operation);
  c10::intrusive_ptr<CollectiveWork> launch_to_peer(WorkFacts facts, int peer, Operation operation);

  // Work that ends when all `parts` have; it has their tensors.
  c10::intrusive_ptr<CollectiveWork> join(WorkFacts facts,
                                          std::vector<c10::intrusive_ptr<CollectiveWork>> parts);

  // Meets all ranks, as ncclCommInitRank does, once for each device of this rank. Throws
  // DistBackendError if two share a GPU.
  void connect(c10::Device device, std::chrono::milliseconds timeout);
  void connect_peer(int peer, c10::Device device, std::chrono::milliseconds timeout);

  // Waits for all operations launched so far.
  void drain();
  void abort(const std::string& reason);
  std::optional<std::string> failure() const;
  bool connected() const { return connected_; }

 private:
  Communicator(c10::intrusive_ptr<c10d::Store> store, int rank, int size)
      : store_(std::move(store)), rank_(rank), size_(size) {}

  c10::intrusive_ptr<CollectiveWork> start(Lane& lane, WorkFacts facts, Operation operation);
  void check_usable() const;
  // What NCCL makes a communicator of its own for: the n-th device that a rank uses in a group.
  struct Membership {
    int number;
    std::string gpu;
    bool connected = false;
  };
  Membership& join_as(c10::Device device);
  void meet(int peer, const Membership& own, std::chrono::milliseconds timeout);
  void check_gpu(int peer, const std::string& own, const std::string& theirs) const;
  Wire& wire(std::chrono::milliseconds timeout);

  c10::intrusive_ptr<c10d::Store> store_;
  const int rank_;
  const int size_;
  mutable std::mutex mutex_;
  std::optional<std::string> failure_;
  std::unique_ptr<Wire> wire_;
  std::map<c10::DeviceIndex, Membership> memberships_;
  std::atomic<bool> connected_{false};
  std::mutex lanes_mutex_;
  Lane collectives_;
  Lane joins_;
  std::map<std::pair<int, bool>, Lane> peers_;  // by rank and direction
};

// Waits for every communicator's operations: torch.cuda.synchronize().
void drain_communicators();

}  // namespace heitu
