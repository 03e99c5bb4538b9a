#include "communicator.h"

#include <ATen/ops/from_blob.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

namespace heitu {

// ---- the wire ----

namespace {

constexpr const char* kAborted = "The communicator was aborted.";

struct Header {
  Label label;
  int64_t bytes;
};

const char* name(int64_t op) {
  static thread_local std::string text;
  text = c10d::opTypeToString(static_cast<c10d::OpType>(op));
  return text.c_str();
}

void check_agreement(const Header& own, const Header& theirs, int rank, int peer) {
  const bool same = own.label.op == theirs.label.op && own.label.sequence == theirs.label.sequence;
  if (same && own.bytes == theirs.bytes) return;
  std::string text =
      c10::str("NCCL collective mismatch between rank ", rank, " and rank ", peer, ": ");
  if (!same) {
    text +=
        c10::str("rank ", rank, " runs ", name(own.label.op), " as number ", own.label.sequence);
    text += c10::str(", rank ", peer, " runs ", name(theirs.label.op), " as number ",
                     theirs.label.sequence);
    text += ". Every rank has to issue the same collectives in the same order.";
  } else {
    text += c10::str(name(own.label.op), " number ", own.label.sequence, " expects ", own.bytes,
                     " bytes and ", theirs.bytes,
                     " were sent. Shapes and dtypes have to match on all ranks.");
  }
  text += " NCCL does not detect this: it hangs or computes on the wrong data.";
  C10_THROW_ERROR(DistBackendError, text);
}

}  // namespace

// What one exchange has under way. When it leaves early, gloo lets go of the buffers with the
// works.
class Wire::Transfers {
 public:
  Transfers(Wire& wire, c10d::Backend* gloo) : wire_(wire), gloo_(gloo) {}
  ~Transfers() {
    std::lock_guard<std::mutex> lock(wire_.mutex_);
    auto& all = wire_.pending_;
    for (const auto& work : works_)
      if (const auto it = std::find(all.begin(), all.end(), work); it != all.end()) all.erase(it);
  }
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  void start(bool sending, const Parcel& parcel, int tag) {
    std::vector<at::Tensor> tensors{at::from_blob(parcel.data, {parcel.bytes}, at::kByte)};
    auto work =
        sending ? gloo_->send(tensors, parcel.peer, tag) : gloo_->recv(tensors, parcel.peer, tag);
    works_.push_back(work);
    std::lock_guard<std::mutex> lock(wire_.mutex_);
    if (wire_.aborted_) work->abort();
    wire_.pending_.push_back(std::move(work));
  }

  void finish(size_t index, Deadline deadline) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    const bool whole = works_[index]->wait(std::max(left, std::chrono::milliseconds(1)));
    std::lock_guard<std::mutex> lock(wire_.mutex_);
    if (!whole || wire_.aborted_) C10_THROW_ERROR(DistBackendError, kAborted);
  }

  void finish_all(Deadline deadline) {
    for (size_t i = 0; i < works_.size(); ++i) finish(i, deadline);
  }

 private:
  Wire& wire_;
  c10d::Backend* gloo_;
  std::vector<c10::intrusive_ptr<c10d::Work>> works_;
};

void Wire::exchange(c10::ArrayRef<Parcel> outgoing, c10::ArrayRef<Parcel> incoming, Label label,
                    int channel, Deadline deadline) {
  const int header_tag = 2 * channel;
  const auto gloo = opened();  // outlives the transfers, also when this is aborted meanwhile
  std::vector<Header> sent(outgoing.size()), received(incoming.size());
  Transfers sends(*this, gloo.get()), headers(*this, gloo.get()), receives(*this, gloo.get());
  for (size_t i = 0; i < incoming.size(); ++i) {
    if (incoming[i].peer != rank_)
      headers.start(false, {incoming[i].peer, &received[i], sizeof(Header)}, header_tag);
  }
  for (size_t i = 0; i < outgoing.size(); ++i) {
    const auto& parcel = outgoing[i];
    if (parcel.peer == rank_) continue;
    sent[i] = {label, parcel.bytes};
    sends.start(true, {parcel.peer, &sent[i], sizeof(Header)}, header_tag);
    if (parcel.bytes > 0) sends.start(true, parcel, header_tag + 1);
  }
  for (const auto& to : outgoing) {
    if (to.peer != rank_) continue;
    for (const auto& from : incoming)
      if (from.peer == rank_ && from.data != to.data) std::memmove(from.data, to.data, to.bytes);
  }
  size_t next = 0;
  for (size_t i = 0; i < incoming.size(); ++i) {
    const auto& parcel = incoming[i];
    if (parcel.peer == rank_) continue;
    headers.finish(next++, deadline);
    check_agreement({label, parcel.bytes}, received[i], rank_, parcel.peer);
    if (parcel.bytes > 0) receives.start(false, parcel, header_tag + 1);
  }
  receives.finish_all(deadline);
  sends.finish_all(deadline);
}

c10::intrusive_ptr<c10d::Backend> Wire::opened() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (aborted_) C10_THROW_ERROR(DistBackendError, kAborted);
  return gloo_;
}

void Wire::abort() {
  c10::intrusive_ptr<c10d::Backend> last;
  std::lock_guard<std::mutex> lock(mutex_);
  if (aborted_) return;
  aborted_ = true;
  for (const auto& work : pending_) work->abort();
  // With the last exchange that uses it the connections close, so that the other ranks learn of it.
  last = std::move(gloo_);
}

// ---- the communicator ----

namespace {

using std::chrono::milliseconds;

OpenGloo& open_gloo() {
  static auto* open = new OpenGloo;
  return *open;
}

std::vector<Gpu>& gpus() {
  static auto* all = new std::vector<Gpu>;
  return *all;
}

// What tells one machine from another, containers on one host included.
std::string host_identity() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  const char* chosen = std::getenv("NCCL_HOSTID");  // NCCL's own way to tell hosts apart
  return chosen ? chosen : std::string(name) + "/" + boot;
}

std::string gpu_key(int number, int rank) { return c10::str("nccl_gpu/", number, "/", rank); }

struct Live {
  std::mutex mutex;
  std::map<Communicator*, std::weak_ptr<Communicator>> communicators;
};

Live& live() {
  static auto* all = new Live;
  return *all;
}

}  // namespace

namespace {

// A store serves one call at a time; one that waits here must not hold up the program's own.
template <class Store>
c10::intrusive_ptr<c10d::Store> own_connection(const c10::intrusive_ptr<Store>& store) {
  if constexpr (requires { store->clone(); }) {
    return store->clone();
  } else {
    return store;
  }
}

}  // namespace

void set_open_gloo(OpenGloo open) { open_gloo() = std::move(open); }
void set_gpus(std::vector<Gpu> all) { gpus() = std::move(all); }

std::shared_ptr<Communicator> Communicator::make(c10::intrusive_ptr<c10d::Store> store, int rank,
                                                 int size) {
  std::shared_ptr<Communicator> made(new Communicator(own_connection(store), rank, size),
                                     [](Communicator* gone) {
                                       {
                                         std::lock_guard<std::mutex> lock(live().mutex);
                                         live().communicators.erase(gone);
                                       }
                                       delete gone;
                                     });
  std::lock_guard<std::mutex> lock(live().mutex);
  live().communicators.emplace(made.get(), made);
  return made;
}

// ---- meeting the other ranks ----

Communicator::Membership& Communicator::join_as(c10::Device device) {
  check_usable();
  std::lock_guard<std::mutex> lock(mutex_);
  const auto number = static_cast<int>(memberships_.size());
  auto [place, fresh] = memberships_.try_emplace(device.index(), Membership{number, {}});
  auto& own = place->second;
  if (fresh) {
    const auto& gpu = gpus().at(device.index());
    own.gpu = c10::str(host_identity(), "/", gpu.uuid, "@", std::hex, gpu.bus_id);
    store_->set(gpu_key(number, rank_), std::vector<uint8_t>(own.gpu.begin(), own.gpu.end()));
  }
  return own;
}

void Communicator::check_gpu(int peer, const std::string& own, const std::string& theirs) const {
  if (theirs != own) return;
  C10_THROW_ERROR(
      DistBackendError,
      c10::str("NCCL error in: ", __FILE__, ":", __LINE__,
               ", invalid usage (run with NCCL_DEBUG=WARN for details), NCCL version ", kNcclMajor,
               ".", kNcclMinor, ".", kNcclPatch,
               "\nncclInvalidUsage: This usually reflects invalid usage of NCCL library.\nLast "
               "error:\nDuplicate GPU detected : rank ",
               rank_, " and rank ", peer, " both on CUDA device ", own.substr(own.rfind('@') + 1)));
}

void Communicator::meet(int peer, const Membership& own, milliseconds timeout) {
  if (peer == rank_) return;
  const auto key = gpu_key(own.number, peer);
  store_->wait({key}, timeout);
  const auto theirs = store_->get(key);
  check_gpu(peer, own.gpu, std::string(theirs.begin(), theirs.end()));
}

void Communicator::connect_peer(int peer, c10::Device device, milliseconds timeout) {
  const auto& own = join_as(device);
  if (!own.connected) meet(peer, own, timeout);
}

void Communicator::connect(c10::Device device, milliseconds timeout) {
  auto& own = join_as(device);
  if (own.connected) return;
  for (int peer = 0; peer < size_; ++peer) {
    try {
      meet(peer, own, timeout);
    } catch (const c10::DistBackendError&) {
      throw;
    } catch (const std::exception& error) {
      C10_THROW_ERROR(DistBackendError,
                      c10::str("[", rank_, "] is setting up NCCL communicator and rank ", peer,
                               " of ", size_, " has not come within ", timeout.count(),
                               " ms. This may indicate a possible application crash on that rank: ",
                               error.what()));
    }
  }
  own.connected = true;
  connected_ = true;
}

Wire& Communicator::wire(milliseconds timeout) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!wire_) {
    c10::intrusive_ptr<c10d::Backend> gloo;  // one rank alone needs none
    if (size_ > 1) gloo = open_gloo()(store_, rank_, size_, timeout);
    wire_ = std::make_unique<Wire>(std::move(gloo), rank_, size_);
  }
  return *wire_;
}

// ---- operations ----

void Communicator::check_usable() const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!failure_) return;
  C10_THROW_ERROR(DistBackendError, c10::str("NCCL communicator was aborted on rank ", rank_,
                                             ".  Original reason for failure was: ", *failure_));
}

c10::intrusive_ptr<CollectiveWork> Communicator::start(Lane& lane, WorkFacts facts,
                                                       Operation operation) {
  check_usable();
  const auto timeout = facts.timeout;
  auto& shared = wire(timeout);
  auto work = c10::make_intrusive<CollectiveWork>(
      std::move(facts), [weak = weak_from_this()](const std::string& reason) {
        if (const auto self = weak.lock()) self->abort(reason);
      });
  lane.post([self = shared_from_this(), &shared, work, timeout, operation = std::move(operation)] {
    const auto failed = work->run([&] {
      self->check_usable();
      operation(shared, std::chrono::steady_clock::now() + timeout);
    });
    if (failed) self->abort(*failed);
  });
  return work;
}

c10::intrusive_ptr<CollectiveWork> Communicator::launch(WorkFacts facts, Operation operation) {
  return start(collectives_, std::move(facts), std::move(operation));
}

c10::intrusive_ptr<CollectiveWork> Communicator::launch_to_peer(WorkFacts facts, int peer,
                                                                Operation operation) {
  std::unique_lock<std::mutex> lock(lanes_mutex_);
  auto& lane = peers_[{peer, facts.op == c10d::OpType::SEND}];
  lock.unlock();
  return start(lane, std::move(facts), std::move(operation));
}

c10::intrusive_ptr<CollectiveWork> Communicator::join(
    WorkFacts facts, std::vector<c10::intrusive_ptr<CollectiveWork>> parts) {
  for (const auto& part : parts)
    for (auto& tensor : part->result()) facts.outputs.push_back(std::move(tensor));
  return start(joins_, std::move(facts), [parts = std::move(parts)](Wire&, Deadline) {
    for (const auto& part : parts) part->join();
  });
}

void Communicator::drain() {
  std::vector<Lane*> lanes{&collectives_, &joins_};
  {
    std::lock_guard<std::mutex> lock(lanes_mutex_);
    for (auto& [_, lane] : peers_) lanes.push_back(&lane);
  }
  for (auto* lane : lanes) lane->drain();
}

void Communicator::abort(const std::string& reason) {
  Wire* shared;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (failure_) return;
    failure_ = reason;
    shared = wire_.get();
  }
  if (shared) shared->abort();
}

std::optional<std::string> Communicator::failure() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

void drain_communicators() {
  std::vector<std::shared_ptr<Communicator>> all;
  {
    std::lock_guard<std::mutex> lock(live().mutex);
    for (const auto& [_, weak] : live().communicators)
      if (auto one = weak.lock()) all.push_back(std::move(one));
  }
  for (const auto& one : all) one->drain();
}

}  // namespace heitu
