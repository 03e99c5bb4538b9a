// Memory of the cuda device: the plugin's.
#pragma once

#include <c10/core/Allocator.h>

namespace heitu {

c10::Allocator& cuda_allocator();

// Makes it PyTorch's allocator of cuda memory.
void register_allocator();

}  // namespace heitu
