// The threads that run program instances, and what instances call.
#ifndef HEITU_TRITON_POOL_H_
#define HEITU_TRITON_POOL_H_

#include <stdint.h>

typedef void (*Kernel)(const uint64_t* arguments, const int32_t* program, const int32_t* programs,
                       char* scratch);

// Runs every program instance of a grid; returns when all are done. Each thread that runs instances
// has `scratch_bytes` of its own for them. `threads` is how many, 0: as many as heitu_use_threads
// said; below 0, how many run at the same time.
// Returns 0, or -1 without memory.
int heitu_run_grid(Kernel kernel, const uint64_t* arguments, const int32_t* grid,
                   int64_t scratch_bytes, int threads);

// Says how many threads run instances: what `count` says at a launch, or `usual` where it is null.
// `parallel` is the GOMP_parallel of an OpenMP runtime whose threads do it in place of the pool's
// own, or null: those of torch look for work for a while after an operator, and would keep others
// from the processors.
void heitu_use_threads(int usual, int (*count)(void),
                       void (*parallel)(void (*)(void*), void*, unsigned, unsigned));

// What the first failing assertion since the last call said; null: none failed. To be freed.
char* heitu_take_failure(void);

#endif
