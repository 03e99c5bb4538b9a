// What the rules of a chip say of an operator.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>

namespace heitu {

enum class Verdict : uint8_t { native, fallback, refused, unknown };

enum class Why : uint8_t {
  listed,           // the chip's plugin registers it
  same_device,      // the chip runs the kernels of the cuda device
  no_list,          // nothing is published
  incomplete_list,  // what is published does not have it, and is not all there is
  not_listed,
  on_host,    // listed, and runs on the host all the same
  dtype,      // by a rule about a dtype
  other_key,  // sparse, nested, quantized: the list does not cover these
};

struct Ruling {
  Verdict verdict = Verdict::native;
  Why why = Why::listed;
};

// A rule about a dtype that a call met.
struct DtypeRuling {
  enum class Kind : uint8_t { none, refused, narrowed, emulated, stated_no };
  Kind kind = Kind::none;
  int16_t rule = -1;  // its index in the chip's entry
  c10::ScalarType from = c10::ScalarType::Undefined;
  c10::ScalarType to = c10::ScalarType::Undefined;  // where narrowed
};

}  // namespace heitu
