// Numbers as memory holds them and as kernels compute with them, the same for the GPU and for its twin on the CPU.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define FLATMIN_BOTH __host__ __device__ __forceinline__
#define FLATMIN_UNROLL _Pragma("unroll")
#else
#define FLATMIN_BOTH inline
#define FLATMIN_UNROLL
#endif

// One namespace a side: a test links both.
#ifdef __CUDACC__
#define FLATMIN_SIDE gpu
#else
#define FLATMIN_SIDE twin
#endif

namespace flatmin::FLATMIN_SIDE {

// Only ever stored; float is computed with.
struct BFloat16 {
  uint16_t bits;
};

FLATMIN_BOTH float wide(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

// To the nearest, ties to even.
FLATMIN_BOTH BFloat16 to_bfloat16(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  BFloat16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#else
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fc0};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
#endif
}

// What a format is computed in.
template <class Stored>
struct Computed {
  using Real = Stored;
};
template <>
struct Computed<BFloat16> {
  using Real = float;
};
template <class Stored>
using Real = typename Computed<Stored>::Real;

template <class T>
FLATMIN_BOTH T load(T value) {
  return value;
}
FLATMIN_BOTH float load(BFloat16 value) { return wide(value); }

template <class Stored>
FLATMIN_BOTH Stored store(Real<Stored> value) {
  if constexpr (sizeof(Stored) == sizeof(BFloat16)) {
    return to_bfloat16(value);
  } else {
    return value;
  }
}

// Several numbers that are moved at once, where they lie aligned for it.
template <class T, int Width>
struct alignas(sizeof(T) * Width < 16 ? sizeof(T) * Width : 16) Pack {
  T at[Width];
};

template <class T, int Width>
FLATMIN_BOTH bool is_aligned(const T* address) {
  return reinterpret_cast<uintptr_t>(address) % alignof(Pack<T, Width>) == 0;
}

// Where memory is known to be aligned and to hold all of it.
template <int Width, class T>
FLATMIN_BOTH Pack<T, Width> whole_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, Width>*>(from);
}

// The first `count` of a pack; the others are zero. Every place is known when compiled, which keeps packs in registers.
template <int Width, class T>
FLATMIN_BOTH Pack<T, Width> load_pack(const T* from, int count) {
  if (count >= Width && is_aligned<T, Width>(from)) return *reinterpret_cast<const Pack<T, Width>*>(from);
  Pack<T, Width> pack{};
  for (int index = 0; index < Width; ++index) {
    if (index < count) pack.at[index] = from[index];
  }
  return pack;
}

template <int Width, class T>
FLATMIN_BOTH void store_pack(T* to, const Pack<T, Width>& pack, int count) {
  if (count >= Width && is_aligned<T, Width>(to)) {
    *reinterpret_cast<Pack<T, Width>*>(to) = pack;
    return;
  }
  for (int index = 0; index < Width; ++index) {
    if (index < count) to[index] = pack.at[index];
  }
}

template <class T>
FLATMIN_BOTH T absolute(T value) {
  return std::fabs(value);
}

// -1, 0 or 1; NaN stays.
template <class T>
FLATMIN_BOTH T sign(T value) {
  return value > 0 ? T(1) : value < 0 ? T(-1) : value;
}

// ReLU's gate. NaN passes, so that it is noticed.
template <class T>
FLATMIN_BOTH T pass(T gate, T value) {
  return gate <= 0 ? T(0) : value;
}

}  // namespace flatmin::FLATMIN_SIDE
