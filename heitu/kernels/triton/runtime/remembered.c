// Each function keeps what it remembers in an attribute of its own.
#include "remembered.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "launcher.h"

#define MOST_KERNELS 32  // that are remembered of a function

// The kernels of a function, the last one that was launched first.
typedef struct {
  PyObject_HEAD Entry* first;
  PyObject* defined;
} Memory;

static PyObject *memory_name, *caches_name, *run_name, *function_name, *dtype_name, *data_ptr_name;

// Entries

void heitu_release_entry(Entry* entry) {
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
    heitu_release_entry(entry);
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
static uint64_t tag_of(const Kinds* kinds, PyObject* value) {
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
  if (!is_of(Py_TYPE(value), kinds->tensors)) return 0;
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

static int is_constant(const Kinds* kinds, PyObject* value) {
  return value == Py_None || PyBool_Check(value) || PyFloat_CheckExact(value) ||
         PyLong_CheckExact(value) || PyUnicode_CheckExact(value) ||
         is_of(Py_TYPE(value), kinds->constants);
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

static int fits(const Kinds* kinds, const Entry* entry, Call* call) {
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
    if (call->tags[i] == 0) call->tags[i] = tag_of(kinds, call->values[i]);
    if (trait->tag != call->tags[i]) return 0;
  }
  return 1;
}

static Entry* find(const Kinds* kinds, Memory* memory, Call* call) {
  Entry** link = &memory->first;
  for (Entry* entry = *link; entry != NULL; link = &entry->next, entry = *link) {
    if (!fits(kinds, entry, call)) continue;
    *link = entry->next;
    // Whoever has emptied Triton's cache wants kernels to be compiled again.
    if (cache_of(call->function, call->device) != entry->cache ||
        PyDict_GetItemWithError(entry->cache, entry->key) != entry->kernel) {
      PyErr_Clear();
      heitu_release_entry(entry);
      return NULL;
    }
    entry->next = memory->first;
    memory->first = entry;
    return entry;
  }
  return NULL;
}

// Remembering

static Memory* memory_of(PyObject* function) {
  PyObject* found = PyObject_GetAttr(function, memory_name);
  if (found == NULL) PyErr_Clear();
  if (found != NULL && Py_TYPE(found) == &MemoryType) return (Memory*)found;
  Py_XDECREF(found);
  return NULL;
}

Entry* heitu_find_entry(const Kinds* kinds, Call* call) {
  Memory* memory = memory_of(call->function);
  Entry* entry = memory == NULL ? NULL : find(kinds, memory, call);
  if (entry != NULL) ++entry->uses;
  Py_XDECREF(memory);
  return entry;
}

static Memory* make_memory(const Kinds* kinds, PyObject* function) {
  Memory* memory = PyObject_GC_New(Memory, &MemoryType);
  if (memory == NULL) return NULL;
  memory->first = NULL;
  memory->defined = NULL;
  PyObject_GC_Track(memory);
  memory->defined = PyObject_CallOneArg(kinds->define, function);
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

static int note_traits(const Kinds* kinds, Entry* entry, Call* call) {
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
      if (!is_constant(kinds, value)) return 0;
      entry->traits[i].constant = Py_NewRef(value);
    } else {
      entry->traits[i].tag = tag_of(kinds, value);
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

void heitu_remember(const Kinds* kinds, Call* call, PyObject* kernel) {
  Memory* memory = memory_of(call->function);
  if (memory == NULL) memory = make_memory(kinds, call->function);
  PyErr_Clear();
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
        match(entry, call) && note_traits(kinds, entry, call) && note_kernel(entry, call, kernel)) {
      entry->next = memory->first;
      memory->first = entry;
      int count = 0;
      for (Entry** link = &memory->first; *link != NULL;) {
        Entry* each = *link;
        if (++count <= MOST_KERNELS) {
          link = &each->next;
        } else {
          *link = each->next;
          heitu_release_entry(each);
        }
      }
    } else {
      heitu_release_entry(entry);
    }
  }
  Py_DECREF(memory);
  PyErr_Clear();
}

int heitu_prepare_remembered(void) {
  PyObject** const names[] = {&memory_name,   &caches_name, &run_name,
                              &function_name, &dtype_name,  &data_ptr_name};
  const char* const texts[] = {"_heitu_launches", "device_caches", "run",
                               "function",        "dtype",         "data_ptr"};
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    *names[i] = PyUnicode_InternFromString(texts[i]);
    if (*names[i] == NULL) return -1;
  }
  return PyType_Ready(&MemoryType);
}
