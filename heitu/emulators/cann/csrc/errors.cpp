#include "errors.h"

#include <mutex>

namespace heitu::cann {
namespace {

std::mutex error_mutex;
std::string recent_message;

}  // namespace

int fail(Error code, const std::string& message) {
  // One for the whole process: the caller may ask from another thread than the one that failed.
  std::lock_guard<std::mutex> lock(error_mutex);
  recent_message = "[emulated CANN] " + message;
  return code;
}

HEITU_EXPORT const char* aclGetRecentErrMsg() {
  static thread_local std::string answer;
  std::lock_guard<std::mutex> lock(error_mutex);
  answer = recent_message;
  return answer.c_str();
}

HEITU_EXPORT void aclAppLog(int, const char*, const char*, uint32_t, const char*, ...) {}

}  // namespace heitu::cann
