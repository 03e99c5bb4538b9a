// The Python module heitu_core. It is opened twice: before torch._C, so that the hooks and the
// device guard are registered in time, and imported after it, when Python may call.
#include <torch/csrc/utils/pybind.h>

#include "bindings.h"

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  heitu::bind_device(m);
  heitu::bind_memory(m);
  heitu::bind_generator(m);
  heitu::bind_graph(m);
  heitu::bind_graph_trees(m);
  heitu::bind_collectives(m);
  heitu::bind_hooks(m);
  heitu::bind_storage(m);
  heitu::bind_legacy_types(m);
  heitu::bind_rules(m);
}
