// Private pools: memory of CUDA graphs and of torch.cuda.MemPool.
#include <c10/util/Exception.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "device_memory.h"
#include "segment_memory.h"

namespace heitu {

// ---- life of a pool ----

Pool* DeviceMemory::find_pool(PoolId id) {
  auto entry = pools_.find(id);
  return entry == pools_.end() ? nullptr : entry->second.get();
}

Pool& DeviceMemory::pool_or_throw(PoolId id) {
  Pool* pool = find_pool(id);
  TORCH_CHECK(pool, "device ", int(device_), " has no memory pool (", id.first, ", ", id.second,
              "): it was released, or never allocated to");
  return *pool;
}

void DeviceMemory::acquire_pool(PoolId id) {
  TORCH_CHECK(id != (PoolId{0, 0}), "memory pool (0, 0) is the default pool; it has no uses");
  Lock lock(lock_);
  auto& pool = pools_[id];
  if (!pool) {
    pool = std::make_unique<Pool>();
    pool->id = id;
  }
  ++pool->uses;
}

void DeviceMemory::release_pool(PoolId id) {
  Lock lock(lock_);
  Pool& pool = pool_or_throw(id);
  TORCH_CHECK(pool.uses > 0, "memory pool (", id.first, ", ", id.second,
              ") was released more often than acquired");
  --pool.uses;
}

int DeviceMemory::pool_use_count(PoolId id) {
  Lock lock(lock_);
  Pool* pool = find_pool(id);
  return pool ? pool->uses : 0;
}

void DeviceMemory::set_pool_use_on_oom(PoolId id, bool use_on_oom) {
  Lock lock(lock_);
  std::erase(spare_pools_, id);
  if (use_on_oom) spare_pools_.push_back(id);
}

void DeviceMemory::set_pool_no_split(PoolId id) {
  Lock lock(lock_);
  pool_or_throw(id).no_split = true;
}

void DeviceMemory::begin_allocate_to_pool(PoolId id, StreamFilter filter) {
  acquire_pool(id);
  Lock lock(lock_);
  for (const Route& route : routes_)
    if (route.pool == id) {
      --find_pool(id)->uses;
      TORCH_CHECK(false, "beginAllocateToPool: already recording to mempool_id");
    }
  routes_.push_back({id, std::move(filter)});
}

void DeviceMemory::end_allocate_to_pool(PoolId id) {
  Lock lock(lock_);
  auto route = std::find_if(routes_.begin(), routes_.end(),
                            [&](const Route& candidate) { return candidate.pool == id; });
  TORCH_CHECK(route != routes_.end(), "endAllocatePool: not currently recording to mempool_id");
  routes_.erase(route);
}

bool DeviceMemory::pool_live_blocks_equal(PoolId id, std::vector<const void*> addresses) {
  Lock lock(lock_);
  std::vector<const void*> live;
  for_each_segment(pool_or_throw(id), [&](Segment& segment) {
    for (Block* block = segment.first; block; block = block->next)
      if (block->state == BlockState::live) live.push_back(block->address);
  });
  std::sort(live.begin(), live.end());
  std::sort(addresses.begin(), addresses.end());
  return live == addresses;
}

// ---- checkpoints ----

std::shared_ptr<PoolCheckpoint> DeviceMemory::checkpoint_pool(PoolId id) {
  Lock lock(lock_);
  Pool& pool = pool_or_throw(id);
  TORCH_CHECK(pool.uses > 0, "Not expected to checkpoint freeable graph");
  auto checkpoint = std::make_shared<PoolCheckpoint>();
  checkpoint->pool = id;
  for_each_segment(pool, [&](Segment& segment) {
    auto& layout = checkpoint->segments.emplace_back();
    layout.base = segment.base;
    for (Block* block = segment.first; block; block = block->next)
      layout.blocks.push_back(
          {block->address, block->size, block->requested, block->state != BlockState::free});
  });
  return checkpoint;
}

RestoredPool DeviceMemory::restore_pool(const PoolCheckpoint& checkpoint) {
  StackContext stack = gather(RecordStack::state);
  Lock lock(lock_);
  Pool& pool = pool_or_throw(checkpoint.pool);
  TORCH_CHECK(pool.uses > 0, "Not expected to checkpoint freeable graph");
  RestoredPool result;
  process_pending(stack, true);

  std::vector<Block*> live;
  for_each_segment(pool, [&](Segment& segment) {
    for (Block* block = segment.first; block; block = block->next)
      if (block->state == BlockState::live) live.push_back(block);
  });
  for (Block* block : live) {
    result.freed.push_back(block->address);
    if (block->notes) block->notes->uses.clear();
    release_live(block, stack);
  }

  for (const auto& layout : checkpoint.segments) {
    auto entry = segments_.find(layout.base);
    TORCH_CHECK(entry != segments_.end(), "memory pool (", pool.id.first, ", ", pool.id.second,
                "): the segment at ", static_cast<void*>(layout.base),
                " of the checkpoint was returned to the system");
    // The segment is one free block now; cut it as it was, then free what was free.
    std::vector<Block*> blocks;
    Block* rest = entry->second->first;
    for (const auto& target : layout.blocks) {
      rest->arena->bins.remove(rest);
      Block* block = hand_out(rest, target.size, target.live ? target.requested : target.size,
                              rest->size > target.size, stack);
      blocks.push_back(block);
      rest = block->next;
    }
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (layout.blocks[i].live)
        result.restored.push_back(blocks[i]);
      else
        release_live(blocks[i], stack);
    }
  }
  return result;
}

// ---- finding and sharing ----

Block* DeviceMemory::find_block(const void* ptr, bool inside) {
  Lock lock(lock_);
  auto* address = static_cast<const char*>(ptr);
  auto entry = segments_.upper_bound(address);
  if (entry == segments_.begin()) return nullptr;
  Segment& segment = *std::prev(entry)->second;
  if (address >= segment.base + segment.size) return nullptr;
  for (Block* block = segment.first; block; block = block->next) {
    if (address >= block->address + block->size) continue;
    bool live = block->state == BlockState::live || block->state == BlockState::lone;
    return live && (inside || block->address == address) ? block : nullptr;
  }
  return nullptr;
}

SharedMemoryHandle DeviceMemory::share(Block* block) {
  Lock lock(lock_);
  Segment& segment = *block->segment;
  make_shareable(segment);
  return {getpid(), segment.fd, segment.inode, segment.size, size_t(block->address - segment.base)};
}

// ---- the interface ----

PoolId new_pool_id(bool user_created) {
  static std::atomic<unsigned long long> user{1}, graph{1};
  return user_created ? PoolId{0, user++} : PoolId{graph++, 0};
}

void acquire_pool(c10::DeviceIndex device, PoolId pool) {
  device_memory(device).acquire_pool(pool);
}
void release_pool(c10::DeviceIndex device, PoolId pool) {
  device_memory(device).release_pool(pool);
}
int pool_use_count(c10::DeviceIndex device, PoolId pool) {
  return device_memory(device).pool_use_count(pool);
}
void set_pool_use_on_oom(c10::DeviceIndex device, PoolId pool, bool use_on_oom) {
  device_memory(device).set_pool_use_on_oom(pool, use_on_oom);
}
void set_pool_no_split(c10::DeviceIndex device, PoolId pool) {
  device_memory(device).set_pool_no_split(pool);
}

void begin_allocate_to_pool(c10::DeviceIndex device, PoolId pool, StreamFilter filter) {
  device_memory(device).begin_allocate_to_pool(pool, std::move(filter));
}
void begin_allocate_thread_to_pool(c10::DeviceIndex device, PoolId pool) {
  begin_allocate_to_pool(device, pool, [thread = std::this_thread::get_id()](c10::Stream) {
    return std::this_thread::get_id() == thread;
  });
}
void end_allocate_to_pool(c10::DeviceIndex device, PoolId pool) {
  device_memory(device).end_allocate_to_pool(pool);
}

bool pool_live_blocks_equal(c10::DeviceIndex device, PoolId pool,
                            const std::vector<const void*>& addresses) {
  return device_memory(device).pool_live_blocks_equal(pool, addresses);
}
std::shared_ptr<PoolCheckpoint> checkpoint_pool(c10::DeviceIndex device, PoolId pool) {
  return device_memory(device).checkpoint_pool(pool);
}
RestoredPool restore_pool(c10::DeviceIndex device, const PoolCheckpoint& checkpoint) {
  return device_memory(device).restore_pool(checkpoint);
}

Block* find_block(const void* ptr) {
  for (DeviceMemory* memory : device_memories())
    if (Block* block = memory->find_block(ptr, false)) return block;
  return nullptr;
}
Block* find_containing_block(const void* ptr) {
  for (DeviceMemory* memory : device_memories())
    if (Block* block = memory->find_block(ptr, true)) return block;
  return nullptr;
}

SharedMemoryHandle share(Block* block) { return block->arena->memory.share(block); }

}  // namespace heitu
