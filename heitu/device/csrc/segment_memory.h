// Host pages behind device memory: mapping, what the host can still hold, sharing with processes.
#pragma once

#include <cstddef>

#include "block.h"

namespace heitu {

// Maps zeroed pages, aligned to 2 MiB so that huge pages fit; null if the system refuses.
char* map_pages(size_t bytes);
void unmap_pages(char* base, size_t bytes) noexcept;

// Whether the host can back `bytes` more, given its free memory, the limits of the process's
// control groups, and pages that are mapped but not yet touched.
bool host_has_room(size_t bytes);
// Bytes the host could still back at the last look.
size_t host_room();

// Replaces the segment's pages by those of a memory file with the same content, at the same
// address.
void make_shareable(Segment& segment);
// Closes the memory file, if there is one.
void close_memory_file(Segment& segment) noexcept;

}  // namespace heitu
