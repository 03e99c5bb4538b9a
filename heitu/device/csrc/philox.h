// Philox4x32-10 as cuRAND positions it, and what cuRAND makes of its words.
//
// A generator is a seed (the key) and an offset; every CUDA thread has its own subsequence. The
// 128-bit counter is offset/4 in the low half and the subsequence in the high half, so that any
// word of any thread can be computed alone:
//
//   words(seed, offset / 4 + call, thread) -> the four words of a thread's call-th curand4()
//
// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11; cuRAND Library, Device API.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace heitu {

struct PhiloxState {
  uint64_t seed = 0;
  uint64_t offset = 0;  // words into each subsequence; generators keep it a multiple of 4
};

namespace philox {

using Words = std::array<uint32_t, 4>;

constexpr uint32_t kMultiplier0 = 0xD2511F53u;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u;
constexpr uint32_t kWeyl1 = 0xBB67AE85u;

inline Words words(uint64_t seed, uint64_t counter, uint64_t subsequence) {
  uint32_t x = static_cast<uint32_t>(counter), y = static_cast<uint32_t>(counter >> 32);
  uint32_t z = static_cast<uint32_t>(subsequence), w = static_cast<uint32_t>(subsequence >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMultiplier0} * x;
    const uint64_t p1 = uint64_t{kMultiplier1} * z;
    x = static_cast<uint32_t>(p1 >> 32) ^ y ^ k0;
    y = static_cast<uint32_t>(p1);
    z = static_cast<uint32_t>(p0 >> 32) ^ w ^ k1;
    w = static_cast<uint32_t>(p0);
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return {x, y, z, w};
}

// ---- uniform, (0, 1] ----

inline float uniform(uint32_t word) {
  return std::fma(static_cast<float>(word), 0x1p-32f, 0x1p-33f);
}

// 53 bits from two words.
inline double uniform_double(uint32_t low, uint32_t high) {
  const uint64_t bits = uint64_t{low} ^ (uint64_t{high} << 21);
  return std::fma(static_cast<double>(bits), 0x1p-53, 0x1p-54);
}

// ---- elementary functions ----

// CUDA's logf for positive normal arguments: its range reduction, its polynomial, its roundings.
inline float device_logf(float a) {
  int32_t bits;
  std::memcpy(&bits, &a, sizeof bits);
  const int32_t exponent = (bits - 0x3F2AAAAB) & static_cast<int32_t>(0xFF800000u);
  const int32_t mantissa_bits = bits - exponent;
  float mantissa;
  std::memcpy(&mantissa, &mantissa_bits, sizeof mantissa);
  const float e = static_cast<float>(exponent) * 0x1p-23f;
  const float f = mantissa - 1.0f;
  float r = std::fma(-0x1.0AA04Ep-3f, f, 0x1.2073ECp-3f);
  r = std::fma(r, f, -0x1.F19B98p-4f);
  r = std::fma(r, f, 0x1.1E52AAp-3f);
  r = std::fma(r, f, -0x1.55B172p-3f);
  r = std::fma(r, f, 0x1.99DA16p-3f);
  r = std::fma(r, f, -0x1.FFFE44p-3f);
  r = std::fma(r, f, 0x1.5554F0p-2f);
  r = std::fma(r, f, -0.5f);
  r = f * r;
  r = std::fma(r, f, f);
  return std::fma(e, 0x1.62E430p-1f, r);
}

struct SinCos {
  float sin, cos;
};

// Sine and cosine of a float in [0, 2 pi], within 0.501 ulp of the true value. CUDA uses its
// special function unit here, whose absolute error is up to 2^-21.
inline SinCos sincos(float angle) {
  // Nearest multiple of pi/2 by the magic number 1.5 * 2^52, whose low bits then hold the quadrant;
  // Taylor in double on what remains, |r| <= pi/4: the truncated terms are below 2^-36.
  constexpr double kMagic = 0x1.8p52;
  const double x = angle;
  const double shifted = std::fma(x, 0.63661977236758134308, kMagic);
  int64_t quadrant;
  std::memcpy(&quadrant, &shifted, sizeof quadrant);
  const double r = std::fma(shifted - kMagic, -1.57079632679489661923, x);
  const double s = r * r;
  double sine = std::fma(s, -1.0 / 39916800, 1.0 / 362880);
  sine = std::fma(sine, s, -1.0 / 5040);
  sine = std::fma(sine, s, 1.0 / 120);
  sine = std::fma(sine, s, -1.0 / 6);
  sine = std::fma(sine * s, r, r);
  double cosine = std::fma(s, 1.0 / 479001600, -1.0 / 3628800);
  cosine = std::fma(cosine, s, 1.0 / 40320);
  cosine = std::fma(cosine, s, -1.0 / 720);
  cosine = std::fma(cosine, s, 1.0 / 24);
  cosine = std::fma(cosine, s, -0.5);
  cosine = std::fma(cosine, s, 1.0);
  const double first = quadrant & 1 ? cosine : sine;
  const double second = quadrant & 1 ? sine : cosine;
  return {static_cast<float>(quadrant & 2 ? -first : first),
          static_cast<float>((quadrant + 1) & 2 ? -second : second)};
}

// at::log, at::exp and at::tan in CUDA kernels. For float those are __logf, __expf and __tanf: the
// special function unit's lg2, ex2, sin and cos between roundings to float. The unit's own error
// (some 2^-22) is left out.
inline float fast_log(float a) {
  return static_cast<float>(std::log2(static_cast<double>(a))) * 0x1.62E430p-1f;
}
inline double fast_log(double a) { return std::log(a); }
inline float fast_exp(float a) {
  return static_cast<float>(std::exp2(static_cast<double>(a * 0x1.715476p0f)));
}
inline double fast_exp(double a) { return std::exp(a); }
inline float fast_tan(float a) {
  const double x = a;
  return static_cast<float>(std::sin(x)) * (1.0f / static_cast<float>(std::cos(x)));
}
inline double fast_tan(double a) { return std::tan(a); }

// ---- normal: Box-Muller ----

struct Pair {
  float first, second;
};
struct DoublePair {
  double first, second;
};

inline Pair normal(uint32_t a, uint32_t b) {
  constexpr float kTwoPi = 0x1.921FB6p-30f;  // 2 pi / 2^32
  const float radius = std::sqrt(-2.0f * device_logf(uniform(a)));
  const SinCos unit = sincos(std::fma(static_cast<float>(b), kTwoPi, kTwoPi / 2));
  return {unit.sin * radius, unit.cos * radius};
}

inline DoublePair normal_double(const Words& w) {
  const double u = uniform_double(w[0], w[1]);
  const uint64_t bits = uint64_t{w[2]} ^ (uint64_t{w[3]} << 21);
  const double half_turns = std::fma(static_cast<double>(bits), 0x1p-52, 0x1p-53);
  const double radius = std::sqrt(-2.0 * std::log(u));
  // sincospi: the subtraction is exact, so small angles keep their precision.
  const double quadrant = std::nearbyint(2 * half_turns);
  const double r = 3.14159265358979323846 * (half_turns - quadrant / 2);
  const double sine = std::sin(r), cosine = std::cos(r);
  const int q = static_cast<int>(quadrant) & 3;
  const double first = q & 1 ? cosine : sine;
  const double second = q & 1 ? sine : cosine;
  return {(q & 2 ? -first : first) * radius, ((q + 1) & 2 ? -second : second) * radius};
}

// One thread's curandStatePhilox4_32_10_t, for kernels that draw a data-dependent number of words.
class Stream {
 public:
  Stream(PhiloxState state, uint64_t subsequence)
      : seed_(state.seed),
        counter_(state.offset / 4),
        subsequence_(subsequence),
        position_(static_cast<unsigned>(state.offset & 3)),
        words_(words(seed_, counter_, subsequence_)) {}

  uint32_t next() {
    const uint32_t word = words_[position_++];
    if (position_ == 4) {
      position_ = 0;
      advance();
    }
    return word;
  }

  // curand4: the next four words, across the counter's boundary if need be.
  Words next4() {
    const Words current = words_;
    advance();
    Words result;
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned at = position_ + i;
      result[i] = at < 4 ? current[at] : words_[at - 4];
    }
    return result;
  }

  float uniform() { return philox::uniform(next()); }

  float normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const uint32_t a = next();
    const uint32_t b = next();
    const Pair pair = philox::normal(a, b);
    spare_ = pair.second;
    has_spare_ = true;
    return pair.first;
  }

  // Only the first of the pair: no caller draws twice.
  double normal_double() { return philox::normal_double(next4()).first; }

 private:
  void advance() { words_ = words(seed_, ++counter_, subsequence_); }

  uint64_t seed_, counter_, subsequence_;
  unsigned position_;
  Words words_;
  float spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace philox
}  // namespace heitu
