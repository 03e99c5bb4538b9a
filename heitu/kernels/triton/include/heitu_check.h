// What kernels in their checked form call of the runtime besides the rest.
#ifndef HEITU_CHECK_H_
#define HEITU_CHECK_H_

#include <stdint.h>

// Begins a program instance, and ends it.
int heitu_check_enter(const int32_t* program, const int32_t* programs);
void heitu_check_leave(int* entered);

// Judges the access of one element. Returns the address, or that of memory which nobody else has if
// the element lies outside of what may be accessed.
//
// `value`: what a plain store is about to write, or what a poll waits for; null for all others.
int64_t heitu_check_access(int32_t site, int64_t element, int64_t address, const void* value);

// The element, which was read at this site, is used.
void heitu_check_chosen(int32_t site, int64_t element, int64_t address);

// After an atomic operation: what others published at the address is known from here on.
void heitu_check_acquired(int32_t site, int64_t address);
// After an atomic operation: lets other instances run.
void heitu_check_next(int32_t site);

#endif
