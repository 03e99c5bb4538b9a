// Who owns the memory of a block, where a memory pool is put back to an earlier state.
#pragma once

#include <c10/core/StorageImpl.h>

namespace heitu {

struct Block;

// From now on a release of this address is the block's; null if no block begins there any more.
void adopt_address(const void* address, Block* block);

// Makes a device storage the owner of the block that it points to.
void own_memory(c10::StorageImpl& device, Block* block);

// The device storage goes on pointing to its memory without owning it. False if it did not.
bool disown_memory(c10::StorageImpl& device);

// Whether the device storage will release a block of the allocator's at its end.
bool owns_memory(const c10::StorageImpl& device);

}  // namespace heitu
