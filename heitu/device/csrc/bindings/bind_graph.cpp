// CUDA graphs, for Python.
#include <torch/csrc/Exceptions.h>

#include "bindings.h"
#include "capture.h"
#include "captured_kernel.h"
#include "graph.h"
#include "streams.h"

namespace py = pybind11;

namespace heitu {

void bind_graph(py::module_& m) {
  py::class_<Graph, std::shared_ptr<Graph>>(m, "Graph")
      .def(py::init<bool>(), py::arg("keep_graph") = false)
      .def(
          "capture_begin",
          [](Graph& graph, std::optional<PoolId> pool, const std::string& mode) {
            graph.capture_begin(pool.value_or(PoolId{0, 0}), mode);
          },
          py::arg("pool") = std::nullopt, py::arg("capture_error_mode") = "global")
      .def("capture_end", torch::wrap_pybind_function(&Graph::capture_end))  // it may warn
      .def("instantiate", &Graph::instantiate)
      .def("replay", &Graph::replay, py::call_guard<py::gil_scoped_release>())
      .def("reset", &Graph::reset)
      .def("pool", &Graph::pool)
      .def("register_generator_state", &Graph::register_generator)
      .def("operator_names", &Graph::operator_names);
  m.def("capturing", [] { return capturing(); });
  m.def("refuse_in_capture", &refuse_in_capture);
  m.def("capture_kernel", &capture_kernel, py::arg("launch"), py::arg("written"));
}

}  // namespace heitu
