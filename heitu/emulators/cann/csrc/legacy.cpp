// The graph compiler's interface and others of before aclnn, which torch_npu links and hardly
// calls.
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "acl.h"
#include "errors.h"

namespace heitu::cann {
namespace {

int not_emulated(const std::string& what) {
  return fail(kFeatureNotSupported, what + " is not emulated");
}

}  // namespace

#define HEITU_ACCEPTED(name) \
  HEITU_EXPORT int name() { return kSuccess; }
#define HEITU_NOT_EMULATED(name) \
  HEITU_EXPORT int name() { return not_emulated(#name); }

// Descriptions of arguments for the graph compiler: kept by nobody, since nothing is compiled.
HEITU_EXPORT void* aclCreateTensorDesc(int, int, const int64_t*, int) { return new char; }
HEITU_EXPORT void aclDestroyTensorDesc(const void* description) {
  delete static_cast<const char*>(description);
}
HEITU_EXPORT void* aclCreateDataBuffer(void*, size_t) { return new char; }
HEITU_EXPORT int aclDestroyDataBuffer(const void* buffer) {
  delete static_cast<const char*>(buffer);
  return kSuccess;
}
HEITU_EXPORT void* aclopCreateAttr() { return new char; }
HEITU_EXPORT void aclopDestroyAttr(const void* attributes) {
  delete static_cast<const char*>(attributes);
}
HEITU_EXPORT int aclopCompileAndExecute(const char* name) {
  return not_emulated(std::string("the graph operator ") + name);
}
HEITU_EXPORT int aclopCompileAndExecuteV2(const char* name) {
  return not_emulated(std::string("the graph operator ") + name);
}

HEITU_ACCEPTED(aclSetTensorDescName)
HEITU_ACCEPTED(aclSetTensorFormat)
HEITU_ACCEPTED(aclSetTensorPlaceMent)
HEITU_ACCEPTED(aclSetTensorShape)
HEITU_ACCEPTED(aclGetTensorDescType)
HEITU_ACCEPTED(aclGetTensorDescFormat)
HEITU_ACCEPTED(aclGetTensorDescNumDims)
HEITU_ACCEPTED(aclGetTensorDescDimV2)
HEITU_ACCEPTED(aclopSetAttrBool)
HEITU_ACCEPTED(aclopSetAttrDataType)
HEITU_ACCEPTED(aclopSetAttrFloat)
HEITU_ACCEPTED(aclopSetAttrInt)
HEITU_ACCEPTED(aclopSetAttrListBool)
HEITU_ACCEPTED(aclopSetAttrListFloat)
HEITU_ACCEPTED(aclopSetAttrListInt)
HEITU_ACCEPTED(aclopSetAttrListListInt)
HEITU_ACCEPTED(aclopSetAttrString)
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
