#include "operators.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/GradMode.h>

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "acl.h"
#include "aten_call.h"
#include "device.h"
#include "errors.h"

namespace heitu::cann {

struct Executor {
  size_t index;
  std::vector<Argument> arguments;
};

namespace {

constexpr size_t kMostOperators = 2048;
std::array<std::atomic<uint64_t>, kMostOperators> counts;

std::mutex graph_counts_mutex;
std::map<std::string, uint64_t> graph_counts;

struct Written {
  Kernel kernel;
  bool waits;
};

std::map<std::string, Written>& kernels() {
  static auto* only = new std::map<std::string, Written>;
  return *only;
}

template <typename Work>
void run_named(const std::string& name, Work work) {
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  c10::NoGradGuard no_gradients;
  begin_results_of(name);
  try {
    work();
  } catch (const c10::Error& error) {
    throw std::runtime_error(name + ": " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw std::runtime_error(name + ": " + error.what());
  }
}

void execute(const Executor& executor) {
  const Operator& described = kOperators[executor.index];
  const Call call(described.parameters, executor.arguments);
  run_named(described.name, [&] {
    if (described.target[0] == ':') {
      kernels().at(described.target + 1).kernel(call);
    } else {
      call_aten(described, call);
    }
  });
}

// Whether the caller reads the shapes of results at once.
bool is_waiting(const Operator& described) {
  return described.target[0] == ':' && kernels().at(described.target + 1).waits;
}

}  // namespace

Registration::Registration(const char* name, Kernel kernel, bool waits) {
  kernels()[name] = {kernel, waits};
}

int prepare(size_t index, uint64_t* workspace, Executor** executor,
            std::initializer_list<Argument> arguments) {
  *workspace = 0;
  *executor = new Executor{index, arguments};
  return kSuccess;
}

int refuse(size_t index) {
  return fail(kParameterInvalid, std::string(kOperators[index].name) + " is not emulated");
}

int launch(Executor* executor, void* stream) {
  const std::shared_ptr<const Executor> kept(executor);
  const bool waits = is_waiting(kOperators[kept->index]);
  if (waits && stream_of(stream).capture()) {
    return fail(kStreamCaptured,
                std::string(kOperators[kept->index].name) + " cannot be captured: it waits");
  }
  ++counts[kept->index];
  stream_of(stream).submit([kept] { execute(*kept); });
  if (!waits) return kSuccess;
  stream_of(stream).synchronize(-1);
  return report(stream_of(stream));
}

int launch_graph_operator(const std::string& name, std::string parameters,
                          std::vector<Argument> arguments, void* stream) {
  const auto found = kernels().find("graph_" + name);
  if (found == kernels().end()) {
    return fail(kFeatureNotSupported, "the graph operator " + name + " is not emulated");
  }
  {
    std::lock_guard<std::mutex> lock(graph_counts_mutex);
    ++graph_counts[name];
  }
  stream_of(stream).submit([=, kernel = found->second.kernel, parameters = std::move(parameters),
                            arguments = std::move(arguments)] {
    run_named(name, [&] { kernel(Call(parameters.c_str(), arguments)); });
  });
  return kSuccess;
}

HEITU_EXPORT int aclDestroyAclOpExecutor(Executor* executor) {
  delete executor;
  return kSuccess;
}

// Calls of each operator since the start or the last reset, as JSON: {"aclnnAdd": 3}.
HEITU_EXPORT const char* heitu_cann_calls_json() {
  static thread_local std::string text;
  text = "{";
  const auto add = [&](const std::string& name, uint64_t count) {
    if (count == 0) return;
    if (text.size() > 1) text += ", ";
    text += '"' + name + "\": " + std::to_string(count);
  };
  for (size_t i = 0; i < kOperatorCount; ++i) add(kOperators[i].name, counts[i]);
  std::lock_guard<std::mutex> lock(graph_counts_mutex);
  for (const auto& [name, count] : graph_counts) add(name, count);
  text += "}";
  return text.c_str();
}

HEITU_EXPORT void heitu_cann_reset_calls() {
  for (auto& count : counts) count = 0;
  std::lock_guard<std::mutex> lock(graph_counts_mutex);
  graph_counts.clear();
}

}  // namespace heitu::cann
