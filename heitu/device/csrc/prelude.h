// What every translation unit of the core begins with; the build includes it. Operators come from
// their own headers (ATen/ops/...): all of ATen.h takes longer to read than most of our files to
// compile.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "version.h"
