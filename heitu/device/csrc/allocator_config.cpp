#include "allocator_config.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cctype>
#include <cstdlib>
#include <set>
#include <vector>

namespace heitu {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// Keys of PyTorch's that need no answer here: they tune cudaMalloc, cudaHostRegister and the like.
const std::set<std::string>& accepted_keys() {
  static const std::set<std::string> keys = {"backend",
                                             "expandable_segments_handle_type",
                                             "expandable_segments_reserve",
                                             "expandable_segments_reserve_by_class",
                                             "graph_capture_record_stream_reuse",
                                             "pinned_free_catch_all",
                                             "pinned_max_cached_size_mb",
                                             "pinned_max_round_threshold_mb",
                                             "pinned_num_register_threads",
                                             "pinned_reserve_segment_size_mb",
                                             "pinned_use_background_threads",
                                             "pinned_use_cuda_host_register",
                                             "pinned_use_hip_host_register",
                                             "release_lock_on_cudamalloc",
                                             "release_lock_on_hipmalloc",
                                             "throw_on_cudamalloc_oom"};
  return keys;
}

class Parser {
 public:
  explicit Parser(const std::string& settings) {
    std::string token;
    auto flush = [&] {
      if (!token.empty()) tokens_.push_back(token);
      token.clear();
    };
    for (char c : settings) {
      if (c == ',' || c == ':' || c == '[' || c == ']') {
        flush();
        tokens_.emplace_back(1, c);
      } else if (!std::isspace(static_cast<unsigned char>(c))) {
        token += c;
      }
    }
    flush();
  }

  AllocatorConfig parse() {
    AllocatorConfig config;
    while (at_ < tokens_.size()) {
      std::string key = next();
      expect(":");
      if (key == "max_split_size_mb") {
        config.max_split_size = megabytes(key);
      } else if (key == "max_non_split_rounding_mb") {
        config.max_non_split_rounding = megabytes(key);
      } else if (key == "large_segment_size_mb") {
        config.large_segment = megabytes(key);
      } else if (key == "garbage_collection_threshold") {
        config.garbage_collection_threshold = real();
        TORCH_CHECK_VALUE(
            config.garbage_collection_threshold > 0 && config.garbage_collection_threshold < 1,
            "garbage_collect_threshold is invalid, set it in (0.0, 1.0)");
      } else if (key == "per_process_memory_fraction") {
        config.memory_fraction = real();
        TORCH_CHECK_VALUE(config.memory_fraction >= 0 && config.memory_fraction <= 1,
                          "per_process_memory_fraction is invalid, set it in [0.0, 1.0]");
      } else if (key == "roundup_power2_divisions") {
        parse_divisions(config);
      } else if (key == "expandable_segments") {
        config.expandable_segments = boolean();
      } else {
        TORCH_CHECK_VALUE(accepted_keys().count(key), "Unrecognized key '", key,
                          "' in CUDA allocator config.");
        config.unused[key] = unused_value(key);
      }
      if (at_ < tokens_.size()) expect(",");
    }
    return config;
  }

 private:
  const std::string& next() {
    TORCH_CHECK_VALUE(at_ < tokens_.size(),
                      "Error parsing CachingAllocator settings: a value is missing at the end");
    return tokens_[at_++];
  }

  void expect(const char* token) {
    TORCH_CHECK_VALUE(at_ < tokens_.size() && tokens_[at_] == token,
                      "Error parsing CachingAllocator settings, expected ", token);
    ++at_;
  }

  size_t integer() { return integer(next()); }

  static size_t integer(const std::string& token) {
    char* end = nullptr;
    unsigned long long value = std::strtoull(token.c_str(), &end, 10);
    TORCH_CHECK_VALUE(!token.empty() && !*end && token[0] != '-',
                      "Error parsing CachingAllocator settings, expected an integer but got '",
                      token, "'");
    return value;
  }

  double real() {
    const std::string& token = next();
    char* end = nullptr;
    double value = std::strtod(token.c_str(), &end);
    TORCH_CHECK_VALUE(!*end, "Error parsing CachingAllocator settings, expected a number but got '",
                      token, "'");
    return value;
  }

  bool boolean() {
    const std::string& token = next();
    TORCH_CHECK_VALUE(token == "True" || token == "False", "Expected 'True' or 'False' at index ",
                      at_ - 1, " in ConfigTokenizer but got '", token, "'");
    return token == "True";
  }

  size_t megabytes(const std::string& key) {
    constexpr size_t kLeast = 20;
    size_t value = integer();
    TORCH_CHECK_VALUE(value >= kLeast, "CachingAllocator option ", key,
                      " too small, must be >= ", kLeast);
    return std::min(value, std::numeric_limits<size_t>::max() / kMiB) * kMiB;
  }

  size_t divisions() {
    size_t value = integer();
    TORCH_CHECK_VALUE(value == 0 || std::has_single_bit(value),
                      "For roundups, the divisions has to be power of 2 or 0 to disable roundup ");
    return value;
  }

  // "4", or "[256:1,512:2,>:4]": divisions from that size in MiB on.
  void parse_divisions(AllocatorConfig& config) {
    auto& table = config.roundup_divisions;
    if (at_ < tokens_.size() && tokens_[at_] != "[") {
      table.fill(divisions());
    } else {
      expect("[");
      bool first = true;
      size_t last = 0;
      while (at_ < tokens_.size() && tokens_[at_] != "]") {
        if (!first) expect(",");
        std::string from = next();
        expect(":");
        if (from == ">") {
          std::fill(table.begin() + ptrdiff_t(last), table.end(), divisions());
        } else {
          size_t size = integer(from);
          TORCH_CHECK_VALUE(std::has_single_bit(size),
                            "For roundups, the intervals have to be power of 2 ");
          size_t index = std::min<size_t>(size_t(std::bit_width(size)) - 1, table.size() - 1);
          size_t value = divisions();
          if (first) std::fill(table.begin(), table.begin() + ptrdiff_t(index), value);
          table[index] = value;
          last = index;
        }
        first = false;
      }
      expect("]");
    }
    config.rounds_up = std::any_of(table.begin(), table.end(), [](size_t n) { return n > 1; });
  }

  std::string unused_value(const std::string& key) {
    std::string value = next();
    if (key == "backend") {
      TORCH_CHECK_VALUE(value == "native" || value == "cudaMallocAsync",
                        "Unknown allocator backend, options are native and cudaMallocAsync");
      if (value != "native") {
        TORCH_WARN_ONCE("backend:cudaMallocAsync is answered by the native allocator here.");
      }
    }
    if (value == "[")
      while (value.back() != ']') value += next();
    return value;
  }

  std::vector<std::string> tokens_;
  size_t at_ = 0;
};

}  // namespace

std::atomic<const AllocatorConfig*> current_allocator_config{nullptr};

const AllocatorConfig& allocator_config_of_environment() {
  const char* settings = std::getenv("PYTORCH_ALLOC_CONF");
  if (!settings) settings = std::getenv("PYTORCH_CUDA_ALLOC_CONF");
  const auto* fresh = new AllocatorConfig(parse_allocator_config(settings ? settings : ""));
  const AllocatorConfig* set = nullptr;
  if (current_allocator_config.compare_exchange_strong(set, fresh)) return *fresh;
  delete fresh;
  return *set;
}

size_t AllocatorConfig::divisions(size_t size) const noexcept {
  int octave = std::bit_width(size) - 1 - 20;
  return roundup_divisions[size_t(std::clamp(octave, 0, int(roundup_divisions.size()) - 1))];
}

AllocatorConfig parse_allocator_config(const std::string& settings) {
  AllocatorConfig config = Parser(settings).parse();
  config.settings = settings;
  return config;
}

void set_allocator_settings(const std::string& settings) {
  current_allocator_config = new AllocatorConfig(parse_allocator_config(settings));
}

}  // namespace heitu
