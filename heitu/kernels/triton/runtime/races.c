// Finds program instances that access the same memory in one launch, one of them with a plain
// store, or one with an atomic operation and another without, where nothing orders the two.
//
// Memory is remembered in cells of the narrowest element: the last two instances that wrote to it
// and two that read it. An instance runs in segments, which end where it publishes what it did. An
// acquiring atomic operation orders the segments that were published at its address before what
// follows it (vector clocks, as sorted lists).
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define UNCHANGED 0x8000u             // a store of what memory held already
#define CELLS 1024                    // of a page
#define MOST_BYTES ((size_t)2 << 30)  // that cells and clocks may take
#define LONGEST_CLOCK 32768
#define KEPT_PAGES 1024  // between launches

typedef struct {
  uint32_t writers[2], readers[2];  // segments; 0: none
  uint16_t writing[2], reading[2];  // their sites, and UNCHANGED
} Cell;

typedef struct {
  Cell cells[CELLS];
} Page;

typedef struct {
  uint32_t instance, index;  // the last segment of the instance that is known; from 1
} Entry;

typedef struct {
  uint32_t count, room;
  Entry* entries;  // in the order of instances
} Clock;

typedef struct {
  uint64_t key;  // 0: free
  void* value;
} Slot;

typedef struct {
  uint64_t count, room;
  Slot* slots;
} Table;

static struct {
  int32_t granule;
  int synchronises;
  int gave_up;
  size_t bytes;
  Table pages, clocks;
  Entry* segments;  // which instance, and which of its segments
  uint32_t segment_count, segment_room;
} state;

static Page* spare[KEPT_PAGES];
static int spares;

static _Thread_local struct {
  Entry now;
  uint32_t segment;
  Clock known;
} self;

// Tables

static Slot* slot_of(const Table* table, uint64_t key) {
  uint64_t at = (key * 0x9e3779b97f4a7c15u) >> 20;
  for (;; ++at) {
    Slot* slot = &table->slots[at & (table->room - 1)];
    if (slot->key == key || slot->key == 0) return slot;
  }
}

static void* look_up(const Table* table, uint64_t key) {
  return table->room == 0 ? NULL : slot_of(table, key)->value;
}

static int insert(Table* table, uint64_t key, void* value) {
  if (table->count * 2 >= table->room) {
    Table larger = {table->count, table->room == 0 ? 256 : table->room * 2, NULL};
    larger.slots = calloc(larger.room, sizeof *larger.slots);
    if (larger.slots == NULL) return -1;
    for (uint64_t i = 0; i < table->room; ++i) {
      if (table->slots[i].key != 0) *slot_of(&larger, table->slots[i].key) = table->slots[i];
    }
    free(table->slots);
    *table = larger;
  }
  *slot_of(table, key) = (Slot){key, value};
  ++table->count;
  return 0;
}

static void clear(Table* table) {
  free(table->slots);
  *table = (Table){0, 0, NULL};
}

static void give_up(void) { state.gave_up = 1; }

static int take_memory(size_t bytes) {
  state.bytes += bytes;
  if (state.bytes > MOST_BYTES) give_up();
  return !state.gave_up;
}

// Clocks

// Adds what `from` knows. A list that grows too long would take too much time and memory.
static void join(Clock* clock, const Clock* from) {
  if (from->count == 0) return;
  const uint32_t most = clock->count + from->count;
  Entry* merged = malloc(most * sizeof *merged);
  if (merged == NULL) {
    give_up();
    return;
  }
  uint32_t i = 0, j = 0, count = 0;
  while (i < clock->count || j < from->count) {
    Entry next;
    if (j == from->count ||
        (i < clock->count && clock->entries[i].instance < from->entries[j].instance)) {
      next = clock->entries[i++];
    } else {
      next = from->entries[j++];
      if (i < clock->count && clock->entries[i].instance == next.instance) {
        if (clock->entries[i].index > next.index) next.index = clock->entries[i].index;
        ++i;
      }
    }
    merged[count++] = next;
  }
  state.bytes -= clock->room * sizeof(Entry);
  free(clock->entries);
  *clock = (Clock){count, most, merged};
  if (!take_memory(most * sizeof(Entry)) || count > LONGEST_CLOCK) give_up();
}

static void drop(Clock* clock) {
  state.bytes -= clock->room * sizeof(Entry);
  free(clock->entries);
  *clock = (Clock){0, 0, NULL};
}

static uint32_t known_of(const Clock* clock, uint32_t instance) {
  uint32_t low = 0, high = clock->count;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (clock->entries[middle].instance < instance) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < clock->count && clock->entries[low].instance == instance ? clock->entries[low].index
                                                                        : 0;
}

// Segments

static void begin_segment(void) {
  if (state.segment_count == state.segment_room) {
    const uint32_t room = state.segment_room == 0 ? 1024 : state.segment_room * 2;
    Entry* larger = realloc(state.segments, room * sizeof *larger);
    if (larger == NULL) {
      give_up();
      return;
    }
    state.segments = larger;
    state.segment_room = room;
  }
  ++self.now.index;
  self.segment = state.segment_count;
  state.segments[state.segment_count++] = self.now;
}

static int is_before(uint32_t segment) {
  const Entry* entry = &state.segments[segment];
  if (entry->instance == self.now.instance) return 1;
  return state.synchronises && known_of(&self.known, entry->instance) >= entry->index;
}

void heitu_races_enter(uint32_t instance) {
  self.now = (Entry){instance, 0};
  begin_segment();
}

void heitu_races_leave(void) { drop(&self.known); }

void heitu_races_publish(uint64_t address) {
  if (!state.synchronises || state.gave_up) return;
  Clock* clock = look_up(&state.clocks, address);
  if (clock == NULL) {
    clock = calloc(1, sizeof *clock);
    if (clock == NULL || insert(&state.clocks, address, clock) < 0) {
      give_up();
      return;
    }
  }
  const Clock own = {1, 0, &self.now};
  join(clock, &self.known);
  join(clock, &own);
  begin_segment();
}

void heitu_races_acquire(uint64_t address) {
  if (state.gave_up) return;
  const Clock* clock = look_up(&state.clocks, address);
  if (clock != NULL) join(&self.known, clock);
}

// Cells

static Cell* cell_of(uint64_t granule) {
  static uint64_t last_key;
  static Page* last_page;
  const uint64_t key = granule / CELLS + 1;
  if (last_page == NULL || key != last_key || state.pages.count == 0) {
    last_page = look_up(&state.pages, key);
    last_key = key;
  }
  if (last_page == NULL) {
    if (!take_memory(sizeof(Page))) return NULL;
    last_page = spares > 0 ? spare[--spares] : malloc(sizeof(Page));
    if (last_page == NULL || insert(&state.pages, key, last_page) < 0) {
      give_up();
      return NULL;
    }
    memset(last_page, 0, sizeof *last_page);
  }
  return &last_page->cells[granule % CELLS];
}

static const Site* site_of(uint16_t mark) { return &heitu_launch.sites[mark & ~UNCHANGED]; }

// Whether one of the two that are remembered is not ordered before the access with this mark.
static int conflicts(uint16_t mark, const uint32_t* segments, const uint16_t* marks,
                     int64_t element, uint64_t address) {
  const Site* site = site_of(mark);
  for (int i = 0; i < 2; ++i) {
    if (segments[i] == 0 || is_before(segments[i])) continue;
    const int is_atomic = (site_of(marks[i])->flags & ATOMIC) != 0;
    if (is_atomic && (site->flags & ATOMIC) != 0) continue;
    // Instances that all store the same number do no harm, neither to each other nor to who reads.
    if ((mark & UNCHANGED) != 0 && !is_atomic) continue;
    if ((marks[i] & UNCHANGED) != 0 && (site->flags & WRITES) == 0) continue;
    const uint32_t instance = state.segments[segments[i]].instance;
    const uint32_t x = (uint32_t)heitu_launch.grid[0], y = (uint32_t)heitu_launch.grid[1];
    const int32_t program[3] = {(int32_t)(instance % x), (int32_t)(instance / x % y),
                                (int32_t)(instance / x / y)};
    heitu_check_found(RACE, mark & ~UNCHANGED, element, address, marks[i] & ~UNCHANGED, program);
    return 1;
  }
  return 0;
}

// Remembers the access in the place of one that is ordered before it, else in a free place.
static void remember(uint16_t mark, uint32_t* segments, uint16_t* marks) {
  for (int i = 0; i < 2; ++i) {
    if (segments[i] != 0 && !is_before(segments[i])) continue;
    // What an instance stored plainly is not forgotten for what it does later with less effect.
    const int was_plain = segments[i] != 0 &&
                          state.segments[segments[i]].instance == self.now.instance &&
                          (site_of(marks[i])->flags & ATOMIC) == 0 && (marks[i] & UNCHANGED) == 0;
    if (was_plain && ((site_of(mark)->flags & ATOMIC) != 0 || (mark & UNCHANGED) != 0)) return;
    segments[i] = self.segment;
    marks[i] = mark;
    return;
  }
}

void heitu_races_access(int32_t number, int64_t element, uint64_t address, const void* value) {
  if (state.gave_up) return;
  const Site* site = &heitu_launch.sites[number];
  const int writes = (site->flags & WRITES) != 0, is_atomic = (site->flags & ATOMIC) != 0;
  const int unchanged = writes && !is_atomic && value != NULL &&
                        memcmp((const void*)address, value, (size_t)site->bytes) == 0;
  const uint16_t mark = (uint16_t)((uint32_t)number | (unchanged ? UNCHANGED : 0));
  const uint64_t first = address / (uint64_t)state.granule;
  const uint64_t last = (address + (uint64_t)site->bytes - 1) / (uint64_t)state.granule;
  int said = 0;
  for (uint64_t granule = first; granule <= last; ++granule) {
    Cell* cell = cell_of(granule);
    if (cell == NULL) return;
    if (!said) said = conflicts(mark, cell->writers, cell->writing, element, address);
    if (writes && !said) said = conflicts(mark, cell->readers, cell->reading, element, address);
    if (!writes) {
      remember(mark, cell->readers, cell->reading);
    } else if (is_atomic || unchanged) {
      remember(mark, cell->writers, cell->writing);
    } else {
      *cell = (Cell){{self.segment, 0}, {0, 0}, {mark, 0}, {0, 0}};
    }
  }
}

// Launches

int heitu_races_begin(void) {
  state.granule = 8;
  state.synchronises = state.gave_up = 0;
  state.bytes = 0;
  for (int32_t i = 0; i < heitu_launch.site_count; ++i) {
    const Site* site = &heitu_launch.sites[i];
    if (site->bytes < state.granule) state.granule = site->bytes;
    if ((site->flags & ACQUIRES) != 0) state.synchronises = 1;
  }
  state.segment_count = 1;
  if (state.segment_room == 0) {
    state.segments = malloc(1024 * sizeof *state.segments);
    if (state.segments == NULL) return -1;
    state.segment_room = 1024;
  }
  if (heitu_launch.site_count > (int32_t)UNCHANGED) give_up();
  return 0;
}

int heitu_races_end(void) {
  for (uint64_t i = 0; i < state.pages.room; ++i) {
    Page* page = state.pages.slots[i].value;
    if (page == NULL) continue;
    if (spares < KEPT_PAGES) {
      spare[spares++] = page;
    } else {
      free(page);
    }
  }
  for (uint64_t i = 0; i < state.clocks.room; ++i) {
    Clock* clock = state.clocks.slots[i].value;
    if (clock == NULL) continue;
    drop(clock);
    free(clock);
  }
  clear(&state.pages);
  clear(&state.clocks);
  return state.gave_up;
}
