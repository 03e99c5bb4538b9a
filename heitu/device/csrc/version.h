// The one place where differences between torch releases are settled.
#pragma once

#include <torch/version.h>

#define HEITU_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) ||        \
   (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))
