// Judges the accesses of kernels in their checked form: bounds, and reads of what was never
// written. Program instances run one at a time; those that wait for others take turns at atomic
// operations.
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../include/heitu_check.h"

#define MOST_AT_ONCE 256
#define WIDEST 16

Launch heitu_launch;
static int active;
static Finding* findings;
static _Thread_local int32_t current[3];

// Turns, in the order in which they were asked for.
static struct {
  pthread_mutex_t mutex;
  uint64_t next, serving;
  pthread_cond_t called[MOST_AT_ONCE];
} turns = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void take_turn(void) {
  if (!heitu_launch.at_once) return;
  pthread_mutex_lock(&turns.mutex);
  const uint64_t mine = turns.next++;
  while (turns.serving != mine) {
    pthread_cond_wait(&turns.called[mine % MOST_AT_ONCE], &turns.mutex);
  }
  pthread_mutex_unlock(&turns.mutex);
}

static void end_turn(void) {
  if (!heitu_launch.at_once) return;
  pthread_mutex_lock(&turns.mutex);
  ++turns.serving;
  pthread_cond_broadcast(&turns.called[turns.serving % MOST_AT_ONCE]);
  pthread_mutex_unlock(&turns.mutex);
}

int heitu_check_begin(const Launch* launch) {
  heitu_launch = *launch;
  free(findings);
  findings = calloc((size_t)launch->site_count * FINDING_KINDS + 1, sizeof *findings);
  if (findings == NULL || heitu_races_begin() < 0) return -1;
  for (int i = 0; i < MOST_AT_ONCE; ++i) pthread_cond_init(&turns.called[i], NULL);
  active = 1;
  return 0;
}

const Finding* heitu_check_end(int32_t* limited) {
  active = 0;
  *limited = heitu_races_end();
  return findings;
}

int heitu_check_enter(const int32_t* program, const int32_t* programs) {
  if (!active) return 0;
  take_turn();
  memcpy(current, program, sizeof current);
  const int64_t row = (int64_t)program[2] * programs[1] + program[1];
  heitu_races_enter((uint32_t)(row * programs[0] + program[0]));
  return 1;
}

void heitu_check_leave(int* entered) {
  if (!*entered) return;
  heitu_races_leave();
  end_turn();
}

void heitu_check_found(enum FindingKind kind, int32_t site, int64_t element, uint64_t address,
                       int32_t other_site, const int32_t* other_program) {
  Finding* finding = &findings[(int64_t)site * FINDING_KINDS + kind];
  if (finding->count++ > 0) return;
  finding->element = element;
  finding->address = address;
  memcpy(finding->program, current, sizeof current);
  finding->other_site = other_site;
  if (other_program != NULL) memcpy(finding->other_program, other_program, sizeof current);
}

static const Area* area_of(const Area* areas, int32_t count, uint64_t address) {
  int32_t low = 0, high = count;  // the last that starts at the address or before is below `high`
  while (low < high) {
    const int32_t middle = low + (high - low) / 2;
    if (areas[middle].first <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low > 0 && address < areas[low - 1].last ? &areas[low - 1] : NULL;
}

static int is_inside(uint64_t first, uint64_t last, uint64_t address, int32_t bytes) {
  return address >= first && address < last && last - address >= (uint64_t)bytes;
}

static int in_some_view(uint64_t address, int32_t bytes) {
  for (int32_t i = 0; i < heitu_launch.argument_count; ++i) {
    const Argument* argument = &heitu_launch.arguments[i];
    if (is_inside(argument->view_first, argument->view_last, address, bytes)) return 1;
  }
  return 0;
}

// Whether memory still holds the pattern. Of elements that are smaller than it, the whole word
// around them has to; where there is no whole word, nothing is said.
static int is_untouched(const Area* area, uint64_t address, int32_t bytes) {
  uint64_t first = address & ~(uint64_t)3, last = (address + (uint64_t)bytes + 3) & ~(uint64_t)3;
  if (last > area->last) {
    last = area->last;
    if (last - area->first < sizeof heitu_launch.pattern) return 0;
    if (last - first < sizeof heitu_launch.pattern) first = last - sizeof heitu_launch.pattern;
  }
  if (first < area->first) return 0;
  const char* pattern = (const char*)&heitu_launch.pattern;
  for (uint64_t at = first; at < last; ++at) {
    if (*(const char*)at != pattern[at & 3]) return 0;
  }
  return 1;
}

static void check_initialised(const Area* area, int32_t site, int64_t element, uint64_t address) {
  const int32_t bytes = heitu_launch.sites[site].bytes;
  if (area != NULL && (area->flags & POISONED) != 0 && is_untouched(area, address, bytes)) {
    heitu_check_found(UNINITIALISED, site, element, address, -1, NULL);
  }
}

// Where accesses go that must not reach memory: zero each time. Polls find what they wait for.
static int64_t nowhere(const Site* site, const void* value) {
  static _Thread_local _Alignas(WIDEST) char memory[WIDEST];
  memset(memory, 0, sizeof memory);
  if ((site->flags & POLLS) != 0) {
    memcpy(memory, value, (size_t)site->bytes);
    end_turn();
  }
  return (int64_t)(intptr_t)memory;
}

int64_t heitu_check_access(int32_t number, int64_t element, int64_t signed_address,
                           const void* value) {
  if (!active) return signed_address;
  const Site* site = &heitu_launch.sites[number];
  const uint64_t address = (uint64_t)signed_address;
  const Argument* argument = site->argument >= 0 ? &heitu_launch.arguments[site->argument] : NULL;
  const Area* area;
  if (argument != NULL && (argument->storage.flags & KNOWN) != 0) {
    area = &argument->storage;
    if (!is_inside(area->first, area->last, address, site->bytes)) {
      heitu_check_found(OUT_OF_BOUNDS, number, element, address, -1, NULL);
      return nowhere(site, value);
    }
    if (!is_inside(argument->view_first, argument->view_last, address, site->bytes) &&
        !in_some_view(address, site->bytes)) {
      heitu_check_found(OUTSIDE_OF_VIEW, number, element, address, -1, NULL);
    }
  } else {
    area = area_of(heitu_launch.areas, heitu_launch.area_count, address);
    const int crosses = area != NULL && area->last - address < (uint64_t)site->bytes;
    const int is_free =
        area == NULL && (address < 4096 || area_of(heitu_launch.segments,
                                                   heitu_launch.segment_count, address) != NULL);
    if (crosses || is_free) {
      heitu_check_found(OUT_OF_BOUNDS, number, element, address, -1, NULL);
      return nowhere(site, value);
    }
  }
  if ((site->flags & READS) != 0 && (site->flags & CHOSEN) == 0) {
    check_initialised(area, number, element, address);
  }
  if (area == NULL || (area->flags & WATCHED) != 0) {
    heitu_races_access(number, element, address, value);
  }
  if ((site->flags & PUBLISHES) != 0) heitu_races_publish(address);
  if ((site->flags & POLLS) != 0) end_turn();
  return signed_address;
}

void heitu_check_chosen(int32_t number, int64_t element, int64_t signed_address) {
  if (!active) return;
  const Site* site = &heitu_launch.sites[number];
  const uint64_t address = (uint64_t)signed_address;
  const Area* area = site->argument >= 0 ? &heitu_launch.arguments[site->argument].storage : NULL;
  if (area == NULL || (area->flags & KNOWN) == 0) {
    area = area_of(heitu_launch.areas, heitu_launch.area_count, address);
  }
  // What was out of bounds was read elsewhere.
  if (area == NULL || !is_inside(area->first, area->last, address, site->bytes)) return;
  check_initialised(area, number, element, address);
}

void heitu_check_acquired(int32_t number, int64_t address) {
  if (!active) return;
  const Site* site = &heitu_launch.sites[number];
  if ((site->flags & POLLS) != 0) take_turn();
  heitu_races_acquire((uint64_t)address);
}

void heitu_check_next(int32_t number) {
  if (!active || !heitu_launch.at_once || (heitu_launch.sites[number].flags & POLLS) != 0) return;
  end_turn();
  take_turn();
}

static void end_otherwise(int status, void* code) {
  // The C library goes on with the handlers that are left, and ends with the last status given.
  if (status == 0) exit((int)(intptr_t)code);
}

void heitu_check_end_with(int code) { on_exit(end_otherwise, (void*)(intptr_t)code); }
