// The device's generator: a seed and a count of the draws made. Each random operator gets a CPU
// generator seeded by both.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Utils.h>
#include <ATen/core/Generator.h>

#include <cstring>

#include "memory.h"

namespace standin {

class Generator final : public c10::GeneratorImpl {
 public:
  explicit Generator(c10::DeviceIndex device)
      : c10::GeneratorImpl(c10::Device(c10::kPrivateUse1, device),
                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)) {}

  static c10::DeviceType device_type() { return c10::kPrivateUse1; }
  void set_current_seed(uint64_t seed) override {
    seed_ = seed;
    draws_ = 0;
  }
  void set_offset(uint64_t offset) override { draws_ = offset; }
  uint64_t get_offset() const override { return draws_; }
  uint64_t current_seed() const override { return seed_; }
  uint64_t seed() override {
    set_current_seed(c10::detail::getNonDeterministicRandom());
    return seed_;
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    at::TensorBase bytes = at::detail::empty_cpu({16}, at::kByte, std::nullopt, std::nullopt,
                                                 std::nullopt, std::nullopt);
    auto* words = reinterpret_cast<uint64_t*>(bytes.mutable_data_ptr<uint8_t>());
    words[0] = seed_;
    words[1] = draws_;
    return bytes.getIntrusivePtr();
  }
  void set_state(const c10::TensorImpl& state) override {
    at::detail::check_rng_state(state);
    TORCH_CHECK(state.numel() == 16, "RNG state is wrong size");
    uint64_t words[2];
    std::memcpy(words, state.data(), sizeof words);
    seed_ = words[0];
    draws_ = words[1];
  }
  uint64_t next() { return seed_ * 0x9E3779B97F4A7C15u + ++draws_; }

 private:
  Generator* clone_impl() const override {
    auto* made = new Generator(device().index());
    made->seed_ = seed_;
    made->draws_ = draws_;
    return made;
  }
  uint64_t seed_ = c10::default_rng_seed_val;
  uint64_t draws_ = 0;
};

inline const at::Generator& default_generator(c10::DeviceIndex device) {
  static auto* made = new std::array<at::Generator, kMostDevices>;
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto index = device < 0 ? current_device : device;
  TORCH_CHECK(index < process.devices, "The stand-in has no device ", static_cast<int>(index));
  auto& generator = (*made)[index];
  if (!generator.defined()) generator = at::make_generator<Generator>(index);
  return generator;
}

// The next word of the generator of a call; for operators that take none, PyTorch's default
// generator of the CPU stands in for its length.
class SeededScope {
 public:
  SeededScope(c10::DeviceIndex device, const c10::IValue& given) {
    auto generator = given.isGenerator() ? given.toGenerator() : default_generator(device);
    TORCH_CHECK(generator.device().is_privateuseone(),
                "Expected a generator of the stand-in's device but found one of ",
                generator.device());
    generator_ = at::make_generator<at::CPUGeneratorImpl>(generator.get<Generator>()->next());
    auto& cpu = at::detail::getDefaultCPUGenerator();
    before_ = cpu.get_state();
    auto copy = cpu;
    copy.set_current_seed(generator_.current_seed());
  }
  ~SeededScope() {
    auto cpu = at::detail::getDefaultCPUGenerator();
    cpu.set_state(before_);
  }
  SeededScope(const SeededScope&) = delete;
  SeededScope& operator=(const SeededScope&) = delete;
  const at::Generator& generator() const { return generator_; }

 private:
  at::Generator generator_;
  at::Tensor before_;
};

}  // namespace standin
