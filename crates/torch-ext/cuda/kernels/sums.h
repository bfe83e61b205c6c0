// Sums that do not depend on who adds: lanes add their own terms in order, then a tree adds the lanes. The twin adds in the
// same order.
#pragma once

#include "number.h"

namespace flatmin::FLATMIN_SIDE {

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

// Adds `values[0..lanes]` into the first; `lanes` is a power of two. `each(count, step)` runs `step` for all lanes below
// `count` at once.
template <class Sum, class Each>
FLATMIN_BOTH void add_tree(Sum* values, int lanes, Each&& each) {
  for (int half = lanes / 2; half > 0; half /= 2) {
    each(half, [=](int lane) { values[lane].add(values[lane + half]); });
  }
}

}  // namespace flatmin::FLATMIN_SIDE
