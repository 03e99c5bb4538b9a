#include "seeding.h"

#include <ATen/CPUGeneratorImpl.h>

#include "generator.h"

namespace heitu {
namespace {

std::recursive_mutex& host_generator_mutex() {
  static auto* mutex = new std::recursive_mutex;
  return *mutex;
}

void set_host_state(const at::Generator& source) {
  at::Generator host = at::detail::getDefaultCPUGenerator();  // shares the implementation
  std::lock_guard<std::mutex> guard(host.mutex());
  host.set_state(source.get_state());
}

}  // namespace

SeededScope::SeededScope(c10::DeviceIndex device) : lock_(host_generator_mutex()), device_(device) {
  saved_ = at::detail::getDefaultCPUGenerator().clone();
  set_host_state(cpu_generator_from(*generator_or_default(std::nullopt, device)));
}

SeededScope::~SeededScope() { set_host_state(saved_); }

void SeededScope::replace(c10::IValue& generator) {
  if (!generator.isGenerator()) return;
  const auto given = generator.toGenerator();
  if (given.device().is_cuda())
    generator = cpu_generator_from(*generator_or_default(given, device_));
}

}  // namespace heitu
