// Which kernels launches of a function took, by what of their values decided it.
#ifndef HEITU_TRITON_REMEMBERED_H_
#define HEITU_TRITON_REMEMBERED_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "pool.h"

#define MOST_VALUES 128  // that a launch remembered here is given

// What is known of types, and of functions.
typedef struct {
  PyObject* tensors;    // types of tensors
  PyObject* constants;  // types of values that never change
  PyObject* define;     // gives a function's parameters, or None
} Kinds;

// One launch, whose objects are borrowed.
typedef struct {
  PyObject *function, *grid;
  PyObject* values[MOST_VALUES];
  PyObject* names[MOST_VALUES];  // of those behind the positional ones
  uint64_t tags[MOST_VALUES];    // 0: not looked at yet
  Py_ssize_t positional, given;
  long device;
} Call;

// What of a value decides which kernel it takes.
typedef struct {
  uint64_t tag;
  PyObject* constant;  // the value itself, where all of it does; else NULL
} Trait;

typedef struct Entry {
  struct Entry* next;
  int uses;  // by a list and by launches: what computes a grid may launch, too
  PyObject *kernel, *cache, *key, *launcher;
  Kernel function;
  long device;
  Py_ssize_t positional, given, parameters;
  PyObject** names;   // of the values that are given by name
  int* source;        // of each parameter: the number of the value, or -1: its default
  Trait* traits;      // of each value
  PyObject* defined;  // of each parameter (name, whether it is a constant, and (default,) or ())
} Entry;

// The kernel that a launch takes, to be released; NULL: it is not known.
Entry* heitu_find_entry(const Kinds* kinds, Call* call);
void heitu_release_entry(Entry* entry);

// Notes what kernel a launch took, where that can be told from the next one; raises nothing.
void heitu_remember(const Kinds* kinds, Call* call, PyObject* kernel);

int heitu_prepare_remembered(void);  // before anything of it is used; -1 with an exception

#endif
