// What the plugin did in another way than the program asked, counted and named: nothing is silent.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <functional>
#include <string>
#include <vector>

namespace heitu {

enum class Departure {
  host,      // the plugin has no kernel: its fallback computed on the CPU
  narrowed,  // the result has another dtype than was asked for
};

struct Note {
  Departure departure;
  std::string op;
  std::string place;  // in the program, of the first call
  std::string what;   // "float64 became float32"
  int64_t count = 0;
};

void note(Departure departure, const c10::OperatorHandle& op, const std::string& what = {});

std::vector<Note> notes();

// Tells where in the program a call comes from; asked once for each note.
void set_place(std::function<std::string()> place);

}  // namespace heitu
