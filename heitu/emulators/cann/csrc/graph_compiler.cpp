// The graph compiler's interface, of before aclnn: torch_npu still uses it for a few operators,
// each with descriptions, buffers and attributes that are made one by one. Besides, what is linked
// and not called.
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "acl.h"
#include "device.h"
#include "errors.h"
#include "memory.h"
#include "operators.h"

namespace heitu::cann {
namespace {

int not_emulated(const std::string& what) {
  return fail(kFeatureNotSupported, what + " is not emulated");
}

struct Buffer {
  void* data;
  size_t bytes;
};

struct Attributes {
  std::vector<std::pair<std::string, Argument>> values;
};

std::vector<int64_t> contiguous(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;)
    strides[i - 1] = strides[i] * std::max<int64_t>(sizes[i], 1);
  return strides;
}

// One input or output; a description of no type stands for one that is left out.
Argument argument_of(const Tensor* description, const Buffer* buffer) {
  if (description->type == c10::ScalarType::Undefined || buffer->data == nullptr) return {};
  Tensor tensor = *description;
  tensor.data = buffer->data;
  tensor.strides = contiguous(tensor.sizes);
  if (!is_device_address(buffer->data)) {  // a constant, which its owner frees
    const auto* begin = static_cast<const char*>(buffer->data);
    tensor.constant = std::make_shared<std::vector<char>>(begin, begin + buffer->bytes);
  }
  return tensor;
}

int set(Attributes* attributes, const char* name, Argument value) {
  attributes->values.emplace_back(name, std::move(value));
  return kSuccess;
}

}  // namespace

#define HEITU_ACCEPTED(name) \
  HEITU_EXPORT int name() { return kSuccess; }
#define HEITU_NOT_EMULATED(name) \
  HEITU_EXPORT int name() { return not_emulated(#name); }

HEITU_EXPORT Tensor* aclCreateTensorDesc(int type, int dims, const int64_t* sizes, int format) {
  auto* description = new Tensor;
  description->type = torch_type(type);
  description->acl_type = type;
  if (dims > 0) description->sizes.assign(sizes, sizes + dims);
  description->format = format;
  return description;
}

HEITU_EXPORT void aclDestroyTensorDesc(const Tensor* description) { delete description; }

HEITU_EXPORT int aclSetTensorFormat(Tensor* description, int format) {
  description->format = format;
  return kSuccess;
}

HEITU_EXPORT int aclGetTensorDescType(const Tensor* description) { return description->acl_type; }
HEITU_EXPORT int aclGetTensorDescFormat(const Tensor* description) { return description->format; }

HEITU_EXPORT size_t aclGetTensorDescNumDims(const Tensor* description) {
  return description->sizes.size();
}

HEITU_EXPORT int aclGetTensorDescDimV2(const Tensor* description, size_t index, int64_t* size) {
  *size = description->sizes.at(index);
  return kSuccess;
}

HEITU_EXPORT Buffer* aclCreateDataBuffer(void* data, size_t bytes) {
  return new Buffer{data, bytes};
}

HEITU_EXPORT int aclDestroyDataBuffer(const Buffer* buffer) {
  delete buffer;
  return kSuccess;
}

HEITU_EXPORT Attributes* aclopCreateAttr() { return new Attributes; }
HEITU_EXPORT void aclopDestroyAttr(const Attributes* attributes) { delete attributes; }

HEITU_EXPORT int aclopSetAttrBool(Attributes* attributes, const char* name, uint8_t value) {
  return set(attributes, name, value != 0);
}

HEITU_EXPORT int aclopSetAttrInt(Attributes* attributes, const char* name, int64_t value) {
  return set(attributes, name, value);
}

HEITU_EXPORT int aclopSetAttrFloat(Attributes* attributes, const char* name, float value) {
  return set(attributes, name, static_cast<double>(value));
}

HEITU_EXPORT int aclopSetAttrString(Attributes* attributes, const char* name, const char* value) {
  return set(attributes, name, std::string(value));
}

HEITU_EXPORT int aclopSetAttrDataType(Attributes* attributes, const char* name, int type) {
  return set(attributes, name, pack_type(type));
}

HEITU_EXPORT int aclopSetAttrListInt(Attributes* attributes, const char* name, int count,
                                     const int64_t* values) {
  return set(attributes, name, std::vector<int64_t>(values, values + count));
}

HEITU_EXPORT int aclopSetAttrListFloat(Attributes* attributes, const char* name, int count,
                                       const float* values) {
  return set(attributes, name, std::vector<double>(values, values + count));
}

HEITU_EXPORT int aclopSetAttrListBool(Attributes* attributes, const char* name, int count,
                                      const uint8_t* values) {
  return set(attributes, name, std::vector<int64_t>(values, values + count));
}

HEITU_ACCEPTED(aclopSetAttrListListInt)

// Arguments come to a kernel as in0, in1, …, out0, …, and then the attributes by their names.
HEITU_EXPORT int aclopCompileAndExecute(const char* name, int inputs, const Tensor* const* input,
                                        const Buffer* const* input_data, int outputs,
                                        const Tensor* const* output, Buffer* const* output_data,
                                        const Attributes* attributes, int, int, const char*,
                                        void* stream) {
  std::string parameters;
  std::vector<Argument> arguments;
  const auto add = [&](const std::string& parameter, Argument value) {
    parameters += parameter + ";";
    arguments.push_back(std::move(value));
  };
  for (int i = 0; i < inputs; ++i) {
    add("in" + std::to_string(i), argument_of(input[i], input_data[i]));
  }
  for (int i = 0; i < outputs; ++i) {
    add("out" + std::to_string(i), argument_of(output[i], output_data[i]));
  }
  if (attributes != nullptr) {
    for (const auto& [attribute, value] : attributes->values) add(attribute, value);
  }
  return launch_graph_operator(name, std::move(parameters), std::move(arguments), stream);
}

HEITU_EXPORT int aclopCompileAndExecuteV2(const char* name, int inputs, const Tensor* const* input,
                                          const Buffer* const* input_data, int outputs,
                                          const Tensor* const* output, Buffer* const* output_data,
                                          const Attributes* attributes, int engine, int flag,
                                          const char* path, void* stream) {
  return aclopCompileAndExecute(name, inputs, input, input_data, outputs, output, output_data,
                                attributes, engine, flag, path, stream);
}

HEITU_ACCEPTED(aclSetTensorDescName)
HEITU_ACCEPTED(aclSetTensorPlaceMent)
HEITU_ACCEPTED(aclSetTensorShape)
HEITU_ACCEPTED(aclSetTensorConst)
HEITU_ACCEPTED(aclSetTensorShapeRange)
HEITU_ACCEPTED(aclSetCompileopt)
HEITU_ACCEPTED(aclopSetCompileFlag)
HEITU_ACCEPTED(aclmdlInitDump)
HEITU_ACCEPTED(aclmdlSetDump)
HEITU_ACCEPTED(aclmdlFinalizeDump)

HEITU_NOT_EMULATED(aclrtBinaryGetFunction)
HEITU_NOT_EMULATED(aclrtBinaryLoadFromData)
HEITU_NOT_EMULATED(aclrtGetFunctionAddr)
HEITU_NOT_EMULATED(aclrtMemExportToShareableHandle)
HEITU_NOT_EMULATED(aclrtMemImportFromShareableHandle)
HEITU_NOT_EMULATED(aclrtMemSetPidToShareableHandle)
HEITU_NOT_EMULATED(rtDevBinaryRegister)
HEITU_NOT_EMULATED(rtFunctionRegister)
HEITU_NOT_EMULATED(rtGetC2cCtrlAddr)
HEITU_NOT_EMULATED(rtKernelLaunch)

// The profiler's interface: nothing asks for what would be reported.
HEITU_EXPORT uint64_t MsprofSysCycleTime() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}
HEITU_EXPORT uint64_t MsprofGetHashId(const char* text, size_t length) {
  return std::hash<std::string_view>{}(std::string_view(text, length));
}
HEITU_ACCEPTED(MsprofRegisterCallback)
HEITU_ACCEPTED(MsprofReportAdditionalInfo)
HEITU_ACCEPTED(MsprofReportApi)
HEITU_ACCEPTED(MsprofReportCompactInfo)

}  // namespace heitu::cann
