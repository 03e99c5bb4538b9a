// Operators: how a kernel's C arguments are kept between its two calls, and what runs on the
// stream.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "arguments.h"

namespace heitu::cann {

using Kernel = void (*)(const Call&);

// Makes a kernel known under the name that operator tables have for it.
struct Registration {
  Registration(const char* name, Kernel kernel, bool waits);
};

#define HEITU_REGISTER_KERNEL(name, waits)                                               \
  static void kernel_##name(const ::heitu::cann::Call& call);                            \
  static const ::heitu::cann::Registration register_##name{#name, kernel_##name, waits}; \
  static void kernel_##name(const ::heitu::cann::Call& call)

#define HEITU_KERNEL(name) HEITU_REGISTER_KERNEL(name, false)
// One whose caller reads the shapes of its results at once, so that it is done when the call
// returns.
#define HEITU_WAITING_KERNEL(name) HEITU_REGISTER_KERNEL(name, true)

// One operator as the tables describe it.
struct Operator {
  const char* name;
  const char* parameters;  // "self;other;out"
  const char* target;      // "aten::add.Tensor", ":kernel", or "" where it is not emulated
  const char* arguments;   // "#0;#1;alpha=#2;None"
  const char* results;     // "3;4"
};

// The generated table.
extern const Operator kOperators[];
extern const size_t kOperatorCount;

struct Executor;

int prepare(size_t index, uint64_t* workspace, Executor** executor,
            std::initializer_list<Argument> arguments);
int refuse(size_t index);
int launch(Executor* executor, void* stream);
// Runs the kernel that is written for an operator of the graph compiler's, by the name "graph_" and
// its own.
int launch_graph_operator(const std::string& name, std::string parameters,
                          std::vector<Argument> arguments, void* stream);

}  // namespace heitu::cann
