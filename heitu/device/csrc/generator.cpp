#include "generator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Utils.h>

#include <array>
#include <cstring>
#include <mutex>

#include "allocator.h"
#include "streams.h"

namespace heitu {
namespace {

constexpr size_t kSeedBytes = sizeof(uint64_t);
constexpr size_t kStateBytes = kSeedBytes + sizeof(int64_t);

c10::DeviceIndex resolve(c10::DeviceIndex device) {
  const c10::DeviceIndex index = device == -1 ? current_device() : device;
  TORCH_CHECK(index >= 0 && index < device_count(), "The device_index is invalid.");
  return index;
}

}  // namespace

PhiloxGenerator::PhiloxGenerator(c10::DeviceIndex device)
    : PhiloxGenerator(device, std::make_shared<State>()) {}

PhiloxGenerator::PhiloxGenerator(c10::DeviceIndex device, std::shared_ptr<State> state)
    : c10::GeneratorImpl(c10::Device(c10::DeviceType::CUDA, device),
                         c10::DispatchKeySet(c10::DispatchKey::CUDA)),
      state_(std::move(state)) {}

void PhiloxGenerator::refuse_in_capture(const char* attempt) const {
  TORCH_CHECK(!state_->capturing, attempt,
              " during CUDA graph capture. If you need this call to be captured, please file an "
              "issue. Current cudaStreamCaptureStatus: cudaStreamCaptureStatusActive");
}

void PhiloxGenerator::set_current_seed(uint64_t seed) {
  refuse_in_capture("Cannot call CUDAGeneratorImpl::set_current_seed");
  state_->seed = seed;
  state_->offset = 0;
}

uint64_t PhiloxGenerator::current_seed() const {
  refuse_in_capture("Cannot call CUDAGeneratorImpl::current_seed");
  return state_->seed;
}

uint64_t PhiloxGenerator::seed() {
  refuse_in_capture("Cannot call CUDAGeneratorImpl::seed");
  const uint64_t random = c10::detail::getNonDeterministicRandom(true);
  set_current_seed(random);
  return random;
}

void PhiloxGenerator::place(uint64_t offset) {
  TORCH_CHECK(offset % 4 == 0, "offset must be a multiple of 4");
  state_->offset = offset;
}

void PhiloxGenerator::set_offset(uint64_t offset) {
  refuse_in_capture("Cannot call CUDAGeneratorImpl::set_offset");
  place(offset);
}

uint64_t PhiloxGenerator::get_offset() const {
  refuse_in_capture("Cannot call CUDAGeneratorImpl::get_offset");
  return state_->offset;
}

c10::intrusive_ptr<c10::TensorImpl> PhiloxGenerator::get_state() const {
  const uint64_t seed = current_seed();
  const uint64_t offset = state_->offset;
  at::TensorBase bytes =
      at::detail::empty_cpu({static_cast<int64_t>(kStateBytes)}, at::kByte, std::nullopt,
                            std::nullopt, std::nullopt, std::nullopt);
  auto* data = bytes.mutable_data_ptr<uint8_t>();
  std::memcpy(data, &seed, kSeedBytes);
  std::memcpy(data + kSeedBytes, &offset, sizeof offset);
  return bytes.getIntrusivePtr();
}

void PhiloxGenerator::set_state(const c10::TensorImpl& state) {
  refuse_in_capture(
      "Please ensure to utilize the CUDAGeneratorImpl::set_state_index method during capturing.");
  at::detail::check_rng_state(state);
  const auto size = static_cast<size_t>(state.numel());
  TORCH_CHECK(size == kStateBytes || size == kSeedBytes, "RNG state is wrong size");
  const auto* data = static_cast<const uint8_t*>(state.data());
  uint64_t seed = 0, offset = 0;
  std::memcpy(&seed, data, kSeedBytes);
  if (size == kStateBytes) std::memcpy(&offset, data + kSeedBytes, sizeof offset);
  set_current_seed(seed);
  place(offset);
}

c10::intrusive_ptr<c10::GeneratorImpl> PhiloxGenerator::graphsafe_get_state() const {
  return c10::intrusive_ptr<c10::GeneratorImpl>::unsafe_steal_from_new(
      new PhiloxGenerator(device().index(), state_));
}

void PhiloxGenerator::graphsafe_set_state(const c10::intrusive_ptr<c10::GeneratorImpl>& source) {
  auto* generator = dynamic_cast<PhiloxGenerator*>(source.get());
  TORCH_CHECK(generator != nullptr, "Expected a CUDA Generator");
  state_ = generator->state_;
}

PhiloxState PhiloxGenerator::philox_state(uint64_t increment) {
  const PhiloxState start{state_->seed, state_->offset};
  state_->offset += (increment + 3) / 4 * 4;
  return start;
}

void PhiloxGenerator::begin_capture() {
  state_->capturing = true;
  state_->offset_before_capture = state_->offset;
}

uint64_t PhiloxGenerator::end_capture() {
  const uint64_t increment = state_->offset - state_->offset_before_capture;
  state_->offset = state_->offset_before_capture;
  state_->capturing = false;
  return increment;
}

std::shared_ptr<void> PhiloxGenerator::graph_memory() {
  auto memory = state_->graph_memory.lock();
  if (memory) return memory;
  const auto stream = current_stream(device().index()).id();
  auto* blocks = new std::array<Block*, 2>;
  for (Block*& block : *blocks) block = allocate(device().index(), stream, sizeof(int64_t));
  memory = std::shared_ptr<void>(blocks, [blocks](void*) {
    for (Block* block : *blocks) release(block);
    delete blocks;
  });
  state_->graph_memory = memory;
  return memory;
}

PhiloxGenerator* PhiloxGenerator::clone_impl() const {
  refuse_in_capture("Cannot call CUDAGeneratorImpl::clone_impl");
  auto state = std::make_shared<State>(*state_);
  state->graph_memory.reset();
  return new PhiloxGenerator(device().index(), std::move(state));
}

const at::Generator& default_generator(c10::DeviceIndex device) {
  constexpr size_t kMostDevices = 128;  // what DeviceIndex, an int8_t, can count
  static std::array<std::once_flag, kMostDevices> created;
  static std::array<at::Generator, kMostDevices> generators;
  const auto index = static_cast<size_t>(resolve(device));
  std::call_once(created[index], [&] {
    generators[index] = at::make_generator<PhiloxGenerator>(static_cast<c10::DeviceIndex>(index));
    generators[index].seed();
  });
  return generators[index];
}

at::Generator new_generator(c10::DeviceIndex device) {
  return at::make_generator<PhiloxGenerator>(resolve(device));
}

PhiloxGenerator* generator_or_default(const std::optional<at::Generator>& generator,
                                      c10::DeviceIndex device) {
  if (generator.has_value() && generator->defined()) {
    return at::check_generator<PhiloxGenerator>(generator);
  }
  return default_generator(device).get<PhiloxGenerator>();
}

PhiloxState draw(PhiloxGenerator* generator, uint64_t increment) {
  const std::lock_guard<std::mutex> lock(generator->mutex_);
  return generator->philox_state(increment);
}

at::Generator cpu_generator_from(PhiloxGenerator& generator) {
  const PhiloxState start = draw(&generator, 4);
  const philox::Words words = philox::words(start.seed, start.offset / 4, ~uint64_t{0});
  return at::detail::createCPUGenerator(uint64_t{words[1]} << 32 | words[0]);
}

}  // namespace heitu
