// Program instances are handed out in small portions to the thread that launches and to those of
// the pool, which sleep in between. A launch that finds the pool at work does its grid alone.
#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_THREADS 256
#define PORTIONS 8  // a thread, so that late threads find less to do
#define TURNS 2000  // looks for the next grid before a thread sleeps
#define ALIGNMENT 64

typedef struct {
  Kernel kernel;
  const uint64_t* arguments;
  int32_t grid[3];
  int64_t count, portion, scratch_bytes;
} Job;

static struct {
  pthread_mutex_t mutex, busy;
  pthread_cond_t arrived;
  Job job;
  _Atomic int64_t next;
  _Atomic uint64_t turn;  // of jobs
  _Atomic int working;    // threads of the pool in the job
  _Atomic int wanted;     // threads of the pool that may still join it
  _Atomic int out_of_memory;
  int threads;  // of the pool
  int asleep;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER,
          .busy = PTHREAD_MUTEX_INITIALIZER,
          .arrived = PTHREAD_COND_INITIALIZER};

static void (*team)(void (*)(void*), void*, unsigned, unsigned);
static int (*threads_now)(void);
static int usual_threads = 1;

static pthread_mutex_t failure_mutex = PTHREAD_MUTEX_INITIALIZER;
static char* failure;

static char* scratch_of_thread(int64_t bytes) {
  static _Thread_local char* memory;
  static _Thread_local int64_t held;
  if (bytes > held) {
    free(memory);
    memory = aligned_alloc(ALIGNMENT, (size_t)((bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT));
    held = memory != NULL ? bytes : 0;
  }
  return memory;
}

static void work(const Job* job) {
  char* scratch = scratch_of_thread(job->scratch_bytes);
  if (scratch == NULL && job->scratch_bytes > 0) {
    pool.out_of_memory = 1;
    return;
  }
  for (;;) {
    const int64_t first = atomic_fetch_add(&pool.next, job->portion);
    if (first >= job->count) return;
    const int64_t last = first + job->portion < job->count ? first + job->portion : job->count;
    for (int64_t i = first; i < last; ++i) {
      const int32_t program[3] = {(int32_t)(i % job->grid[0]),
                                  (int32_t)(i / job->grid[0] % job->grid[1]),
                                  (int32_t)(i / job->grid[0] / job->grid[1])};
      job->kernel(job->arguments, program, job->grid, scratch);
    }
  }
}

static void* live(void* unused) {
  (void)unused;
  uint64_t seen = 0;
  for (;;) {
    for (int i = 0; i < TURNS && atomic_load(&pool.turn) == seen; ++i) sched_yield();
    pthread_mutex_lock(&pool.mutex);
    ++pool.asleep;
    while (pool.turn == seen) pthread_cond_wait(&pool.arrived, &pool.mutex);
    --pool.asleep;
    seen = pool.turn;
    const int joins = pool.wanted > 0;
    if (joins) {
      --pool.wanted;
      ++pool.working;
    }
    const Job job = pool.job;
    pthread_mutex_unlock(&pool.mutex);
    if (joins) {
      work(&job);
      --pool.working;
    }
  }
  return NULL;
}

// A child of fork has no threads but one.
static void forget(void) {
  pthread_mutex_init(&pool.mutex, NULL);
  pthread_mutex_init(&pool.busy, NULL);
  pthread_cond_init(&pool.arrived, NULL);
  pool.threads = pool.asleep = 0;
  pool.working = pool.wanted = 0;
  team = NULL;
}

static void prepare_for_fork(void) {
  static int registered;
  if (!registered) {
    registered = 1;
    pthread_atfork(NULL, NULL, forget);
  }
}

void heitu_use_threads(int usual, int (*count)(void),
                       void (*parallel)(void (*)(void*), void*, unsigned, unsigned)) {
  prepare_for_fork();
  usual_threads = usual;
  threads_now = count;
  team = parallel;
}

static void join_team(void* job) { work(job); }

static void grow(int threads) {
  prepare_for_fork();
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  while (pool.threads < threads) {
    pthread_t thread;
    if (pthread_create(&thread, &attributes, live, NULL) != 0) break;
    ++pool.threads;
  }
  pthread_attr_destroy(&attributes);
}

int heitu_run_grid(Kernel kernel, const uint64_t* arguments, const int32_t* grid,
                   int64_t scratch_bytes, int threads) {
  Job job = {kernel, arguments, {grid[0], grid[1], grid[2]}, 0, 1, scratch_bytes};
  job.count = (int64_t)grid[0] * grid[1] * grid[2];
  if (job.count <= 0) return 0;
  const int together = threads < 0;
  if (together) threads = -threads;
  if (threads == 0) threads = threads_now != NULL ? threads_now() : usual_threads;
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  if (threads > job.count) threads = (int)job.count;
  if (threads <= 1 || pthread_mutex_trylock(&pool.busy) != 0) {
    char* scratch = scratch_of_thread(scratch_bytes);
    if (scratch == NULL && scratch_bytes > 0) return -1;
    for (int32_t z = 0; z < grid[2]; ++z) {
      for (int32_t y = 0; y < grid[1]; ++y) {
        for (int32_t x = 0; x < grid[0]; ++x) {
          const int32_t program[3] = {x, y, z};
          kernel(arguments, program, grid, scratch);
        }
      }
    }
    return 0;
  }
  job.portion = job.count / ((int64_t)threads * PORTIONS);
  if (job.portion < 1) job.portion = 1;
  if (team != NULL && !together) {
    pool.next = 0;
    pool.out_of_memory = 0;
    team(join_team, &job, (unsigned)threads, 0);
    const int code = pool.out_of_memory ? -1 : 0;
    pthread_mutex_unlock(&pool.busy);
    return code;
  }
  grow(threads - 1);
  pthread_mutex_lock(&pool.mutex);
  pool.job = job;
  pool.next = 0;
  pool.out_of_memory = 0;
  pool.wanted = threads - 1;
  ++pool.turn;
  const int asleep = pool.asleep;
  pthread_mutex_unlock(&pool.mutex);
  if (asleep > 0) pthread_cond_broadcast(&pool.arrived);
  work(&job);
  pthread_mutex_lock(&pool.mutex);
  pool.wanted = 0;  // who has not come by now finds nothing to do
  pthread_mutex_unlock(&pool.mutex);
  while (atomic_load(&pool.working) > 0) sched_yield();
  const int code = pool.out_of_memory ? -1 : 0;
  pthread_mutex_unlock(&pool.busy);
  return code;
}

void heitu_assert_failed(const char* message, const int32_t* program) {
  pthread_mutex_lock(&failure_mutex);
  if (failure == NULL) {
    const size_t bytes = strlen(message) + 80;
    failure = malloc(bytes);
    if (failure != NULL) {
      snprintf(failure, bytes, "%s (program %d, %d, %d)", message, program[0], program[1],
               program[2]);
    }
  }
  pthread_mutex_unlock(&failure_mutex);
}

char* heitu_take_failure(void) {
  if (failure == NULL) return NULL;
  pthread_mutex_lock(&failure_mutex);
  char* taken = failure;
  failure = NULL;
  pthread_mutex_unlock(&failure_mutex);
  return taken;
}

void heitu_print(const char* line, ...) {
  va_list arguments;
  va_start(arguments, line);
  flockfile(stdout);
  vprintf(line, arguments);
  fflush(stdout);
  funlockfile(stdout);
  va_end(arguments);
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

#define DEFINE_POLL(bits)                                                                    \
  _Bool heitu_poll_##bits(uint##bits##_t* address, uint##bits##_t expected, int64_t limit) { \
    const int64_t start = limit >= 0 ? now() : 0;                                            \
    for (;;) {                                                                               \
      if (__atomic_load_n(address, __ATOMIC_ACQUIRE) == expected) return 1;                  \
      if (limit >= 0 && now() - start >= limit) return 0;                                    \
      sched_yield();                                                                         \
    }                                                                                        \
  }
DEFINE_POLL(16)
DEFINE_POLL(32)
DEFINE_POLL(64)
