// What a program linked against Ascend's runtime sees of it: codes and handles, in declarations of
// our own. Values are those that torch_npu's sources (BSD-3) compare with or pass.
#pragma once

#include <cstddef>
#include <cstdint>

#define HEITU_EXPORT extern "C" __attribute__((visibility("default")))

namespace heitu::cann {

enum Error : int {
  kSuccess = 0,
  kInvalidParameter = 107000,
  kInvalidDevice = 107001,
  kNoContext = 107002,
  kStreamCaptured =
      107024,  // these two are numbers of our own: the plugin only asks whether it is 0
  kStreamNotCaptured = 107025,
  kUninitialized = 100001,
  kRepeatInitialize = 100002,
  kRepeatFinalize = 100037,
  kOpNotFound = 100024,
  kParameterInvalid = 161002,  // what a kernel answers whose arguments do not fit
  kMemoryAllocation = 207001,
  kFeatureNotSupported = 207000,
  kStreamSyncTimeout = 507046,
  kKernelException = 507015,
};

enum DataType : int {
  kUndefinedType = -1,
  kFloat = 0,
  kHalf = 1,
  kInt8 = 2,
  kInt32 = 3,
  kUInt8 = 4,
  kInt16 = 6,
  kUInt16 = 7,
  kUInt32 = 8,
  kInt64 = 9,
  kUInt64 = 10,
  kDouble = 11,
  kBool = 12,
  kComplex64 = 16,
  kComplex128 = 17,
  kBFloat16 = 27,
  kInt4 = 29,
  kComplex32 = 33,
  kFloat8E5M2 = 35,
  kFloat8E4M3 = 36,
  kFloat8E8M0 = 37,
};

enum CopyKind : int {
  kHostToHost = 0,
  kHostToDevice = 1,
  kDeviceToHost = 2,
  kDeviceToDevice = 3,
  kDefaultCopy = 4,
};

enum EventStatus : int { kEventNotReady = 0, kEventComplete = 1 };
enum StreamStatus : int { kStreamComplete = 0, kStreamNotReady = 1 };

}  // namespace heitu::cann
