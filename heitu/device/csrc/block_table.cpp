#include "block_table.h"

#include <sys/mman.h>

#include <atomic>
#include <new>

namespace heitu {
namespace {

void* map_table(size_t bytes) {
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return pages;
}

}  // namespace

Block*** const BlockTable::root_ =
    static_cast<Block***>(map_table(sizeof(Block**) * (size_t{1} << 26)));

Block** BlockTable::grow(const void* address) {
  auto* fresh = static_cast<Block**>(map_table(sizeof(Block*) * 4096));
  std::atomic_ref<Block**> place(root()[granule(address)]);
  Block** expected = nullptr;
  if (place.compare_exchange_strong(expected, fresh)) return fresh;
  munmap(fresh, sizeof(Block*) * 4096);
  return expected;
}

}  // namespace heitu
