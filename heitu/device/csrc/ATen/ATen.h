// Takes the place of PyTorch's header of this name, which declares every operator twice and takes
// longer to read than all else that a translation unit includes. PyTorch's headers for autocasting
// and for process groups include it, and use no more than this.
#pragma once

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
