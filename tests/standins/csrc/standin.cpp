// A PrivateUse1 backend over host memory, under any vendor's name: a plugin to test against.
#include <torch/extension.h>

#include "autocast.h"
#include "autograd.h"
#include "process_group.h"

namespace standin {
namespace {

std::vector<std::unique_ptr<torch::Library>>& libraries() {
  static auto* made = new std::vector<std::unique_ptr<torch::Library>>;
  return *made;
}

torch::Library& library(const std::string& space, c10::DispatchKey key) {
  libraries().push_back(
      std::make_unique<torch::Library>(torch::Library::IMPL, space, key, __FILE__, __LINE__));
  return *libraries().back();
}

// Registers the plugin's kernels; returns the names that this torch or its CPU has no kernel for.
std::vector<std::string> register_kernels(const std::vector<std::string>& names,
                                          const std::vector<std::string>& own_derivatives) {
  std::vector<std::string> left_out;
  auto& kernels = library("aten", c10::DispatchKey::PrivateUse1);
  register_own(kernels);
  const auto find = [](const std::string& name) {
    const auto dot = name.find('.');
    const auto overload = dot == std::string::npos ? "" : name.substr(dot + 1);
    return c10::Dispatcher::singleton().findSchema({"aten::" + name.substr(0, dot), overload});
  };
  for (const auto& name : names) {
    if (own_kernels().count(name) != 0) continue;
    const auto op = find(name);
    if (!op || !op->hasComputedKernelForDispatchKey(c10::DispatchKey::CPU)) {
      left_out.push_back(name);
    } else {
      kernels.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&kernel>());
    }
  }
  auto& derivatives = library("aten", c10::DispatchKey::AutogradPrivateUse1);
  for (const auto& name : own_derivatives)
    derivatives.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&autograd_kernel>());
  register_autocast(library("aten", c10::DispatchKey::AutocastPrivateUse1));
  library("_", c10::DispatchKey::AutocastPrivateUse1)
      .fallback(torch::CppFunction::makeFallthrough());
  library("_", c10::DispatchKey::PrivateUse1)
      .fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
  return left_out;
}

void start(int devices, size_t memory) {
  TORCH_CHECK(devices >= 0 && devices <= kMostDevices, "0 to ", kMostDevices, " devices");
  process = {devices, memory};
  c10::SetAllocator(c10::kPrivateUse1, &allocator);
  c10::SetStorageImplCreate(c10::kPrivateUse1, &make_storage);
  at::RegisterPrivateUse1HooksInterface(&hooks);
}

}  // namespace
}  // namespace standin

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  namespace py = pybind11;
  using namespace standin;
  m.def("start", &start);
  m.def("register_kernels", &register_kernels);
  m.def("calls", [] { return calls.taken(); });
  m.def("calls_by_stream", [] { return calls.by_stream(); });
  m.def("clear_calls", [] { calls.clear(); });
  m.def("has_context", [](int device) { return hooks.hasPrimaryContext(device); });
  m.def("recorded", [] { return allocator.recorded; });
  m.def("emptied", [] { return allocator.emptied; });
  m.def("device_type", [] { return static_cast<int>(c10::kPrivateUse1); });
  m.def("current_device", [] { return static_cast<int>(current_device); });
  m.def("set_device", [](int device) {
    Guard().setDevice({c10::kPrivateUse1, static_cast<c10::DeviceIndex>(device)});
  });
  m.def("synchronize", [](int) { calls.count("synchronize_device"); });
  m.def("current_stream", [](int device) { return current_stream.at(device); });
  m.def("set_stream", [](int device, int64_t stream) { current_stream.at(device) = stream; });
  m.def("memory_stats", [](int device) {
    const auto found = allocator.getDeviceStats(static_cast<c10::DeviceIndex>(device));
    std::map<std::string, std::map<std::string, int64_t>> rows;
    const auto put = [&](const char* name, const c10::CachingAllocator::Stat& of) {
      rows[name] = {{"current", of.current},
                    {"peak", of.peak},
                    {"allocated", of.allocated},
                    {"freed", of.freed}};
    };
    put("allocation", found.allocation[0]);
    put("allocated_bytes", found.allocated_bytes[0]);
    put("active_bytes", found.active_bytes[0]);
    put("reserved_bytes", found.reserved_bytes[0]);
    put("requested_bytes", found.requested_bytes[0]);
    return rows;
  });
  m.def("reset_peak", [](int device) { allocator.resetPeakStats(device); });
  m.def("reset_accumulated", [](int device) { allocator.resetAccumulatedStats(device); });
  m.def("empty_cache", [] { allocator.emptyCache({0, 0}); });
  m.def("memory_info", [](int device) { return allocator.getMemoryInfo(device); });
  m.def("default_generator", [](int device) { return default_generator(device); });
  m.def("is_vendor_tensor", [](const at::Tensor& tensor) {
    return dynamic_cast<VendorTensor*>(tensor.unsafeGetTensorImpl()) != nullptr;
  });
  // A tensor of the device whose storage the plugin did not make, as a leak would be.
  m.def("foreign_tensor", [] {
    auto data = allocator.allocate(16);
    c10::Storage storage(c10::make_intrusive<c10::StorageImpl>(
        c10::StorageImpl::use_byte_size_t(), 16, std::move(data), &allocator, false));
    return make_tensor(std::move(storage), caffe2::TypeMeta::Make<float>(), {4}, {1}, 0);
  });
  m.def("make_process_group",
        [](const c10::intrusive_ptr<c10d::Backend>& inner, const std::string& name,
           const std::unordered_set<std::string>& missing) -> c10::intrusive_ptr<c10d::Backend> {
          return c10::make_intrusive<VendorGroup>(inner, name, missing);
        });
}
