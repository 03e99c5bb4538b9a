#include "settings.h"

#include <cstdlib>

namespace heitu::cann {
namespace {

std::string text_of(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

size_t number_of(const char* name, size_t otherwise) {
  const std::string text = text_of(name, "");
  return text.empty() ? otherwise : std::strtoull(text.c_str(), nullptr, 10);
}

}  // namespace

const Settings& settings() {
  static const Settings read{
      text_of("HEITU_CANN_SOC", "Ascend910B1"),
      static_cast<int>(number_of("HEITU_CANN_DEVICES", number_of("LOCAL_WORLD_SIZE", 1))),
      number_of("HEITU_CANN_MEMORY", size_t{64} << 30),
      text_of("HEITU_CANN_VERSION", "9.0.0"),
      number_of("HEITU_CANN_DELAY", 0),
  };
  return read;
}

}  // namespace heitu::cann
