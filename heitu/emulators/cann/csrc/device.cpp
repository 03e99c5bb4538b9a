// Devices: count, choice, capabilities, versions.
#include "device.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "acl.h"
#include "errors.h"
#include "memory.h"
#include "settings.h"

namespace heitu::cann {
namespace {

thread_local int chosen_device = -1;
bool initialized = false;
std::mutex options_mutex;
std::map<int, int64_t> options;

}  // namespace

bool has_device() { return chosen_device >= 0; }
int current_device() { return std::max(chosen_device, 0); }
void set_current_device(int device) { chosen_device = device; }

Stream& stream_of(void* handle) {
  return handle != nullptr ? *static_cast<Stream*>(handle) : default_stream(current_device());
}

int report(Stream& stream) {
  const std::string failure = stream.take_failure();
  return failure.empty() ? kSuccess : fail(kKernelException, failure);
}

HEITU_EXPORT int aclInit(const char*) {
  if (initialized) return kRepeatInitialize;
  initialized = true;
  return kSuccess;
}

HEITU_EXPORT int aclFinalize() {
  initialized = false;
  return kSuccess;
}

HEITU_EXPORT int aclrtSetDevice(int32_t device) {
  if (device < 0 || device >= settings().devices) {
    return fail(kInvalidDevice, "there is no npu:" + std::to_string(device) + ": " +
                                    std::to_string(settings().devices) +
                                    " devices are emulated (HEITU_CANN_DEVICES)");
  }
  set_current_device(device);
  return kSuccess;
}

HEITU_EXPORT int aclrtGetDevice(int32_t* device) {
  if (!has_device()) return fail(kNoContext, "no device has been set in this thread");
  *device = current_device();
  return kSuccess;
}

HEITU_EXPORT int aclrtGetDeviceCount(uint32_t* count) {
  *count = static_cast<uint32_t>(settings().devices);
  return kSuccess;
}

HEITU_EXPORT int aclrtResetDevice(int32_t) { return kSuccess; }
HEITU_EXPORT int aclrtResetDeviceForce(int32_t) { return kSuccess; }

HEITU_EXPORT int aclrtSynchronizeDevice() {
  int worst = kSuccess;
  for (auto& stream : streams_of(current_device())) {
    if (stream->capture()) continue;
    stream->synchronize(-1);
    if (const int code = report(*stream)) worst = code;
  }
  return worst;
}

HEITU_EXPORT int aclrtSynchronizeDeviceWithTimeout(int32_t) { return aclrtSynchronizeDevice(); }

// A context is the number of a device, plus one so that none is null.
HEITU_EXPORT int aclrtGetCurrentContext(void** context) {
  if (!has_device()) return fail(kNoContext, "no device has been set in this thread");
  *context = reinterpret_cast<void*>(static_cast<uintptr_t>(current_device()) + 1);
  return kSuccess;
}

HEITU_EXPORT int aclrtSetCurrentContext(void* context) {
  return aclrtSetDevice(static_cast<int32_t>(reinterpret_cast<uintptr_t>(context)) - 1);
}

HEITU_EXPORT int aclrtGetPrimaryCtxState(int32_t, uint32_t* flags, int32_t* active) {
  if (flags != nullptr) *flags = 0;
  *active = 1;
  return kSuccess;
}

HEITU_EXPORT const char* aclrtGetSocName() { return settings().soc.c_str(); }

HEITU_EXPORT int aclrtGetLogicDevIdByUserDevId(int32_t user, int32_t* logical) {
  *logical = user;
  return kSuccess;
}

HEITU_EXPORT int aclrtDeviceGetUuid(int32_t device, void* uuid) {
  unsigned char bytes[16] = {'H', 'e', 'i', 't', 'u'};
  bytes[15] = static_cast<unsigned char>(device);
  std::memcpy(uuid, bytes, sizeof bytes);
  return kSuccess;
}

HEITU_EXPORT int aclrtDeviceGetBareTgid(int32_t* pid) {
  *pid = getpid();
  return kSuccess;
}

HEITU_EXPORT int aclGetDeviceCapability(uint32_t, int info, int64_t* value) {
  // AI cores, vector cores and L2 of the 910B family as torch_npu asks for them (AI cores come
  // first).
  *value = info == 0 ? 24 : info == 1 ? 48 : int64_t{192} << 20;
  return kSuccess;
}

HEITU_EXPORT int aclGetCannAttribute(int, int32_t* value) {
  *value = 1;
  return kSuccess;
}

HEITU_EXPORT int aclsysGetVersionStr(char*, char* version) {
  std::strcpy(version, settings().version.c_str());
  return kSuccess;
}

HEITU_EXPORT int aclsysGetCANNVersion(int, void* version) {
  // The version comes first in what is filled in.
  std::strcpy(static_cast<char*>(version), settings().version.c_str());
  return kSuccess;
}

HEITU_EXPORT int aclrtDeviceCanAccessPeer(int32_t* can, int32_t device, int32_t peer) {
  *can = device != peer;
  return kSuccess;
}

HEITU_EXPORT int aclrtDeviceEnablePeerAccess(int32_t, uint32_t) { return kSuccess; }
HEITU_EXPORT int aclrtSetDeviceSatMode(int) { return kSuccess; }
HEITU_EXPORT int aclrtSetOpWaitTimeout(uint32_t) { return kSuccess; }
HEITU_EXPORT int aclrtSetOpExecuteTimeOut(uint32_t) { return kSuccess; }

// Options such as the one for deterministic kernels: remembered, without effect.
HEITU_EXPORT int aclrtSetSysParamOpt(int option, int64_t value) {
  std::lock_guard<std::mutex> lock(options_mutex);
  options[option] = value;
  return kSuccess;
}

HEITU_EXPORT int aclrtCtxSetSysParamOpt(int option, int64_t value) {
  return aclrtSetSysParamOpt(option, value);
}

HEITU_EXPORT int aclrtGetSysParamOpt(int option, int64_t* value) {
  std::lock_guard<std::mutex> lock(options_mutex);
  *value = options[option];
  return kSuccess;
}

HEITU_EXPORT int aclrtGetLastError(int) { return kSuccess; }
HEITU_EXPORT int aclrtPeekAtLastError(int) { return kSuccess; }

}  // namespace heitu::cann
