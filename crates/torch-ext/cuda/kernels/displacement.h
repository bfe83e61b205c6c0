// eps of an ascent, element by element: for the write itself and for what measures its rounding.
#pragma once

#include "arena.h"
#include "random.h"

namespace flatmin::FLATMIN_SIDE {

template <class T>
struct Displacement {
  flatmin_cut cut;
  Weights<T> weights;
  flatmin_blend blend;
  flatmin_displacement options;

  struct Shared {
    int items;
    Run run;
    Gradient<T> gradient;
    uint64_t seed;
    double coefficient;
    T unit;
  };

  // Without items if the block has no displacement.
  FLATMIN_BOTH void find(int64_t block, const flatmin_step& step, Shared& shared) const {
    shared.run = run_of(cut, block);
    shared.items = 0;
    if (!shared.run.perturbed) return;
    find_gradient(blend, shared.run, shared.gradient);
    if (!shared.gradient.present) return;
    shared.items = items_of(shared.run);
    shared.coefficient = options.coefficients[shared.run.group];
    shared.unit = static_cast<T>(step.largest);
    shared.seed = options.mask != FLATMIN_NO_MASK ? *options.mask_seed : 0;
  }

  FLATMIN_BOTH bool keeps(const Shared& shared, int item, int lane) const {
    if (options.mask == FLATMIN_NO_MASK) return true;
    const uint64_t element = shared.run.global + static_cast<int64_t>(item) * kItem + lane;
    return uniform(shared.seed, options.mask == FLATMIN_MASK_ELEMENT ? element : shared.run.segment) < options.keep;
  }

  // eps with this coefficient.
  FLATMIN_BOTH Four<T> read(const Shared& shared, int item, int count, const Four<T>& master, T coefficient) const {
    const Four<T> gradient = read_gradient(shared.gradient, item, count);
    const Scales<T, T> scales(shared.run, item, master, options.eta, static_cast<const T*>(options.filter_scales));
    const T c = coefficient;
    Four<T> eps;
    for (int lane = 0; lane < kItem; ++lane) {
      const T x = keeps(shared, item, lane) ? gradient.at[lane] : T(0);
      const T t = scales.at[lane];
      switch (options.shape) {
        case FLATMIN_QUADRATIC:
          eps.at[lane] = c * t * t * x;
          break;
        case FLATMIN_LINEAR:
          eps.at[lane] = c * t * x;
          break;
        case FLATMIN_SIGN:
          eps.at[lane] = c * t * sign(x);
          break;
        default:
          eps.at[lane] = c * t * sign(x) * std::pow(absolute(t * x) / shared.unit, static_cast<T>(options.exponent));
      }
    }
    return eps;
  }

  // From where it goes.
  FLATMIN_BOTH Four<T> origin(const Shared& shared, int item, int count, const Four<T>& master) const {
    return options.origin == FLATMIN_FROM_MASTER ? master : weights.read_working(shared.run, item, count);
  }
};

}  // namespace flatmin::FLATMIN_SIDE
