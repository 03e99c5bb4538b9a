// The launch of one compiled kernel, and of kernels that were launched before.
#ifndef HEITU_TRITON_LAUNCHER_H_
#define HEITU_TRITON_LAUNCHER_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "pool.h"

#define BEFORE_ARGUMENTS 9  // grid (3), stream, function, two kinds of metadata, two hooks
#define MOST_ARGUMENTS 512

typedef struct Launcher Launcher;

// What Triton has called before and after a launch, and what it is given.
typedef struct {
  PyObject *enter, *leave, *metadata;
} Hooks;

// Packs the values of a launch and runs the grid, of which there are three extents. Returns 0, or
// -1 with an exception. `hooks` may be null.
int heitu_launch_grid(Launcher* launcher, Kernel kernel, PyObject* const* extents,
                      PyObject* const* values, Py_ssize_t given, const Hooks* hooks);

extern PyTypeObject heitu_LauncherType;
extern PyTypeObject heitu_RunType;  // in run.c
int heitu_prepare_run(void);        // before it is used; -1 with an exception

#endif
