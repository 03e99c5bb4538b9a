// The threads that run program instances, and what instances call.
#ifndef HEITU_TRITON_POOL_H_
#define HEITU_TRITON_POOL_H_

#include <stdint.h>

typedef void (*Kernel)(const uint64_t* arguments, const int32_t* program, const int32_t* programs,
                       char* scratch);

// Runs every program instance of a grid; returns when all are done. Each thread that runs instances
// has `scratch_bytes` of its own for them. Returns 0, or -1 without memory.
int heitu_run_grid(Kernel kernel, const uint64_t* arguments, const int32_t* grid,
                   int64_t scratch_bytes, int threads);

// What the first failing assertion since the last call said; null: none failed. To be freed.
char* heitu_take_failure(void);

#endif
