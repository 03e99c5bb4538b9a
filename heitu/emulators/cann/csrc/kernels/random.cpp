// Random numbers. Each call has a generator of its own, seeded with the seed and the offset that
// the plugin passes, so what a program draws does not depend on when a stream gets to it.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "operators.h"

namespace heitu::cann {
namespace {

at::Generator seeded(uint64_t seed, uint64_t offset) {
  uint64_t mixed = seed + 0x9E3779B97F4A7C15ull * (offset + 1);
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ull;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBull;
  return at::detail::createCPUGenerator(mixed ^ (mixed >> 31));
}

uint64_t word(const Call& call, size_t index) { return static_cast<uint64_t>(call.integer(index)); }

// Seed and offset from `first` on: numbers, or tensors and an offset within a recorded graph.
at::Generator generator(const Call& call, size_t first) {
  if (!std::holds_alternative<Tensor>(call.argument(first))) {
    return seeded(word(call, first), word(call, first + 1));
  }
  return seeded(word(call, first), word(call, first + 1) + word(call, first + 2));
}

size_t words(const Call& call, size_t first) {
  return std::holds_alternative<Tensor>(call.argument(first)) ? 3 : 2;
}

// Filled in float32, then narrowed, for types that the CPU's fillers lack.
template <typename Fill>
void fill(const Call& call, size_t index, Fill filler) {
  const auto out = call.tensor(index);
  const bool wide = out.scalar_type() == at::kDouble;
  const auto drawn = at::empty(out.sizes(), out.options().dtype(wide ? at::kDouble : at::kFloat));
  call.put(index, filler(drawn));
}

// One bit an element, as the chip keeps what a dropout leaves.
at::Tensor packed(const at::Tensor& kept) {
  auto bits = at::constant_pad_nd(kept.flatten().to(at::kByte), {0, (8 - kept.numel() % 8) % 8});
  const auto weights = at::tensor({1, 2, 4, 8, 16, 32, 64, 128}, bits.options());
  return (bits.view({-1, 8}) * weights).sum(1).to(at::kByte);
}

at::Tensor unpacked(const at::Tensor& mask, int64_t count) {
  const auto shifts = at::arange(8, mask.options());
  return at::bitwise_and(at::bitwise_right_shift(mask.flatten().unsqueeze(1), shifts), 1)
      .flatten()
      .narrow(0, 0, count);
}

void dropout_mask(const Call& call, size_t seed, size_t out) {
  int64_t count = 1;
  for (const int64_t size : call.ints(0)) count *= size;
  const double probability = call.real(1);
  const auto drawn = at::empty({count}, at::kFloat).uniform_(0, 1, generator(call, seed));
  const auto bits = packed(drawn >= probability);
  auto place = call.tensor(out);
  place.zero_();
  place.flatten().narrow(0, 0, bits.numel()).copy_(bits);
}

at::Tensor normal(const Call& call, const at::Tensor& drawn, size_t first) {
  const auto value = [&](size_t i) {
    return std::holds_alternative<Tensor>(call.argument(i)) ? call.tensor(i)
                                                            : at::scalar_tensor(call.scalar(i));
  };
  auto noise = drawn;
  noise.normal_(0, 1, generator(call, first + 2));
  return noise * value(first + 1) + value(first);
}

}  // namespace

at::Tensor dropout_bits(const at::Tensor& mask, int64_t count) { return unpacked(mask, count); }

HEITU_KERNEL(dropout_gen_mask) { dropout_mask(call, 2, 4); }
HEITU_KERNEL(dropout_gen_mask_v2) { dropout_mask(call, 2, 2 + words(call, 2) + 1); }

HEITU_KERNEL(dropout_do_mask) {
  const auto self = call.tensor(0);
  const double keep = 1 - call.real(2);
  const auto kept = unpacked(call.tensor(1), self.numel()).view(self.sizes());
  call.put(3, keep > 0 ? self * kept / keep : at::zeros_like(self));
}

HEITU_KERNEL(dropout_v3) {
  const auto self = call.tensor(0);
  const double probability = call.real(2);
  const auto drawn = at::empty({self.numel()}, at::kFloat).uniform_(0, 1, generator(call, 3));
  const auto kept = drawn >= probability;
  call.put(5, probability < 1 ? self * kept.view(self.sizes()) / (1 - probability)
                              : at::zeros_like(self));
  const auto bits = packed(kept);
  auto place = call.tensor(6);
  place.zero_();
  place.flatten().narrow(0, 0, bits.numel()).copy_(bits);
}

HEITU_KERNEL(uniform) {
  fill(call, 0, [&](at::Tensor drawn) {
    return drawn.uniform_(call.real(1), call.real(2), generator(call, 3));
  });
}

HEITU_KERNEL(normal_in_place) {
  fill(call, 0, [&](const at::Tensor& drawn) { return normal(call, drawn, 1); });
}

HEITU_KERNEL(normal_out) {
  fill(call, 4, [&](const at::Tensor& drawn) { return normal(call, drawn, 0); });
}

HEITU_KERNEL(exponential) {
  fill(call, 0, [&](at::Tensor drawn) {
    return drawn.exponential_(call.real(2), seeded(word(call, 3), word(call, 4)));
  });
}

HEITU_KERNEL(bernoulli) {
  const auto chance = std::holds_alternative<Tensor>(call.argument(1))
                          ? call.tensor(1).to(at::kFloat)
                          : at::scalar_tensor(call.scalar(1), at::kFloat);
  fill(call, 0, [&](at::Tensor drawn) {
    drawn.uniform_(0, 1, generator(call, 2));
    return drawn.lt(chance);
  });
}

HEITU_KERNEL(random_between) {
  const auto out = call.tensor(0);
  const auto drawn = at::empty(out.sizes(), at::kLong);
  call.put(0, drawn.random_(call.integer(1), call.integer(2), generator(call, 3)));
}

HEITU_KERNEL(random_any) {
  const auto out = call.tensor(0);
  call.put(0, at::empty(out.sizes(), out.options()).random_(generator(call, 1)));
}

HEITU_KERNEL(randperm) {
  const auto order =
      at::randperm(call.integer(0), generator(call, 1), at::TensorOptions(at::kLong));
  call.put(3, order);
}

HEITU_KERNEL(multinomial) {
  const auto self = call.tensor(0);
  const auto drawn =
      at::multinomial(self.to(at::kFloat), call.integer(1), call.flag(2), generator(call, 3));
  call.put(3 + words(call, 3), drawn);
}

HEITU_KERNEL(rrelu) {
  const auto self = call.tensor(0);
  const size_t out = call.size() > 7 ? 7 : 0;
  const double lower = call.real(2), upper = call.real(3);
  if (!call.flag(4)) {
    call.put(out, at::leaky_relu(self, (lower + upper) / 2));
    return;
  }
  const auto slope = at::empty(self.sizes(), at::kFloat).uniform_(lower, upper, generator(call, 5));
  const auto noise = at::where(self <= 0, slope, 1).to(self.scalar_type());
  call.put(1, noise);
  call.put(out, self * noise);
}

}  // namespace heitu::cann
