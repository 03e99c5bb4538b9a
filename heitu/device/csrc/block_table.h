// From an address to the block that begins there, in two loads. PyTorch's raw allocation interface
// (oneDNN's scratch memory comes that way) wants the address itself as the context of an
// allocation, so a block has to be found again from it.
#pragma once

#include <cstdint>

namespace heitu {

struct Block;

class BlockTable {
 public:
  static void set(const void* address, Block* block) { leaf(address)[slot(address)] = block; }

  // Null for memory that is not the device's.
  static Block* find(const void* address) {
    auto* leaf = root()[granule(address)];
    return leaf ? leaf[slot(address)] : nullptr;
  }

 private:
  // A granule of 2 MiB holds 4096 places of 512 bytes, the grain of device memory; user space of
  // 47 bits holds 2^26 granules, most of which are never touched.
  static uintptr_t granule(const void* address) {
    return (reinterpret_cast<uintptr_t>(address) >> 21) & ((uintptr_t{1} << 26) - 1);
  }
  static uintptr_t slot(const void* address) {
    return (reinterpret_cast<uintptr_t>(address) >> 9) & 4095;
  }
  static Block** leaf(const void* address) {
    auto* found = root()[granule(address)];
    return found ? found : grow(address);
  }
  static Block** grow(const void* address);
  static Block*** root() { return root_; }
  static Block*** const root_;
};

}  // namespace heitu
