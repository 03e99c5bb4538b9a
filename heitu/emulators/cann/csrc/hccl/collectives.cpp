// HCCL's functions. Each is a task of a stream, as on the chip.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "acl.h"
#include "device.h"
#include "errors.h"
#include "hccl/mesh.h"
#include "memory.h"

namespace heitu::cann {
namespace {

constexpr int kFailed = 4;  // HCCL_E_INTERNAL
constexpr size_t kNameBytes = 128;

enum Reduction : int { kSum = 0, kProduct = 1, kMaximum = 2, kMinimum = 3 };

// A communicator: handles are owning pointers, tasks hold references.
struct Comm {
  Mesh mesh;
  std::mutex mutex;  // of one exchange after the other
  Comm(const std::string& name, uint32_t rank, uint32_t ranks) : mesh(name, rank, ranks) {}
};
using Handle = std::shared_ptr<Comm>;

Handle comm_of(void* handle) { return *static_cast<Handle*>(handle); }

at::ScalarType element_type(int type) {
  using enum at::ScalarType;
  constexpr at::ScalarType types[] = {Char,   Short, Int,    Half,   Float,  Long,
                                      UInt64, Byte,  UInt16, UInt32, Double, BFloat16};
  if (type < 0 || type >= 12) {
    throw std::runtime_error("HCCL: element type " + std::to_string(type) + " is not emulated");
  }
  return types[type];
}

size_t width(int type) { return c10::elementSize(element_type(type)); }

// Host memory to send from or to receive into.
struct Buffer {
  char* data;
  Buffer(const void* address, size_t bytes)
      : data(static_cast<char*>(kernel_range(address, bytes, "a buffer of HCCL"))) {}
};

at::Tensor wide(const at::Tensor& x) {
  const auto type = x.scalar_type();
  return type == at::kHalf || type == at::kBFloat16 ? x.to(at::kFloat) : x.clone();
}

// Folds `parts`, each of `count` elements, in the order of the ranks.
void reduce(const std::vector<char*>& parts, char* out, uint64_t count, int type, int reduction) {
  const auto options = at::TensorOptions(element_type(type));
  const auto view = [&](char* data) {
    return at::from_blob(data, {static_cast<int64_t>(count)}, options);
  };
  auto total = wide(view(parts[0]));
  for (size_t i = 1; i < parts.size(); ++i) {
    const auto part = wide(view(parts[i]));
    switch (reduction) {
      case kSum:
        total.add_(part);
        break;
      case kProduct:
        total.mul_(part);
        break;
      case kMaximum:
        total = at::maximum(total, part);
        break;
      case kMinimum:
        total = at::minimum(total, part);
        break;
      default:
        throw std::runtime_error("HCCL: reduction " + std::to_string(reduction) +
                                 " is not emulated");
    }
  }
  view(out).copy_(total);
}

using Counts = std::vector<uint64_t>;

Counts copied(const void* counts, uint32_t ranks) {
  const auto* values = static_cast<const uint64_t*>(counts);
  return {values, values + ranks};
}

// Every rank folds its share of everybody's data: `counts` elements at `starts`.
void reduce_scatter(Mesh& mesh, char* send, char* out, const Counts& counts, const Counts& starts,
                    int type, int reduction) {
  const size_t size = width(type), own = counts[mesh.rank()] * size;
  std::vector<std::vector<char>> received(mesh.ranks(), std::vector<char>(own));
  std::vector<Piece> sends, receives;
  std::vector<char*> parts;
  for (uint32_t rank = 0; rank < mesh.ranks(); ++rank) {
    sends.push_back({rank, send + starts[rank] * size, counts[rank] * size});
    receives.push_back({rank, received[rank].data(), own});
    parts.push_back(received[rank].data());
  }
  mesh.exchange(sends, receives);
  if (own > 0) reduce(parts, out, counts[mesh.rank()], type, reduction);
}

void all_gather(Mesh& mesh, char* send, char* out, const Counts& counts, const Counts& starts,
                int type) {
  const size_t size = width(type);
  std::vector<Piece> sends, receives;
  for (uint32_t rank = 0; rank < mesh.ranks(); ++rank) {
    sends.push_back({rank, send, counts[mesh.rank()] * size});
    receives.push_back({rank, out + starts[rank] * size, counts[rank] * size});
  }
  mesh.exchange(sends, receives);
}

Counts equal_counts(uint32_t ranks, uint64_t count) { return Counts(ranks, count); }

Counts running(const Counts& counts) {
  Counts starts(counts.size(), 0);
  for (size_t i = 1; i < counts.size(); ++i) starts[i] = starts[i - 1] + counts[i - 1];
  return starts;
}

// `count` elements in shares that differ by one at most.
Counts shares(uint32_t ranks, uint64_t count) {
  Counts parts;
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    parts.push_back(count * (rank + 1) / ranks - count * rank / ranks);
  }
  return parts;
}

template <typename Work>
int enqueue(void* handle, void* stream, Work work) {
  const Handle comm = comm_of(handle);
  stream_of(stream).submit([comm, work] {
    c10::NoGradGuard no_gradients;
    std::lock_guard<std::mutex> lock(comm->mutex);
    work(comm->mesh);
  });
  return kSuccess;
}

int create(const std::string& name, uint32_t rank, uint32_t ranks, void** comm) {
  try {
    *comm = new Handle(std::make_shared<Comm>(name, rank, ranks));
    return kSuccess;
  } catch (const std::exception& error) {
    fail(kInvalidParameter, error.what());
    return kFailed;
  }
}

}  // namespace

HEITU_EXPORT int HcclGetRootInfo(char* info) {
  std::strncpy(info, unique_name().c_str(), kNameBytes);
  return kSuccess;
}

HEITU_EXPORT int HcclCommInitRootInfo(uint32_t ranks, const char* info, uint32_t rank,
                                      void** comm) {
  return create(info, rank, ranks, comm);
}

HEITU_EXPORT int HcclCommInitRootInfoConfig(uint32_t ranks, const char* info, uint32_t rank, void*,
                                            void** comm) {
  return create(info, rank, ranks, comm);
}

HEITU_EXPORT int HcclCommInitAll(uint32_t ranks, int32_t*, void** comms) {
  // Each waits for the others until all are connected.
  const auto name = unique_name();
  std::vector<int> results(ranks);
  std::vector<std::thread> threads;
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] { results[rank] = create(name, rank, ranks, comms + rank); });
  }
  for (auto& thread : threads) thread.join();
  for (const int result : results) {
    if (result != kSuccess) return result;
  }
  return kSuccess;
}

HEITU_EXPORT int HcclCreateSubCommConfig(void** comm, uint32_t ranks, uint32_t*, uint64_t id,
                                         uint32_t rank, void*, void** made) {
  return create(comm_of(*comm)->mesh.name() + "." + std::to_string(id), rank, ranks, made);
}

HEITU_EXPORT int HcclCommDestroy(void* comm) {
  delete static_cast<Handle*>(comm);
  return kSuccess;
}

HEITU_EXPORT int HcclGetCommName(void* comm, char* name) {
  std::strncpy(name, comm_of(comm)->mesh.name().c_str(), kNameBytes);
  return kSuccess;
}

HEITU_EXPORT int HcclGetRankSize(void* comm, uint32_t* ranks) {
  *ranks = comm_of(comm)->mesh.ranks();
  return kSuccess;
}

HEITU_EXPORT int HcclGetRankId(void* comm, uint32_t* rank) {
  *rank = comm_of(comm)->mesh.rank();
  return kSuccess;
}

HEITU_EXPORT int HcclGetCommAsyncError(void*, int* error) {
  *error = 0;
  return kSuccess;
}

HEITU_EXPORT const char* HcclGetErrorString(int code) { return code == 0 ? "no error" : "error"; }
HEITU_EXPORT int HcclSetConfig(int, int64_t) { return kSuccess; }
HEITU_EXPORT uint32_t HcclGetCommConfigCapability() { return 0; }

HEITU_EXPORT int HcclAllReduce(void* send, void* out, uint64_t count, int type, int reduction,
                               void* comm, void* stream) {
  return enqueue(comm, stream, [=](Mesh& mesh) {
    const size_t bytes = count * width(type);
    const auto counts = shares(mesh.ranks(), count);
    const auto starts = running(counts);
    char* result = Buffer(out, bytes).data;
    std::vector<char> own(counts[mesh.rank()] * width(type));
    reduce_scatter(mesh, Buffer(send, bytes).data, own.data(), counts, starts, type, reduction);
    all_gather(mesh, own.data(), result, counts, starts, type);
  });
}

HEITU_EXPORT int HcclReduce(void* send, void* out, uint64_t count, int type, int reduction,
                            uint32_t root, void* comm, void* stream) {
  return enqueue(comm, stream, [=](Mesh& mesh) {
    Counts counts(mesh.ranks(), 0);
    counts[root] = count;
    const bool here = mesh.rank() == root;
    char* result = here ? Buffer(out, count * width(type)).data : nullptr;
    reduce_scatter(mesh, Buffer(send, count * width(type)).data, result, counts,
                   Counts(mesh.ranks(), 0), type, reduction);
  });
}

HEITU_EXPORT int HcclReduceScatter(void* send, void* out, uint64_t count, int type, int reduction,
                                   void* comm, void* stream) {
  return enqueue(comm, stream, [=](Mesh& mesh) {
    const auto counts = equal_counts(mesh.ranks(), count);
    const size_t bytes = count * width(type);
    reduce_scatter(mesh, Buffer(send, bytes * mesh.ranks()).data, Buffer(out, bytes).data, counts,
                   running(counts), type, reduction);
  });
}

HEITU_EXPORT int HcclReduceScatterV(void* send, const void* counts, const void* starts, void* out,
                                    uint64_t count, int type, int reduction, void* comm,
                                    void* stream) {
  const uint32_t ranks = comm_of(comm)->mesh.ranks();
  return enqueue(comm, stream,
                 [=, counts = copied(counts, ranks), starts = copied(starts, ranks)](Mesh& mesh) {
                   reduce_scatter(mesh, Buffer(send, 0).data, Buffer(out, count * width(type)).data,
                                  counts, starts, type, reduction);
                 });
}

HEITU_EXPORT int HcclAllGather(void* send, void* out, uint64_t count, int type, void* comm,
                               void* stream) {
  return enqueue(comm, stream, [=](Mesh& mesh) {
    const auto counts = equal_counts(mesh.ranks(), count);
    const size_t bytes = count * width(type);
    all_gather(mesh, Buffer(send, bytes).data, Buffer(out, bytes * mesh.ranks()).data, counts,
               running(counts), type);
  });
}

HEITU_EXPORT int HcclAllGatherV(void* send, uint64_t count, void* out, const void* counts,
                                const void* starts, int type, void* comm, void* stream) {
  const uint32_t ranks = comm_of(comm)->mesh.ranks();
  return enqueue(comm, stream,
                 [=, counts = copied(counts, ranks), starts = copied(starts, ranks)](Mesh& mesh) {
                   all_gather(mesh, Buffer(send, count * width(type)).data, Buffer(out, 0).data,
                              counts, starts, type);
                 });
}

HEITU_EXPORT int HcclBroadcast(void* data, uint64_t count, int type, uint32_t root, void* comm,
                               void* stream) {
  return enqueue(comm, stream, [=](Mesh& mesh) {
    const size_t bytes = count * width(type);
    char* buffer = Buffer(data, bytes).data;
    std::vector<Piece> sends, receives;
    for (uint32_t rank = 0; mesh.rank() == root && rank < mesh.ranks(); ++rank) {
      if (rank != root) sends.push_back({rank, buffer, bytes});
    }
    if (mesh.rank() != root) receives.push_back({root, buffer, bytes});
    mesh.exchange(sends, receives);
  });
}

HEITU_EXPORT int HcclScatter(void* send, void* out, uint64_t count, int type, uint32_t root,
                             void* comm, void* stream) {
  return enqueue(comm, stream, [=](Mesh& mesh) {
    const size_t bytes = count * width(type);
    std::vector<Piece> sends;
    for (uint32_t rank = 0; mesh.rank() == root && rank < mesh.ranks(); ++rank) {
      sends.push_back({rank, Buffer(send, bytes * mesh.ranks()).data + rank * bytes, bytes});
    }
    mesh.exchange(sends, {{root, Buffer(out, bytes).data, bytes}});
  });
}

HEITU_EXPORT int HcclAlltoAllV(const void* send, const void* send_counts, const void* send_starts,
                               int type, const void* out, const void* counts, const void* starts,
                               int, void* comm, void* stream) {
  const uint32_t ranks = comm_of(comm)->mesh.ranks();
  return enqueue(
      comm, stream,
      [=, from = copied(send_counts, ranks), from_at = copied(send_starts, ranks),
       to = copied(counts, ranks), to_at = copied(starts, ranks)](Mesh& mesh) {
        const size_t size = width(type);
        std::vector<Piece> sends, receives;
        for (uint32_t rank = 0; rank < mesh.ranks(); ++rank) {
          sends.push_back({rank, Buffer(send, 0).data + from_at[rank] * size, from[rank] * size});
          receives.push_back({rank, Buffer(out, 0).data + to_at[rank] * size, to[rank] * size});
        }
        mesh.exchange(sends, receives);
      });
}

HEITU_EXPORT int HcclAlltoAll(const void* send, uint64_t count, int type, const void* out, uint64_t,
                              int, void* comm, void* stream) {
  const uint32_t ranks = comm_of(comm)->mesh.ranks();
  const auto counts = equal_counts(ranks, count);
  const auto starts = running(counts);
  return HcclAlltoAllV(send, counts.data(), starts.data(), type, out, counts.data(), starts.data(),
                       type, comm, stream);
}

namespace {

struct SendReceive {
  int kind;  // 0 sends
  void* data;
  uint64_t count;
  int type;
  uint32_t peer;
};

// What a thread sends and receives between HcclGroupStart and HcclGroupEnd happens at once.
struct Group {
  int depth = 0;
  std::map<std::pair<void*, void*>, std::vector<SendReceive>> items;  // by communicator and stream
};
thread_local Group group;

int exchange(void* comm, void* stream, std::vector<SendReceive> items) {
  return enqueue(comm, stream, [items](Mesh& mesh) {
    std::vector<Piece> sends, receives;
    for (const auto& item : items) {
      const size_t bytes = item.count * width(item.type);
      (item.kind == 0 ? sends : receives)
          .push_back({item.peer, Buffer(item.data, bytes).data, bytes});
    }
    mesh.exchange(sends, receives);
  });
}

int point_to_point(const SendReceive& item, void* comm, void* stream) {
  if (group.depth == 0) return exchange(comm, stream, {item});
  group.items[{comm, stream}].push_back(item);
  return kSuccess;
}

}  // namespace

HEITU_EXPORT int HcclSend(void* data, uint64_t count, int type, uint32_t peer, void* comm,
                          void* stream) {
  return point_to_point({0, data, count, type, peer}, comm, stream);
}

HEITU_EXPORT int HcclRecv(void* data, uint64_t count, int type, uint32_t peer, void* comm,
                          void* stream) {
  return point_to_point({1, data, count, type, peer}, comm, stream);
}

HEITU_EXPORT int HcclBatchSendRecv(void* items, uint32_t count, void* comm, void* stream) {
  const auto* first = static_cast<const SendReceive*>(items);
  return exchange(comm, stream, {first, first + count});
}

HEITU_EXPORT int HcclGroupStart() {
  ++group.depth;
  return kSuccess;
}

HEITU_EXPORT int HcclGroupEnd() {
  if (--group.depth > 0) return kSuccess;
  for (auto& [where, items] : std::exchange(group.items, {})) {
    exchange(where.first, where.second, std::move(items));
  }
  return kSuccess;
}

HEITU_EXPORT int HcclBarrier(void* comm, void* stream) {
  return enqueue(comm, stream, [](Mesh& mesh) {
    std::vector<char> tokens(mesh.ranks());
    std::vector<Piece> sends, receives;
    for (uint32_t rank = 0; rank < mesh.ranks(); ++rank) {
      sends.push_back({rank, &tokens[mesh.rank()], 1});
      if (rank != mesh.rank()) receives.push_back({rank, &tokens[rank], 1});
    }
    mesh.exchange(sends, receives);
  });
}

}  // namespace heitu::cann
