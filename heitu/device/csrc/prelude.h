// What every translation unit of the core shares; compiled once as a precompiled header.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "version.h"
