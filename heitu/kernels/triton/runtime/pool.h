// The threads that run program instances, and what instances call.
#ifndef HEITU_TRITON_POOL_H_
#define HEITU_TRITON_POOL_H_

#include <stdint.h>

typedef void (*Kernel)(const uint64_t* arguments, const int32_t* program, const int32_t* programs,
                       char* scratch);

// Runs every program instance of a grid; returns when all are done. Each thread that runs instances
// has `scratch_bytes` of its own for them. Below 0, `threads` is how many run at the same time.
// Returns 0, or -1 without memory.
int heitu_run_grid(Kernel kernel, const uint64_t* arguments, const int32_t* grid,
                   int64_t scratch_bytes, int threads);

// Has instances run by the threads of an OpenMP runtime, given its GOMP_parallel, in place of the
// pool's own: those of torch, which look for work for a while after an operator, and would keep
// others from the processors.
void heitu_share_threads(void (*parallel)(void (*)(void*), void*, unsigned, unsigned));

// What the first failing assertion since the last call said; null: none failed. To be freed.
char* heitu_take_failure(void);

#endif
