// `JITFunction.run` for launches that are like one before: which kernel they take is looked up
// here, in place of Triton's own way to it, which takes several times as long. All others go that
// way.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "launcher.h"

#define MOST_VALUES 128  // that a launch remembered here is given
#define MOST_KERNELS 32  // that are remembered of a function

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

// The kernels of a function, the last one that was launched first.
typedef struct {
  PyObject_HEAD Entry* first;
  PyObject* defined;
} Memory;

typedef struct {
  PyObject_HEAD PyObject* original;
  PyObject* settings;        // (object, name, value): what has to be as it was
  PyObject* empty;           // lists that have to be empty
  PyObject* absent;          // (dictionary, key): what has to be missing
  PyObject* unset;           // bytes: environment variables that have to be unset
  PyObject* current_device;  // called without arguments
  PyObject* tensors;         // types of tensors
  PyObject* constants;       // types of values that never change
  PyObject* define;          // gives a function's parameters, or None
  vectorcallfunc vectorcall;
} Run;

static PyObject *grid_name, *warmup_name, *memory_name, *hooks_name, *globals_name, *caches_name,
    *run_name, *function_name, *dtype_name, *data_ptr_name;

// Entries

static void entry_release(Entry* entry) {
  if (--entry->uses > 0) return;
  for (Py_ssize_t i = 0; entry->names != NULL && i < entry->given - entry->positional; ++i) {
    Py_XDECREF(entry->names[i]);
  }
  for (Py_ssize_t i = 0; entry->traits != NULL && i < entry->given; ++i) {
    Py_XDECREF(entry->traits[i].constant);
  }
  free(entry->names);
  free(entry->source);
  free(entry->traits);
  Py_XDECREF(entry->kernel);
  Py_XDECREF(entry->cache);
  Py_XDECREF(entry->key);
  Py_XDECREF(entry->launcher);
  Py_XDECREF(entry->defined);
  free(entry);
}

static int memory_clear(PyObject* object) {
  Memory* self = (Memory*)object;
  while (self->first != NULL) {
    Entry* entry = self->first;
    self->first = entry->next;
    entry_release(entry);
  }
  Py_CLEAR(self->defined);
  return 0;
}

static int memory_traverse(PyObject* object, visitproc visit, void* arg) {
  Memory* self = (Memory*)object;
  Py_VISIT(self->defined);
  for (Entry* entry = self->first; entry != NULL; entry = entry->next) {
    if (entry->uses > 1) continue;
    Py_VISIT(entry->kernel);
    Py_VISIT(entry->cache);
    Py_VISIT(entry->launcher);
  }
  return 0;
}

static void memory_dealloc(PyObject* object) {
  PyObject_GC_UnTrack(object);
  memory_clear(object);
  PyObject_GC_Del(object);
}

// A copy of a function remembers nothing.
static PyObject* memory_reduce(PyObject* Py_UNUSED(self), PyObject* Py_UNUSED(unused)) {
  return Py_BuildValue("(O())", (PyObject*)&PyDict_Type);
}

static PyMethodDef memory_methods[] = {{"__reduce__", memory_reduce, METH_NOARGS, NULL}, {NULL}};

static PyTypeObject MemoryType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "heitu_triton_runtime.Memory",
    .tp_basicsize = sizeof(Memory),
    .tp_dealloc = memory_dealloc,
    .tp_methods = memory_methods,
    .tp_traverse = memory_traverse,
    .tp_clear = memory_clear,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
};

// Values

static int is_of(PyTypeObject* type, PyObject* types) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(types); ++i) {
    if ((PyObject*)type == PyTuple_GET_ITEM(types, i)) return 1;
  }
  return 0;
}

// Finer than what Triton tells kernels apart by: the type, and of whole numbers whether they are 1,
// divisible by 16 and how wide; of tensors dtype and alignment. Returns 0 where that is not all.
static uint64_t tag_of(const Run* self, PyObject* value) {
  if (value == Py_None) return 1;
  if (value == Py_True) return 2;
  if (value == Py_False) return 3;
  if (PyFloat_CheckExact(value)) return 4;
  if (PyLong_CheckExact(value)) {
    int beyond;
    const long long number = PyLong_AsLongLongAndOverflow(value, &beyond);
    if (beyond != 0) return 0;
    const int narrow = number >= INT32_MIN && number <= INT32_MAX;
    return 8u | (unsigned)(number == 1) << 4 | (unsigned)(number % 16 == 0) << 5 |
           (unsigned)narrow << 6;
  }
  if (!is_of(Py_TYPE(value), self->tensors)) return 0;
  PyObject* dtype = PyObject_GetAttr(value, dtype_name);
  PyObject* address = dtype == NULL ? NULL : PyObject_CallMethodNoArgs(value, data_ptr_name);
  uint64_t tag = 0;
  if (address != NULL) {
    const uint64_t place = PyLong_AsUnsignedLongLongMask(address);
    tag = (uint64_t)(uintptr_t)dtype << 1 | (place % 16 == 0);  // dtypes live for ever
  }
  PyErr_Clear();
  Py_XDECREF(dtype);
  Py_XDECREF(address);
  return tag;
}

static int is_constant(const Run* self, PyObject* value) {
  return value == Py_None || PyBool_Check(value) || PyFloat_CheckExact(value) ||
         PyLong_CheckExact(value) || PyUnicode_CheckExact(value) ||
         is_of(Py_TYPE(value), self->constants);
}

static int is_same(PyObject* first, PyObject* second) {
  if (first == second) return 1;
  if (Py_TYPE(first) != Py_TYPE(second)) return 0;
  if (PyFloat_CheckExact(first)) {
    const double a = PyFloat_AS_DOUBLE(first), b = PyFloat_AS_DOUBLE(second);
    return memcmp(&a, &b, sizeof a) == 0;  // 0.0 is not -0.0
  }
  if (!PyLong_CheckExact(first) && !PyUnicode_CheckExact(first)) return 0;
  const int same = PyObject_RichCompareBool(first, second, Py_EQ);
  if (same < 0) PyErr_Clear();
  return same > 0;
}

// One call

typedef struct {
  PyObject *function, *grid;
  PyObject* values[MOST_VALUES];
  PyObject* names[MOST_VALUES];  // of those behind the positional ones
  uint64_t tags[MOST_VALUES];    // 0: not looked at yet
  Py_ssize_t positional, given;
  long device;
} Call;

// Takes a call apart. Returns 0 where it is no plain launch.
static int take(Call* call, PyObject* const* arguments, Py_ssize_t given, PyObject* names) {
  const Py_ssize_t by_name = names == NULL ? 0 : PyTuple_GET_SIZE(names);
  if (given < 1 || given + by_name > MOST_VALUES) return 0;
  PyObject* warmup = NULL;
  call->function = arguments[0];
  call->grid = NULL;
  call->positional = call->given = given - 1;
  memcpy(call->values, arguments + 1, (size_t)call->positional * sizeof *arguments);
  for (Py_ssize_t i = 0; i < by_name; ++i) {
    PyObject* name = PyTuple_GET_ITEM(names, i);
    PyObject* value = arguments[given + i];
    if (name == grid_name) {
      call->grid = value;
    } else if (name == warmup_name) {
      warmup = value;
    } else {
      call->names[call->given] = name;
      call->values[call->given++] = value;
    }
  }
  memset(call->tags, 0, (size_t)call->given * sizeof *call->tags);
  return call->grid != NULL && warmup == Py_False;
}

// Whether an attribute is the object that it was.
static int is_still(PyObject* object, PyObject* name, PyObject* wanted) {
  PyObject* found = PyObject_GetAttr(object, name);
  if (found == NULL) PyErr_Clear();
  Py_XDECREF(found);
  return found == wanted;
}

static int is_usual(const Run* self) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->settings); ++i) {
    PyObject* each = PyTuple_GET_ITEM(self->settings, i);
    if (!is_still(PyTuple_GET_ITEM(each, 0), PyTuple_GET_ITEM(each, 1),
                  PyTuple_GET_ITEM(each, 2))) {
      return 0;
    }
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->empty); ++i) {
    if (PyList_GET_SIZE(PyTuple_GET_ITEM(self->empty, i)) > 0) return 0;
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->absent); ++i) {
    PyObject* each = PyTuple_GET_ITEM(self->absent, i);
    if (PyDict_GetItemWithError(PyTuple_GET_ITEM(each, 0), PyTuple_GET_ITEM(each, 1)) != NULL) {
      return 0;
    }
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->unset); ++i) {
    if (getenv(PyBytes_AS_STRING(PyTuple_GET_ITEM(self->unset, i))) != NULL) return 0;
  }
  return 1;
}

static int is_empty(PyObject* object, PyObject* name) {
  PyObject* found = PyObject_GetAttr(object, name);
  const int empty = found != NULL && PyList_CheckExact(found) && PyList_GET_SIZE(found) == 0;
  if (found == NULL) PyErr_Clear();
  Py_XDECREF(found);
  return empty;
}

// Whether the globals that the function was compiled with are what they were.
static int are_globals_same(PyObject* function) {
  PyObject* used = PyObject_GetAttr(function, globals_name);
  int same = used != NULL && PyDict_CheckExact(used);
  Py_ssize_t at = 0;
  PyObject *key, *value;
  while (same && PyDict_Next(used, &at, &key, &value)) {
    PyObject* name = PyTuple_GET_ITEM(key, 0);
    PyObject* scope = PyTuple_GET_ITEM(value, 1);
    same =
        PyDict_Check(scope) && PyDict_GetItemWithError(scope, name) == PyTuple_GET_ITEM(value, 0);
  }
  PyErr_Clear();
  Py_XDECREF(used);
  return same;
}

static long device_of(const Run* self) {
  PyObject* answer = PyObject_CallNoArgs(self->current_device);
  const long device = answer == NULL ? -1 : PyLong_AsLong(answer);
  Py_XDECREF(answer);
  PyErr_Clear();
  return device;
}

// Triton's own cache of kernels of a function on a device; borrowed, NULL where there is none.
static PyObject* cache_of(PyObject* function, long device) {
  PyObject* caches = PyObject_GetAttr(function, caches_name);
  PyObject* number = PyLong_FromLong(device);
  PyObject* found = NULL;
  if (caches != NULL && number != NULL && PyDict_Check(caches)) {
    PyObject* parts = PyDict_GetItemWithError(caches, number);
    if (parts != NULL && PyTuple_Check(parts) && PyTuple_GET_SIZE(parts) > 0) {
      found = PyTuple_GET_ITEM(parts, 0);
    }
  }
  PyErr_Clear();
  Py_XDECREF(caches);
  Py_XDECREF(number);
  return found != NULL && PyDict_CheckExact(found) ? found : NULL;
}

// Lookup

static int fits(const Run* self, const Entry* entry, Call* call) {
  if (entry->device != call->device || entry->positional != call->positional ||
      entry->given != call->given) {
    return 0;
  }
  for (Py_ssize_t i = call->positional; i < call->given; ++i) {
    if (entry->names[i - call->positional] != call->names[i]) return 0;
  }
  for (Py_ssize_t i = 0; i < call->given; ++i) {
    const Trait* trait = &entry->traits[i];
    if (trait->constant != NULL) {
      if (!is_same(trait->constant, call->values[i])) return 0;
      continue;
    }
    if (call->tags[i] == 0) call->tags[i] = tag_of(self, call->values[i]);
    if (trait->tag != call->tags[i]) return 0;
  }
  return 1;
}

static Entry* find(const Run* self, Memory* memory, Call* call) {
  Entry** link = &memory->first;
  for (Entry* entry = *link; entry != NULL; link = &entry->next, entry = *link) {
    if (!fits(self, entry, call)) continue;
    *link = entry->next;
    // Whoever has emptied Triton's cache wants kernels to be compiled again.
    if (cache_of(call->function, call->device) != entry->cache ||
        PyDict_GetItemWithError(entry->cache, entry->key) != entry->kernel) {
      PyErr_Clear();
      entry_release(entry);
      return NULL;
    }
    entry->next = memory->first;
    memory->first = entry;
    return entry;
  }
  return NULL;
}

// Launch

static PyObject* bound(const Entry* entry, PyObject* const* values) {
  PyObject* made = PyDict_New();
  for (Py_ssize_t i = 0; made != NULL && i < entry->parameters; ++i) {
    PyObject* name = PyTuple_GET_ITEM(PyTuple_GET_ITEM(entry->defined, i), 0);
    if (PyDict_SetItem(made, name, values[i]) < 0) Py_CLEAR(made);
  }
  return made;
}

static PyObject* launch(const Entry* entry, const Call* call) {
  PyObject* values[MOST_VALUES];
  for (Py_ssize_t i = 0; i < entry->parameters; ++i) {
    values[i] = entry->source[i] >= 0
                    ? call->values[entry->source[i]]
                    : PyTuple_GET_ITEM(PyTuple_GET_ITEM(PyTuple_GET_ITEM(entry->defined, i), 2), 0);
  }
  PyObject* grid = Py_NewRef(call->grid);
  if (PyCallable_Check(grid)) {
    PyObject* arguments = bound(entry, values);
    Py_SETREF(grid, arguments == NULL ? NULL : PyObject_CallOneArg(grid, arguments));
    Py_XDECREF(arguments);
    if (grid == NULL) return NULL;
  }
  PyObject* extents = PySequence_Fast(grid, "a grid is a tuple of up to three numbers");
  Py_DECREF(grid);
  if (extents == NULL) return NULL;
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(extents);
  if (count == 0) {
    PyErr_SetString(PyExc_IndexError, "tuple index out of range");
    Py_DECREF(extents);
    return NULL;
  }
  PyObject* one = PyLong_FromLong(1);
  PyObject* three[3];
  for (Py_ssize_t i = 0; i < 3; ++i) {
    three[i] = i < count ? PySequence_Fast_GET_ITEM(extents, i) : one;
  }
  const int code = heitu_launch_grid((Launcher*)entry->launcher, entry->function, three, values,
                                     entry->parameters, NULL);
  Py_DECREF(one);
  Py_DECREF(extents);
  return code < 0 ? NULL : Py_NewRef(entry->kernel);
}

// Remembering

static Memory* memory_of(PyObject* function) {
  PyObject* found = PyObject_GetAttr(function, memory_name);
  if (found == NULL) PyErr_Clear();
  if (found != NULL && Py_TYPE(found) == &MemoryType) return (Memory*)found;
  Py_XDECREF(found);
  return NULL;
}

static Memory* make_memory(const Run* self, PyObject* function) {
  Memory* memory = PyObject_GC_New(Memory, &MemoryType);
  if (memory == NULL) return NULL;
  memory->first = NULL;
  memory->defined = NULL;
  PyObject_GC_Track(memory);
  memory->defined = PyObject_CallOneArg(self->define, function);
  if (memory->defined == NULL ||
      PyObject_GenericSetAttr(function, memory_name, (PyObject*)memory) < 0) {
    Py_DECREF(memory);
    return NULL;
  }
  return memory;
}

// The values that the parameters take. Returns 0 where some have none.
static int match(Entry* entry, const Call* call) {
  for (Py_ssize_t i = 0; i < entry->parameters; ++i) {
    PyObject* parameter = PyTuple_GET_ITEM(entry->defined, i);
    entry->source[i] = i < call->positional ? (int)i : -1;
    for (Py_ssize_t k = call->positional; k < call->given; ++k) {
      if (call->names[k] == PyTuple_GET_ITEM(parameter, 0)) entry->source[i] = (int)k;
    }
    if (entry->source[i] < 0 && PyTuple_GET_SIZE(PyTuple_GET_ITEM(parameter, 2)) == 0) return 0;
  }
  return call->positional <= entry->parameters;
}

static int note_traits(const Run* self, Entry* entry, Call* call) {
  uint8_t constant[MOST_VALUES];
  memset(constant, 1, sizeof constant);  // what is no parameter is an option
  for (Py_ssize_t i = 0; i < entry->parameters; ++i) {
    PyObject* parameter = PyTuple_GET_ITEM(entry->defined, i);
    if (entry->source[i] >= 0 && PyTuple_GET_ITEM(parameter, 1) != Py_True) {
      constant[entry->source[i]] = 0;
    }
  }
  for (Py_ssize_t i = 0; i < call->given; ++i) {
    PyObject* value = call->values[i];
    if (constant[i]) {
      if (!is_constant(self, value)) return 0;
      entry->traits[i].constant = Py_NewRef(value);
    } else {
      entry->traits[i].tag = tag_of(self, value);
      if (entry->traits[i].tag == 0) return 0;
    }
  }
  return 1;
}

static int note_kernel(Entry* entry, const Call* call, PyObject* kernel) {
  entry->launcher = PyObject_GetAttr(kernel, run_name);
  if (entry->launcher == NULL || Py_TYPE(entry->launcher) != &heitu_LauncherType) return 0;
  PyObject* address = PyObject_GetAttr(kernel, function_name);
  entry->function = address == NULL ? NULL : (Kernel)PyLong_AsVoidPtr(address);
  Py_XDECREF(address);
  if (entry->function == NULL) return 0;
  entry->kernel = Py_NewRef(kernel);
  entry->cache = Py_XNewRef(cache_of(call->function, call->device));
  Py_ssize_t at = 0;
  PyObject *key, *value;
  while (entry->cache != NULL && PyDict_Next(entry->cache, &at, &key, &value)) {
    if (value == kernel) {
      entry->key = Py_NewRef(key);
      return 1;
    }
  }
  return 0;
}

static void remember(const Run* self, Call* call, PyObject* kernel) {
  Memory* memory = memory_of(call->function);
  if (memory == NULL) memory = make_memory(self, call->function);
  if (memory == NULL || !PyTuple_CheckExact(memory->defined) ||
      PyTuple_GET_SIZE(memory->defined) > MOST_VALUES) {
    Py_XDECREF(memory);
    return;
  }
  Entry* entry = calloc(1, sizeof *entry);
  if (entry != NULL) {
    entry->uses = 1;
    entry->device = call->device;
    entry->positional = call->positional;
    entry->given = call->given;
    entry->defined = Py_NewRef(memory->defined);
    entry->parameters = PyTuple_GET_SIZE(memory->defined);
    entry->names = calloc((size_t)(call->given - call->positional) + 1, sizeof *entry->names);
    entry->source = calloc((size_t)entry->parameters + 1, sizeof *entry->source);
    entry->traits = calloc((size_t)call->given + 1, sizeof *entry->traits);
    for (Py_ssize_t i = call->positional; entry->names != NULL && i < call->given; ++i) {
      entry->names[i - call->positional] = Py_NewRef(call->names[i]);
    }
    if (entry->names != NULL && entry->source != NULL && entry->traits != NULL &&
        match(entry, call) && note_traits(self, entry, call) && note_kernel(entry, call, kernel)) {
      entry->next = memory->first;
      memory->first = entry;
      int count = 0;
      for (Entry** link = &memory->first; *link != NULL;) {
        Entry* each = *link;
        if (++count <= MOST_KERNELS) {
          link = &each->next;
        } else {
          *link = each->next;
          entry_release(each);
        }
      }
    } else {
      entry_release(entry);
    }
  }
  Py_DECREF(memory);
}

static PyObject* run_vectorcall(PyObject* object, PyObject* const* arguments, size_t count,
                                PyObject* names) {
  const Run* self = (Run*)object;
  Call call;
  const int plain = take(&call, arguments, PyVectorcall_NARGS(count), names) && is_usual(self) &&
                    is_empty(call.function, hooks_name);
  if (plain) {
    call.device = device_of(self);
    Memory* memory = memory_of(call.function);
    Entry* entry = memory == NULL ? NULL : find(self, memory, &call);
    PyObject* kernel = NULL;
    const int known = entry != NULL && are_globals_same(call.function);
    if (known) {
      ++entry->uses;
      kernel = launch(entry, &call);
      entry_release(entry);
    }
    Py_XDECREF(memory);
    if (known) return kernel;
  }
  PyObject* kernel = PyObject_Vectorcall(self->original, arguments, count, names);
  if (plain && kernel != NULL && kernel != Py_None) {
    remember(self, &call, kernel);
    PyErr_Clear();
  }
  return kernel;
}

// The type

static PyObject* run_get(PyObject* self, PyObject* instance, PyObject* Py_UNUSED(type)) {
  return instance == NULL || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

// What else is asked of it is what Triton's own says.
static PyObject* run_getattro(PyObject* object, PyObject* name) {
  PyObject* found = PyObject_GenericGetAttr(object, name);
  if (found != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) return found;
  PyErr_Clear();
  return PyObject_GetAttr(((Run*)object)->original, name);
}

static PyObject* run_new(PyTypeObject* type, PyObject* arguments, PyObject* names) {
  static char* keywords[] = {"original",       "settings", "empty",     "absent", "unset",
                             "current_device", "tensors",  "constants", "define", NULL};
  PyObject* given[9];
  PyTypeObject* const tuple = &PyTuple_Type;
  if (!PyArg_ParseTupleAndKeywords(arguments, names, "OO!O!O!O!OO!O!O", keywords, &given[0], tuple,
                                   &given[1], tuple, &given[2], tuple, &given[3], tuple, &given[4],
                                   &given[5], tuple, &given[6], tuple, &given[7], &given[8])) {
    return NULL;
  }
  Run* self = (Run*)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  PyObject** const slots[9] = {&self->original, &self->settings,  &self->empty,
                               &self->absent,   &self->unset,     &self->current_device,
                               &self->tensors,  &self->constants, &self->define};
  for (int i = 0; i < 9; ++i) *slots[i] = Py_NewRef(given[i]);
  self->vectorcall = run_vectorcall;
  return (PyObject*)self;
}

static void run_dealloc(PyObject* object) {
  Run* self = (Run*)object;
  PyObject* const held[9] = {self->original, self->settings,  self->empty,
                             self->absent,   self->unset,     self->current_device,
                             self->tensors,  self->constants, self->define};
  for (int i = 0; i < 9; ++i) Py_XDECREF(held[i]);
  Py_TYPE(object)->tp_free(object);
}

static PyObject* run_original(PyObject* self, void* Py_UNUSED(unused)) {
  return Py_NewRef(((Run*)self)->original);
}

static PyGetSetDef run_getset[] = {{"original", run_original, NULL, "Triton's own.", NULL}, {NULL}};

PyTypeObject heitu_RunType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "heitu_triton_runtime.Run",
    .tp_basicsize = sizeof(Run),
    .tp_dealloc = run_dealloc,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Run, vectorcall),
    .tp_descr_get = run_get,
    .tp_getattro = run_getattro,
    .tp_getset = run_getset,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_new = run_new,
};

int heitu_prepare_run(void) {
  PyObject** const names[] = {&grid_name,    &warmup_name,  &memory_name, &hooks_name,
                              &globals_name, &caches_name,  &run_name,    &function_name,
                              &dtype_name,   &data_ptr_name};
  const char* const texts[] = {
      "grid",          "warmup", "_heitu_launches", "pre_run_hooks", "used_global_vals",
      "device_caches", "run",    "function",        "dtype",         "data_ptr"};
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    *names[i] = PyUnicode_InternFromString(texts[i]);
    if (*names[i] == NULL) return -1;
  }
  return PyType_Ready(&MemoryType) < 0 || PyType_Ready(&heitu_RunType) < 0 ? -1 : 0;
}
