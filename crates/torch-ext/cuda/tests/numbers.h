// Random input of every format, and what kernels answered as numbers to compare.
#pragma once

#include "side.h"

namespace flatmin::test {

// Uniform in [-1, 1).
inline double uniform(uint64_t seed, uint64_t index) {
  uint64_t bits = seed + (index + 1) * 0x9E3779B97F4A7C15ull;
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ull;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBull;
  bits ^= bits >> 31;
  return 2.0 * static_cast<double>(bits >> 11) / static_cast<double>(1ull << 53) - 1;
}

// A format that kernels store: `uint16_t` is bfloat16.
template <class T>
struct Format;
template <>
struct Format<float> {
  static constexpr int32_t kNumber = FLATMIN_FLOAT32;
  using Wide = float;
  static float of(double value) { return static_cast<float>(value); }
};
template <>
struct Format<double> {
  static constexpr int32_t kNumber = FLATMIN_FLOAT64;
  using Wide = double;
  static double of(double value) { return value; }
};
template <>
struct Format<uint16_t> {
  static constexpr int32_t kNumber = FLATMIN_BFLOAT16;
  using Wide = float;  // parameters, statistics and losses beside it
  // Cut off.
  static uint16_t of(double value) {
    const float narrow = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &narrow, sizeof bits);
    return static_cast<uint16_t>(bits >> 16);
  }
};

template <class T>
std::vector<T> numbers(size_t count, uint64_t seed) {
  std::vector<T> values(count);
  for (size_t index = 0; index < count; ++index) values[index] = Format<T>::of(uniform(seed, index));
  return values;
}

inline double widened(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline double widened(float value) { return value; }
inline double widened(double value) { return value; }
inline double widened(int64_t value) { return static_cast<double>(value); }

using Results = std::vector<double>;

template <class T>
void append(Results& results, const Side& side, const T* values, size_t count) {
  for (const T value : side.read(values, count)) results.push_back(widened(value));
}

struct Case {
  const char* name;
  Results (*run)(Side&);
  double tolerance;  // relative to 1 + magnitude; 0: bit for bit
};

// pow, exp and log of the two sides.
constexpr double kFunctions = 1e-5;
// The same where they are rounded to bfloat16.
constexpr double kRounded = 1e-3;

std::vector<Case> update_cases();
std::vector<Case> layer_cases();

// `--time`: rates on this GPU, as JSON.
int measure_kernels();

}  // namespace flatmin::test
