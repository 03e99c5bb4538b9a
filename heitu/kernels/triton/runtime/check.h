// What a checked launch is given and what it finds; Python's side is `checking/library.py`.
#ifndef HEITU_TRITON_CHECK_H_
#define HEITU_TRITON_CHECK_H_

#include <stdint.h>

enum SiteFlags {
  READS = 1,
  WRITES = 2,
  ATOMIC = 4,
  ACQUIRES = 8,    // what others published is known afterwards
  PUBLISHES = 16,  // others may come to know what was done before
  POLLS = 32,
  CHOSEN = 64,  // of what is read not all is used; heitu_check_chosen says what
};

enum AreaFlags {
  KNOWN = 1,     // there is something to judge by
  POISONED = 2,  // it held the pattern when it was allocated
  WATCHED = 4,   // some site may write to it, so that accesses have to be remembered
};

enum FindingKind { OUT_OF_BOUNDS, OUTSIDE_OF_VIEW, UNINITIALISED, RACE, FINDING_KINDS };

// One operation that accesses memory.
typedef struct {
  int32_t flags;
  int32_t bytes;     // of an element
  int32_t argument;  // from which the address is computed; -1: not known
} Site;

// Memory from `first` up to, without, `last`.
typedef struct {
  uint64_t first, last;
  int32_t flags;
} Area;

// A pointer among the arguments: the storage, and what the tensor covers of it.
typedef struct {
  Area storage;
  uint64_t view_first, view_last;
} Argument;

typedef struct {
  int32_t grid[3];
  int32_t at_once;   // whether instances wait for each other
  uint32_t pattern;  // what memory holds that was allocated and not written
  int32_t site_count, argument_count, area_count, segment_count;
  const Site* sites;
  const Argument* arguments;
  const Area* areas;     // sorted, apart: for addresses that come from no argument
  const Area* segments;  // memory in which only what lies in `areas` is allocated
} Launch;

// The first access that was found wrong in one way at one site, and how many there were.
typedef struct {
  int64_t count;
  int64_t element;
  uint64_t address;
  int32_t program[3];
  int32_t other_site, other_program[3];  // of a race
} Finding;

// Accesses are judged from here on until the end; one launch at a time. Returns -1 without memory.
int heitu_check_begin(const Launch* launch);
// FINDING_KINDS for each site, in the order of sites, until the next launch begins. `limited`:
// whether races were no longer looked for because that would have taken too much memory.
const Finding* heitu_check_end(int32_t* limited);
// If the process is to end with 0, it ends with this code.
void heitu_check_end_with(int code);

// Of check.c, for races.c.
extern Launch heitu_launch;
void heitu_check_found(enum FindingKind kind, int32_t site, int64_t element, uint64_t address,
                       int32_t other_site, const int32_t* other_program);

// Of races.c. Instances have numbers in the order of the grid.
int heitu_races_begin(void);
int heitu_races_end(void);  // returns whether it gave up
void heitu_races_enter(uint32_t instance);
void heitu_races_leave(void);
void heitu_races_access(int32_t site, int64_t element, uint64_t address, const void* value);
void heitu_races_publish(uint64_t address);
void heitu_races_acquire(uint64_t address);

#endif
