#include "notes.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <map>
#include <mutex>
#include <tuple>

#include "bindings.h"

namespace heitu {
namespace {

struct Notes {
  std::mutex mutex;
  std::map<std::tuple<Departure, std::string, std::string>, Note> by_name;
  std::function<std::string()> place;
};

Notes& all_notes() {
  static auto* all = new Notes;
  return *all;
}

}  // namespace

void note(Departure departure, const c10::OperatorHandle& op, const std::string& what) {
  auto& all = all_notes();
  auto name = c10::toString(op.operator_name());
  std::function<std::string()> place;
  {
    const std::lock_guard lock(all.mutex);
    auto& note = all.by_name[{departure, name, what}];
    if (note.count++ > 0) return;
    note.departure = departure;
    note.op = name;
    note.what = what;
    place = all.place;
  }
  if (!place) return;
  auto found = place();  // takes Python's lock, so not under ours
  const std::lock_guard lock(all.mutex);
  all.by_name[{departure, std::move(name), what}].place = std::move(found);
}

std::vector<Note> notes() {
  auto& all = all_notes();
  const std::lock_guard lock(all.mutex);
  std::vector<Note> listed;
  for (const auto& [key, note] : all.by_name) listed.push_back(note);
  return listed;
}

void set_place(std::function<std::string()> place) {
  auto& all = all_notes();
  const std::lock_guard lock(all.mutex);
  all.place = std::move(place);
}

void bind_notes(pybind11::module_& m) {
  namespace py = pybind11;
  // (kind, operator, what, place, count) of each.
  m.def("notes", [] {
    std::vector<std::tuple<std::string, std::string, std::string, std::string, int64_t>> listed;
    for (auto& n : notes())
      listed.emplace_back(n.departure == Departure::host ? "host" : "narrowed", n.op, n.what,
                          n.place, n.count);
    return listed;
  });
  m.def("set_place", [](py::function function) {
    auto* kept = new py::function(std::move(function));  // threads may ask while Python ends
    set_place([kept]() -> std::string {
      if (!Py_IsInitialized()) return {};
      const py::gil_scoped_acquire gil;
      return (*kept)().cast<std::string>();
    });
  });
}

}  // namespace heitu
