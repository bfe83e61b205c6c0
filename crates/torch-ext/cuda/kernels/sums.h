// Sums that do not depend on who adds: 32 lanes add their own terms in order, then a tree adds the lanes. The twin adds in the same
// order.
#pragma once

#include <type_traits>

#include "number.h"

namespace flatmin::FLATMIN_SIDE {

constexpr int kLanes = 32;

template <int Count>
struct Sums {
  double at[Count];

  static FLATMIN_BOTH Sums zero() {
    Sums sums;
    for (int index = 0; index < Count; ++index) sums.at[index] = 0;
    return sums;
  }

  FLATMIN_BOTH void add(const Sums& other) {
    for (int index = 0; index < Count; ++index) at[index] += other.at[index];
  }
};

struct Largest {
  double at[1];

  static FLATMIN_BOTH Largest zero() { return {{0}}; }
  FLATMIN_BOTH void add(const Largest& other) { at[0] = std::fmax(at[0], other.at[0]); }
};

// `add(load(index))` for every `step`th index from `first` to `end`, in order. `Ahead` are loaded before the first is added, since
// memory answers late.
template <int Ahead, class Index, class Load, class Take>
FLATMIN_BOTH void add_ahead(Index first, Index end, Index step, Load&& load, Take&& add) {
  Index index = first;
  for (; index + (Ahead - 1) * step < end; index += Ahead * step) {
    decltype(load(index)) loaded[Ahead];
    FLATMIN_UNROLL
    for (int ahead = 0; ahead < Ahead; ++ahead) loaded[ahead] = load(index + ahead * step);
    FLATMIN_UNROLL
    for (int ahead = 0; ahead < Ahead; ++ahead) add(loaded[ahead]);
  }
  for (; index < end; index += step) add(load(index));
}

// Joins sums, as what a tree does.
struct Add {
  template <class Sum>
  FLATMIN_BOTH Sum operator()(Sum a, const Sum& b) const {
    a.add(b);
    return a;
  }
};

#ifdef __CUDACC__

// A number, or each number of a sum, that another lane has.
template <class T, class Shuffle>
__device__ T shuffled(T value, Shuffle&& shuffle) {
  if constexpr (std::is_arithmetic_v<T>) {
    return shuffle(value);
  } else {
    for (auto& number : value.at) number = shuffle(number);
    return value;
  }
}

constexpr unsigned kAllLanes = 0xffffffff;

template <class T>
__device__ T of_lane_behind(T value, int by) {
  return shuffled(value, [=](auto number) { return __shfl_down_sync(kAllLanes, number, by); });
}

template <class T>
__device__ T of_first_lane(T value) {
  return shuffled(value, [](auto number) { return __shfl_sync(kAllLanes, number, 0); });
}

// `join(a, b)` of the first `Count` lanes' values, a power of two, for the first lane. All lanes call it.
template <int Count, class T, class Join>
__device__ T join_lanes(T value, Join&& join) {
#pragma unroll
  for (int half = Count / 2; half > 0; half /= 2) value = join(value, of_lane_behind(value, half));
  return value;
}

#else

template <int Count, class T, class Join>
T join_lanes(T* values, Join&& join) {
  for (int half = Count / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) values[lane] = join(values[lane], values[lane + half]);
  }
  return values[0];
}

#endif

}  // namespace flatmin::FLATMIN_SIDE
