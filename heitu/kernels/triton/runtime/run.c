// `JITFunction.run` for launches that are like one before: which kernel they take is looked up
// here, in place of Triton's own way to it, which takes several times as long. All others go that
// way.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "launcher.h"
#include "remembered.h"

typedef struct {
  PyObject_HEAD PyObject* original;
  PyObject* settings;        // (object, name, value): what has to be as it was
  PyObject* empty;           // lists that have to be empty
  PyObject* absent;          // (dictionary, key): what has to be missing
  PyObject* unset;           // bytes: environment variables that have to be unset
  PyObject* current_device;  // called without arguments
  Kinds kinds;
  vectorcallfunc vectorcall;
} Run;

static PyObject *grid_name, *warmup_name, *hooks_name, *globals_name;

// One call

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

static PyObject* run_vectorcall(PyObject* object, PyObject* const* arguments, size_t count,
                                PyObject* names) {
  const Run* self = (Run*)object;
  Call call;
  const int plain = take(&call, arguments, PyVectorcall_NARGS(count), names) && is_usual(self) &&
                    is_empty(call.function, hooks_name);
  if (plain) {
    call.device = device_of(self);
    Entry* entry = heitu_find_entry(&self->kinds, &call);
    PyObject* kernel = NULL;
    const int known = entry != NULL && are_globals_same(call.function);
    if (known) kernel = launch(entry, &call);
    if (entry != NULL) heitu_release_entry(entry);
    if (known) return kernel;
  }
  PyObject* kernel = PyObject_Vectorcall(self->original, arguments, count, names);
  if (plain && kernel != NULL && kernel != Py_None) {
    heitu_remember(&self->kinds, &call, kernel);
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
  PyObject** const slots[9] = {&self->original,      &self->settings,        &self->empty,
                               &self->absent,        &self->unset,           &self->current_device,
                               &self->kinds.tensors, &self->kinds.constants, &self->kinds.define};
  for (int i = 0; i < 9; ++i) *slots[i] = Py_NewRef(given[i]);
  self->vectorcall = run_vectorcall;
  return (PyObject*)self;
}

static void run_dealloc(PyObject* object) {
  Run* self = (Run*)object;
  PyObject* const held[9] = {self->original,      self->settings,        self->empty,
                             self->absent,        self->unset,           self->current_device,
                             self->kinds.tensors, self->kinds.constants, self->kinds.define};
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
  grid_name = PyUnicode_InternFromString("grid");
  warmup_name = PyUnicode_InternFromString("warmup");
  hooks_name = PyUnicode_InternFromString("pre_run_hooks");
  globals_name = PyUnicode_InternFromString("used_global_vals");
  if (grid_name == NULL || warmup_name == NULL || hooks_name == NULL || globals_name == NULL ||
      heitu_prepare_remembered() < 0) {
    return -1;
  }
  return PyType_Ready(&heitu_RunType);
}
