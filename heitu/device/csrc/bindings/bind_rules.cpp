// The rules of the chosen chip and the record of the run, for heitu/rehearsal.
#include "bindings.h"
#include "record.h"
#include "rules.h"
#include "tensors.h"

namespace py = pybind11;

namespace heitu {
namespace {

constexpr const char* kVerdicts[] = {"native", "fallback", "refused", "unknown"};
constexpr const char* kWhys[] = {"listed",     "same_device", "no_list", "incomplete_list",
                                 "not_listed", "on_host",     "dtype",   "other_key"};

template <size_t n>
int index_of(const char* const (&names)[n], const std::string& name) {
  for (size_t i = 0; i < n; ++i)
    if (name == names[i]) return static_cast<int>(i);
  TORCH_CHECK(false, "no such verdict: ", name);
}

py::object shape_of(const at::Tensor& tensor, bool shapes) {
  if (!shapes || tensor.is_nested() || tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides())
    return py::none();
  py::list sizes;
  for (const auto size : tensor.sizes()) sizes.append(size);
  return std::move(sizes);
}

py::list arguments_of(const Meeting& meeting) {
  py::list out;
  each_tensor(meeting.arguments, [&](const at::Tensor& tensor) {
    out.append(
        py::make_tuple(static_cast<int>(tensor.scalar_type()), shape_of(tensor, meeting.shapes)));
  });
  return out;
}

std::string call_met(const py::function& met, const Meeting& meeting) {
  const py::gil_scoped_acquire gil;
  const auto answer = met(meeting.id, c10::toString(meeting.op.operator_name()), meeting.backward,
                          kVerdicts[static_cast<int>(meeting.ruling.verdict)],
                          kWhys[static_cast<int>(meeting.ruling.why)],
                          static_cast<int>(meeting.dtype.rule), arguments_of(meeting));
  return answer.is_none() ? std::string() : answer.cast<std::string>();
}

}  // namespace

void bind_rules(py::module_& m) {
  // Each dtype rule: (index, dtype, kind, to, operators, message), dtypes as torch numbers them,
  // kind as DtypeRuling::Kind does.
  using DtypeRow = std::tuple<int, int, int, int, std::unordered_set<std::string>, std::string>;
  m.def("set_rules", [](const std::string& chip, bool same_device, bool own_device, bool has_list,
                        bool complete, const std::unordered_map<std::string, std::string>& listed,
                        const std::unordered_set<std::string>& on_host, const std::string& others,
                        const std::string& fallback_warning, const std::string& missing_error,
                        const std::vector<DtypeRow>& dtypes) {
    ChipRules rules{chip, same_device, own_device, has_list, complete, listed, on_host};
    rules.others = static_cast<Verdict>(index_of(kVerdicts, others));
    rules.fallback_warning = fallback_warning;
    rules.missing_error = missing_error;
    for (const auto& [index, dtype, kind, to, operators, message] : dtypes)
      rules.dtypes.push_back({static_cast<int16_t>(index), static_cast<c10::ScalarType>(dtype),
                              static_cast<DtypeRuling::Kind>(kind),
                              static_cast<c10::ScalarType>(to), operators, message});
    set_chip_rules(std::move(rules));
  });
  // What the rules say of an overload: (verdict, why), or None if it is composed of others.
  m.def("rule_on", [](const std::string& name, const std::string& overload) -> py::object {
    const auto op = c10::Dispatcher::singleton().findOp({name, overload});
    TORCH_CHECK(op && chip_rules(), "no such operator, or no chip");
    const auto ruling = rule_on(*op, c10::DispatchKey::CUDA);
    if (!ruling) return py::none();
    return py::make_tuple(kVerdicts[static_cast<int>(ruling->verdict)],
                          kWhys[static_cast<int>(ruling->why)]);
  });
  m.def("start_record",
        [](const std::string& path, uint64_t capacity, py::function met, py::function place) {
          // Kept for the life of the process: operators run until its very end.
          auto* met_by = new py::function(std::move(met));
          auto* placed_by = new py::function(std::move(place));
          start_record(path, capacity,
                       {[met_by](const Meeting& meeting) { return call_met(*met_by, meeting); },
                        [placed_by] {
                          const py::gil_scoped_acquire gil;
                          return (*placed_by)().cast<uint64_t>();
                        }});
        });
  m.def("count_step", &count_step);
  m.def("record_calls", &record_calls);
  m.def("settle_record", &settle_record);
}

}  // namespace heitu
