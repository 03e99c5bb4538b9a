// What the device memory is made of: segments (mappings), the blocks they are cut into, and free
// blocks in bins by size.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "allocator.h"

namespace heitu {

struct Arena;

// One mapping of host pages.
struct Segment {
  char* base = nullptr;
  size_t size = 0;
  Block* first = nullptr;  // lowest block
  StackContext stack;      // where it was mapped, if recorded
  int fd = -1;             // of the memory file, once shared between processes
  uint64_t inode = 0;
};

enum class BlockState : uint8_t {
  free,
  live,
  pending,  // released, but a recorded stream may still use it
  lone      // caching is off: the whole of a segment that the pools do not know
};

// What few blocks have.
struct BlockNotes {
  std::vector<c10::Stream> uses;  // other streams that use the memory
  StackContext stack;             // where it was allocated
};

struct Block {
  char* address = nullptr;
  size_t size = 0;       // bytes, rounded
  size_t requested = 0;  // bytes
  Arena* arena = nullptr;
  Segment* segment = nullptr;
  Block* prev = nullptr;  // neighbours in the segment
  Block* next = nullptr;
  Block* bin_prev = nullptr;  // neighbours in the bin
  Block* bin_next = nullptr;
  std::unique_ptr<BlockNotes> notes;
  int64_t searches_at_release = 0;  // age for garbage collection
  BlockState state = BlockState::free;

  bool is_split() const noexcept { return prev || next; }
};

// Recycles Block records; their memory is never returned, so a stale pointer reads a record.
class BlockRecords {
 public:
  Block* take() {
    if (!free_) [[unlikely]]
      grow();
    Block* block = free_;
    free_ = block->next;
    block->next = nullptr;
    return block;
  }
  void give(Block* block) noexcept {
    block->prev = nullptr;
    block->next = free_;
    free_ = block;
  }

 private:
  void grow() {
    constexpr size_t kSlab = 256;
    Block* slab = new Block[kSlab];
    for (size_t i = 0; i < kSlab; ++i) give(&slab[i]);
  }
  Block* free_ = nullptr;
};

constexpr size_t kMinBlock = 512;
constexpr size_t kSmallRequest = size_t{1} << 20;  // largest request of the small pool
constexpr size_t kSmallSegment = size_t{2} << 20;
constexpr size_t kOwnSegment = size_t{10} << 20;  // from here a request has its own segment
constexpr size_t kSegmentRounding = size_t{2} << 20;

// Free blocks by size. In the small pool a bin holds one size, in the large one 1/64 of an octave
// in ascending order; two levels of bitmaps find the next bin that holds any.
class FreeBins {
 public:
  explicit FreeBins(bool small) : heads_(std::make_unique<Block*[]>(kBins)), small_(small) {}

  // The smallest block of at least `size` bytes, the latest released of its size; or null.
  Block* best_fit(size_t size) const noexcept {
    size_t bin = index(size);
    for (Block* block = heads_[bin]; block; block = block->bin_next)
      if (block->size >= size) return block;
    size_t word = (bin + 1) >> 6;
    if (word >= kWords) return nullptr;
    uint64_t bits = words_[word] & (~uint64_t{0} << ((bin + 1) & 63));
    if (!bits) {
      if (word + 1 >= kWords) return nullptr;
      uint64_t later = summary_ & (~uint64_t{0} << (word + 1));
      if (!later) return nullptr;
      word = std::countr_zero(later);
      bits = words_[word];
    }
    return heads_[word << 6 | std::countr_zero(bits)];
  }

  void insert(Block* block) noexcept {
    size_t bin = index(block->size);
    Block* before = nullptr;
    Block* after = heads_[bin];
    while (after && after->size < block->size) {
      before = after;
      after = after->bin_next;
    }
    block->bin_prev = before;
    block->bin_next = after;
    if (after) after->bin_prev = block;
    if (before) {
      before->bin_next = block;
    } else {
      heads_[bin] = block;
      words_[bin >> 6] |= uint64_t{1} << (bin & 63);
      summary_ |= uint64_t{1} << (bin >> 6);
    }
  }

  void remove(Block* block) noexcept {
    if (block->bin_next) block->bin_next->bin_prev = block->bin_prev;
    if (block->bin_prev) {
      block->bin_prev->bin_next = block->bin_next;
      return;
    }
    size_t bin = index(block->size);
    heads_[bin] = block->bin_next;
    if (block->bin_next) return;
    if (!(words_[bin >> 6] &= ~(uint64_t{1} << (bin & 63))))
      summary_ &= ~(uint64_t{1} << (bin >> 6));
  }

  // Ascending by size.
  template <class Visit>
  void for_each(Visit visit) const {
    for (size_t word = 0; word < kWords; ++word)
      for (uint64_t bits = words_[word]; bits; bits &= bits - 1)
        for (Block* block = heads_[word << 6 | std::countr_zero(bits)]; block;
             block = block->bin_next)
          visit(block);
  }

 private:
  static constexpr size_t kBins = 4096;
  static constexpr size_t kWords = kBins / 64;

  size_t index(size_t size) const noexcept {
    if (small_) return (size >> 9) - 1;
    constexpr int kLowest = 20;  // blocks of the large pool exceed 1 MiB
    int octave = std::bit_width(size) - 1;
    if (octave < kLowest) return 0;
    size_t bin = size_t(octave - kLowest) << 6 | ((size >> (octave - 6)) & 63);
    return bin < kBins ? bin : kBins - 1;
  }

  uint64_t summary_ = 0;
  uint64_t words_[kWords] = {};
  std::unique_ptr<Block*[]> heads_;
  bool small_;
};

// Memory of one use: the device's default pool, a CUDA graph's, a MemPool's.
struct Pool {
  PoolId id{0, 0};
  int uses = 0;
  int64_t segments = 0;
  bool no_split = false;
  int64_t searches[2] = {0, 0};  // of the large and of the small pool; clock of garbage collection
  std::vector<std::unique_ptr<Arena>> arenas;

  bool is_default() const noexcept { return id == PoolId{0, 0}; }
};

class DeviceMemory;

// The free blocks of one pool, size class and stream.
struct Arena {
  Arena(DeviceMemory& memory, Pool& pool, bool small, c10::StreamId stream)
      : memory(memory), pool(pool), stream(stream), small(small), bins(small) {}

  DeviceMemory& memory;
  Pool& pool;
  c10::StreamId stream;
  bool small;
  FreeBins bins;
};

}  // namespace heitu
