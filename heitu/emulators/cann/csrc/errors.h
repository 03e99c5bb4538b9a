// The message behind the last error code, as the runtime's callers ask for it.
#pragma once

#include <string>

#include "acl.h"

namespace heitu::cann {

// Notes `message` for aclGetRecentErrMsg and returns `code`.
int fail(Error code, const std::string& message);

}  // namespace heitu::cann
