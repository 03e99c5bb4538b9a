// What `kernel[grid](...)` calls in the end: packs Python's arguments and runs the grid.
#define PY_SSIZE_T_CLEAN
#include "launcher.h"

#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"

struct Launcher {
  PyObject_HEAD char* kinds;  // one letter an argument; parentheses around those of a tuple
  int64_t scratch_bytes;
  int threads;
  int device_only;      // whether pointers to the host's memory are refused, as a GPU refuses them
  PyObject* capturing;  // None, or says whether launches are recorded now
  PyObject* record;     // if so, called with a function that runs the grid, and the arguments
  int64_t most[4];      // programs of a launch in x, y and z, and in all; 0: as many as there are
  PyObject* beyond;     // called with (x, y, z) where they are more; raises
  uint64_t* launches;   // NULL, or where launches are counted
  vectorcallfunc vectorcall;
};

static PyObject *data_ptr_name, *is_cuda_name, *is_pinned_name, *calls_name;

// Whether a GPU could read the tensor: what does not say where it lies is taken for granted.
static int is_reachable(PyObject* value) {
  PyObject* answer = PyObject_GetAttr(value, is_cuda_name);
  if (answer == NULL) {
    PyErr_Clear();
    return 1;
  }
  int reachable = PyObject_IsTrue(answer);
  Py_DECREF(answer);
  if (reachable == 0) {
    answer = PyObject_CallMethodNoArgs(value, is_pinned_name);
    if (answer == NULL) return -1;
    reachable = PyObject_IsTrue(answer);
    Py_DECREF(answer);
  }
  return reachable;
}

static int pack_pointer(PyObject* value, uint64_t* slot, int device_only) {
  if (value == Py_None) {
    *slot = 0;
    return 0;
  }
  if (PyLong_Check(value)) {
    *slot = PyLong_AsUnsignedLongLongMask(value);
    return PyErr_Occurred() ? -1 : 0;
  }
  PyObject* address = PyObject_CallMethodNoArgs(value, data_ptr_name);
  if (address == NULL) {
    PyErr_Format(PyExc_TypeError, "Pointer argument must be a tensor, an integer or None, not %s",
                 Py_TYPE(value)->tp_name);
    return -1;
  }
  *slot = PyLong_AsUnsignedLongLongMask(address);
  Py_DECREF(address);
  if (PyErr_Occurred()) return -1;
  if (device_only && *slot != 0) {
    const int reachable = is_reachable(value);
    if (reachable == 0) {
      PyErr_SetString(PyExc_ValueError,
                      "Pointer argument cannot be accessed from Triton (cpu tensor?)");
    }
    if (reachable != 1) return -1;
  }
  return 0;
}

static int pack_integer(PyObject* value, uint64_t* slot) {
  PyObject* number = PyNumber_Index(value);
  if (number == NULL) return -1;
  int beyond;
  *slot = (uint64_t)PyLong_AsLongLongAndOverflow(number, &beyond);
  if (beyond > 0) *slot = PyLong_AsUnsignedLongLong(number);
  Py_DECREF(number);
  if (beyond < 0) PyErr_SetString(PyExc_OverflowError, "an argument is less than -2**63");
  return PyErr_Occurred() ? -1 : 0;
}

static int pack_float(PyObject* value, char kind, uint64_t* slot) {
  const double number = PyFloat_AsDouble(value);
  if (number == -1.0 && PyErr_Occurred()) return -1;
  *slot = 0;
  if (kind == 'd') {
    memcpy(slot, &number, sizeof number);
  } else if (kind == 'h') {
    const _Float16 half = (_Float16)number;
    memcpy(slot, &half, sizeof half);
  } else {
    const float single = (float)number;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    if (kind == 'B') bits = single != single ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    *slot = bits;
  }
  return 0;
}

// Packs one argument; `kinds` moves behind its letters. Returns the number of slots, or -1.
static int pack(PyObject* value, const char** kinds, uint64_t* slots, int room, int device_only) {
  const char kind = *(*kinds)++;
  if (kind == '(') {
    PyObject* items = PySequence_Fast(value, "a tuple was expected as an argument");
    if (items == NULL) return -1;
    int used = 0;
    for (Py_ssize_t i = 0; **kinds != ')' && **kinds != '\0'; ++i) {
      if (i >= PySequence_Fast_GET_SIZE(items)) {
        PyErr_SetString(PyExc_TypeError, "a tuple argument has fewer items than before");
        used = -1;
        break;
      }
      const int more =
          pack(PySequence_Fast_GET_ITEM(items, i), kinds, slots + used, room - used, device_only);
      if (more < 0) {
        used = -1;
        break;
      }
      used += more;
    }
    Py_DECREF(items);
    if (used >= 0) ++*kinds;
    return used;
  }
  if (kind == 'c') return 0;
  if (room < 1) {
    PyErr_Format(PyExc_TypeError, "a kernel may have %d arguments at most", MOST_ARGUMENTS);
    return -1;
  }
  if (kind == 'p') return pack_pointer(value, slots, device_only) < 0 ? -1 : 1;
  if (kind == 'i') return pack_integer(value, slots) < 0 ? -1 : 1;
  return pack_float(value, kind, slots) < 0 ? -1 : 1;
}

static int call_hook(PyObject* hook, PyObject* metadata) {
  if (hook == Py_None) return 0;
  PyObject* chain = PyObject_GetAttr(hook, calls_name);  // what Triton calls one after the other
  if (chain == NULL) PyErr_Clear();
  const int empty = chain != NULL && PyList_CheckExact(chain) && PyList_GET_SIZE(chain) == 0;
  Py_XDECREF(chain);
  if (empty) return 0;
  PyObject* result = PyObject_CallOneArg(hook, metadata);
  Py_XDECREF(result);
  return result == NULL ? -1 : 0;
}

static int run(const Launcher* self, Kernel kernel, const uint64_t* slots, const int32_t* grid) {
  int code;
  if (self->launches != NULL) ++*self->launches;
  Py_BEGIN_ALLOW_THREADS;
  code = heitu_run_grid(kernel, slots, grid, self->scratch_bytes, self->threads);
  Py_END_ALLOW_THREADS;
  if (code != 0) {
    PyErr_Format(PyExc_MemoryError, "no memory for the tiles of a kernel: %lld bytes a thread",
                 (long long)self->scratch_bytes);
    return -1;
  }
  char* failure = heitu_take_failure();
  if (failure != NULL) {
    PyErr_Format(PyExc_RuntimeError, "CUDA error: device-side assert triggered: %s", failure);
    free(failure);
    return -1;
  }
  return 0;
}

static int within(const Launcher* self, const int32_t* grid) {
  const int64_t* most = self->most;
  int beyond = most[3] != 0 && (__int128)grid[0] * grid[1] * grid[2] > most[3];
  for (int i = 0; i < 3; ++i) beyond |= most[i] != 0 && grid[i] > most[i];
  if (!beyond) return 0;
  PyObject* result = PyObject_CallFunction(self->beyond, "iii", grid[0], grid[1], grid[2]);
  Py_XDECREF(result);
  return result == NULL ? -1 : 0;
}

// A launch that is kept, as a graph keeps it.
typedef struct {
  PyObject_HEAD Launcher* launcher;
  Kernel kernel;
  int32_t grid[3];
  uint64_t slots[];
} Launch;

static PyObject* launch_call(PyObject* object, PyObject* Py_UNUSED(arguments),
                             PyObject* Py_UNUSED(names)) {
  Launch* self = (Launch*)object;
  if (run(self->launcher, self->kernel, self->slots, self->grid) < 0) return NULL;
  Py_RETURN_NONE;
}

static void launch_dealloc(PyObject* object) {
  Py_DECREF(((Launch*)object)->launcher);
  PyObject_Free(object);
}

static PyTypeObject LaunchType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "heitu_triton_runtime.Launch",
    .tp_basicsize = sizeof(Launch) + MOST_ARGUMENTS * sizeof(uint64_t),
    .tp_dealloc = launch_dealloc,
    .tp_call = launch_call,
    .tp_flags = Py_TPFLAGS_DEFAULT,
};

// Adds what the slots were made of to `items`; tuples are flattened, constants left out.
static int collect(PyObject* items, PyObject* value, const char** kinds) {
  const char kind = *(*kinds)++;
  if (kind == 'c') return 0;
  if (kind != '(') return PyList_Append(items, value);
  for (Py_ssize_t i = 0; **kinds != ')'; ++i) {
    PyObject* item = PySequence_GetItem(value, i);
    const int code = item == NULL ? -1 : collect(items, item, kinds);
    Py_XDECREF(item);
    if (code < 0) return -1;
  }
  ++*kinds;
  return 0;
}

static int record_launch(Launcher* self, Kernel kernel, const uint64_t* slots, int used,
                         const int32_t* grid, PyObject* const* values, Py_ssize_t given) {
  Launch* launch = PyObject_New(Launch, &LaunchType);
  if (launch == NULL) return -1;
  Py_INCREF(self);
  launch->launcher = self;
  launch->kernel = kernel;
  memcpy(launch->grid, grid, sizeof launch->grid);
  memcpy(launch->slots, slots, (size_t)used * sizeof *slots);
  PyObject* items = PyList_New(0);
  PyObject* result = NULL;
  const char* kinds = self->kinds;
  if (items == NULL) goto done;
  for (Py_ssize_t i = 0; i < given && *kinds != '\0'; ++i) {
    if (collect(items, values[i], &kinds) < 0) goto done;
  }
  result = PyObject_CallFunctionObjArgs(self->record, (PyObject*)launch, items, NULL);
done:
  Py_DECREF(launch);
  Py_XDECREF(items);
  Py_XDECREF(result);
  return result == NULL ? -1 : 0;
}

int heitu_launch_grid(Launcher* self, Kernel kernel, PyObject* const* extents,
                      PyObject* const* values, Py_ssize_t given, const Hooks* hooks) {
  int32_t grid[3];
  for (int i = 0; i < 3; ++i) {
    const long extent = PyLong_AsLong(extents[i]);
    if (extent == -1 && PyErr_Occurred()) return -1;
    if (extent > INT32_MAX || extent < INT32_MIN) {
      PyErr_Format(PyExc_OverflowError,
                   "a grid has at most %ld programs in each direction, not %ld", (long)INT32_MAX,
                   extent);
      return -1;
    }
    grid[i] = (int32_t)extent;
  }
  uint64_t slots[MOST_ARGUMENTS];
  int used = 0;
  const char* kinds = self->kinds;
  for (Py_ssize_t i = 0; i < given && *kinds != '\0'; ++i) {
    const int more =
        pack(values[i], &kinds, slots + used, MOST_ARGUMENTS - used, self->device_only);
    if (more < 0) return -1;
    used += more;
  }
  if (*kinds != '\0') {
    PyErr_SetString(PyExc_TypeError, "a kernel was launched with too few arguments");
    return -1;
  }
  if ((int64_t)grid[0] * grid[1] * grid[2] <= 0) return 0;
  if (self->beyond != Py_None && within(self, grid) < 0) return -1;
  if (hooks != NULL && call_hook(hooks->enter, hooks->metadata) < 0) return -1;
  int recorded = 0;
  if (self->capturing != Py_None) {
    PyObject* answer = PyObject_CallNoArgs(self->capturing);
    if (answer == NULL) return -1;
    recorded = PyObject_IsTrue(answer);
    Py_DECREF(answer);
  }
  const int code = recorded ? record_launch(self, kernel, slots, used, grid, values, given)
                            : run(self, kernel, slots, grid);
  return code < 0 || hooks == NULL ? code : call_hook(hooks->leave, hooks->metadata);
}

static PyObject* launcher_vectorcall(PyObject* object, PyObject* const* arguments, size_t count,
                                     PyObject* names) {
  const Py_ssize_t given = PyVectorcall_NARGS(count);
  if (given < BEFORE_ARGUMENTS || (names != NULL && PyTuple_GET_SIZE(names) > 0)) {
    PyErr_SetString(PyExc_TypeError, "a launcher takes a grid, a stream, hooks and arguments");
    return NULL;
  }
  const Kernel kernel = (Kernel)PyLong_AsVoidPtr(arguments[4]);
  if (kernel == NULL && PyErr_Occurred()) return NULL;
  const Hooks hooks = {arguments[7], arguments[8], arguments[6]};
  const int code =
      heitu_launch_grid((Launcher*)object, kernel, arguments, arguments + BEFORE_ARGUMENTS,
                        given - BEFORE_ARGUMENTS, &hooks);
  if (code < 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject* launcher_new(PyTypeObject* type, PyObject* arguments, PyObject* names) {
  static char* keywords[] = {"kinds",  "scratch_bytes", "threads", "device_only", "capturing",
                             "record", "most",          "beyond",  "launches",    NULL};
  const char* kinds;
  long long scratch_bytes;
  int threads, device_only;
  PyObject *capturing = Py_None, *record = Py_None, *beyond = Py_None;
  long long most[4] = {0, 0, 0, 0};
  unsigned long long launches = 0;
  if (!PyArg_ParseTupleAndKeywords(arguments, names, "sLip|OO(LLLL)OK", keywords, &kinds,
                                   &scratch_bytes, &threads, &device_only, &capturing, &record,
                                   &most[0], &most[1], &most[2], &most[3], &beyond, &launches)) {
    return NULL;
  }
  Launcher* self = (Launcher*)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  self->kinds = strdup(kinds);
  self->scratch_bytes = scratch_bytes;
  self->threads = threads;
  self->device_only = device_only;
  Py_INCREF(capturing);
  self->capturing = capturing;
  Py_INCREF(record);
  self->record = record;
  for (int i = 0; i < 4; ++i) self->most[i] = most[i];
  Py_INCREF(beyond);
  self->beyond = beyond;
  self->launches = (uint64_t*)(uintptr_t)launches;
  self->vectorcall = launcher_vectorcall;
  return (PyObject*)self;
}

static void launcher_dealloc(PyObject* object) {
  Launcher* self = (Launcher*)object;
  free(self->kinds);
  Py_XDECREF(self->capturing);
  Py_XDECREF(self->record);
  Py_XDECREF(self->beyond);
  Py_TYPE(object)->tp_free(object);
}

PyTypeObject heitu_LauncherType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "heitu_triton_runtime.Launcher",
    .tp_basicsize = sizeof(Launcher),
    .tp_dealloc = launcher_dealloc,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Launcher, vectorcall),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = launcher_new,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "heitu_triton_runtime",
                                    .m_size = -1};

PyMODINIT_FUNC PyInit_heitu_triton_runtime(void) {
  data_ptr_name = PyUnicode_InternFromString("data_ptr");
  is_cuda_name = PyUnicode_InternFromString("is_cuda");
  is_pinned_name = PyUnicode_InternFromString("is_pinned");
  calls_name = PyUnicode_InternFromString("calls");
  if (data_ptr_name == NULL || is_cuda_name == NULL || is_pinned_name == NULL ||
      calls_name == NULL || PyType_Ready(&heitu_LauncherType) < 0 ||
      PyType_Ready(&LaunchType) < 0 || heitu_prepare_run() < 0) {
    return NULL;
  }
  PyObject* made = PyModule_Create(&module);
  if (made == NULL) return NULL;
  if (PyModule_AddObjectRef(made, "Launcher", (PyObject*)&heitu_LauncherType) < 0 ||
      PyModule_AddObjectRef(made, "Run", (PyObject*)&heitu_RunType) < 0) {
    return NULL;
  }
  return made;
}
