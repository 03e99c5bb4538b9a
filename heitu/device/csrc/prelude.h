// What every translation unit of the core begins with; the build includes it. Operators come from
// their own headers (ATen/ops/...).
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ATen/ATen.h"
#include "version.h"
