#include "generator.h"

#include <ATen/detail/PrivateUse1HooksInterface.h>

#include <deque>
#include <mutex>
#include <vector>

#include "labels.h"

namespace heitu {
namespace {

class Generator final : public c10::GeneratorImpl {
 public:
  Generator(at::Generator plugin, c10::DeviceIndex device)
      : GeneratorImpl({c10::kCUDA, device}, c10::DispatchKeySet(c10::DispatchKey::CUDA)),
        plugin_(std::move(plugin)) {}

  const at::Generator& plugin() const { return plugin_; }

  void set_current_seed(uint64_t seed) override { inner().set_current_seed(seed); }
  void set_offset(uint64_t offset) override { inner().set_offset(offset); }
  uint64_t get_offset() const override { return inner().get_offset(); }
  uint64_t current_seed() const override { return inner().current_seed(); }
  uint64_t seed() override { return inner().seed(); }
  void set_state(const c10::TensorImpl& state) override { inner().set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return inner().get_state(); }
  void graphsafe_set_state(const c10::intrusive_ptr<c10::GeneratorImpl>& state) override {
    auto* other = dynamic_cast<Generator*>(state.get());
    TORCH_CHECK(other, "graphsafe_set_state expects a generator of cuda");
    inner().graphsafe_set_state(other->plugin_.getIntrusivePtr());
  }
  c10::intrusive_ptr<c10::GeneratorImpl> graphsafe_get_state() const override {
    return c10::make_intrusive<Generator>(at::Generator(inner().graphsafe_get_state()),
                                          device().index());
  }

 private:
  c10::GeneratorImpl& inner() const { return *plugin_.unsafeGetGeneratorImpl(); }
  Generator* clone_impl() const override {
    return new Generator(plugin_.clone(), device().index());
  }

  at::Generator plugin_;
};

c10::DeviceIndex existing(c10::DeviceIndex device) {
  const auto* guard = c10::impl::getDeviceGuardImpl(kPlugin);
  if (device == -1) return guard->getDevice().index();
  const auto count = guard->deviceCount();
  TORCH_CHECK(device >= 0 && device < count, "Invalid device index ", int(device), ": there are ",
              int(count), " devices");
  return device;
}

std::vector<at::Generator>& told_generators() {
  static auto* generators = new std::vector<at::Generator>;
  return *generators;
}

const at::Generator& plugin_default(c10::DeviceIndex index) {
  try {
    return at::detail::getPrivateUse1Hooks().getDefaultGenerator(index);
  } catch (const c10::NotImplementedError&) {
    const auto& told = told_generators();
    if (static_cast<size_t>(index) >= told.size()) throw;
    return told[index];
  }
}

}  // namespace

void tell_default_generators(std::vector<at::Generator> generators) {
  told_generators() = std::move(generators);
}

at::Generator plugin_generator(const at::Generator& generator) {
  if (!generator.defined() || !generator.device().is_cuda()) return generator;
  return static_cast<Generator*>(generator.unsafeGetGeneratorImpl())->plugin();
}

at::Generator new_generator(c10::DeviceIndex device) {
  const auto index = existing(device);
  return at::Generator(c10::make_intrusive<Generator>(
      at::detail::getPrivateUse1Hooks().getNewGenerator(index), index));
}

const at::Generator& default_generator(c10::DeviceIndex device) {
  static auto* mutex = new std::mutex;
  static auto* generators = new std::deque<at::Generator>;  // which never moves its elements
  const auto index = static_cast<size_t>(existing(device));
  const std::lock_guard lock(*mutex);
  if (generators->size() <= index) generators->resize(index + 1);
  auto& generator = (*generators)[index];
  if (!generator.defined())
    generator = at::Generator(c10::make_intrusive<Generator>(plugin_default(index), index));
  return generator;
}

}  // namespace heitu
