// The device's random number generator: Philox, with CUDA's state, offsets and errors.
#pragma once

#include <ATen/core/Generator.h>
#include <c10/core/GeneratorImpl.h>

#include <memory>

#include "philox.h"

namespace heitu {

class PhiloxGenerator final : public c10::GeneratorImpl {
 public:
  explicit PhiloxGenerator(c10::DeviceIndex device);

  static c10::DeviceType device_type() { return c10::DeviceType::CUDA; }

  void set_current_seed(uint64_t seed) override;  // and offset 0
  uint64_t current_seed() const override;
  uint64_t seed() override;  // a fresh nondeterministic seed, set and returned
  void set_offset(uint64_t offset) override;
  uint64_t get_offset() const override;

  // 16 bytes on the CPU: seed, then offset, both little endian. set_state also takes the seed
  // alone.
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override;
  void set_state(const c10::TensorImpl& state) override;

  // A generator that shares this one's state, and taking over the state another one has.
  c10::intrusive_ptr<c10::GeneratorImpl> graphsafe_get_state() const override;
  void graphsafe_set_state(const c10::intrusive_ptr<c10::GeneratorImpl>& source) override;

  // Where a kernel that draws at most `increment` words in each thread is to start; moves on by
  // that, rounded up to whole counters. The caller holds mutex_.
  PhiloxState philox_state(uint64_t increment);

  // While a graph is captured, seed and offset can be neither asked for nor set, and what the
  // captured kernels draw is given back at the end: the increment of one replay is returned.
  void begin_capture();
  uint64_t end_capture();
  // Device memory that CUDA's graphs read seed and offset from. Nothing reads it here, but programs
  // see it in the allocator's statistics while a graph that draws from this state lives.
  std::shared_ptr<void> graph_memory();

 private:
  struct State {
    uint64_t seed = c10::default_rng_seed_val;
    uint64_t offset = 0;
    bool capturing = false;
    uint64_t offset_before_capture = 0;
    std::weak_ptr<void> graph_memory;
  };

  PhiloxGenerator(c10::DeviceIndex device, std::shared_ptr<State> state);
  PhiloxGenerator* clone_impl() const override;
  void refuse_in_capture(const char* attempt) const;
  void place(uint64_t offset);

  std::shared_ptr<State> state_;
};

// The generator that operators use unless told otherwise, one a device; -1: the current device.
const at::Generator& default_generator(c10::DeviceIndex device = -1);

// What torch.Generator(device="cuda") makes: seeded as torch's default, offset 0.
at::Generator new_generator(c10::DeviceIndex device = -1);

// `generator`, or the default one of `device`; raises PyTorch's error if it is not a CUDA
// generator.
PhiloxGenerator* generator_or_default(const std::optional<at::Generator>& generator,
                                      c10::DeviceIndex device);

// Takes `increment` words of each thread under the generator's lock.
PhiloxState draw(PhiloxGenerator* generator, uint64_t increment);

// For operators that only the CPU has a kernel for: a CPU generator whose seed comes from seed and
// offset of `generator`, which moves on, so that such operators follow manual_seed and get_state.
at::Generator cpu_generator_from(PhiloxGenerator& generator);

}  // namespace heitu
