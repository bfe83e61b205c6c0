// eps of an ascent, element by element: for the write itself and for what measures its rounding.
#pragma once

#include "arena.h"
#include "random.h"

namespace flatmin::FLATMIN_SIDE {

// `Power` is whether the shape is FLATMIN_POWER: what pow needs would cost the others registers.
template <class T, bool Power>
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
    const uint64_t element = shared.run.global + static_cast<int64_t>(item) * kItem + lane;
    return uniform(shared.seed, options.mask == FLATMIN_MASK_ELEMENT ? element : shared.run.segment) < options.keep;
  }

  // eps with this coefficient.
  FLATMIN_BOTH Vector<T> read(const Shared& shared, int item, int count, const Vector<T>& master, T c) const {
    Vector<T> x = read_gradient(shared.gradient, item, count);
    const Scales<T, T> t(shared.run, item, master, options.eta, static_cast<const T*>(options.filter_scales));
    if (options.mask != FLATMIN_NO_MASK) {
      for (int lane = 0; lane < kItem; ++lane) x.at[lane] = keeps(shared, item, lane) ? x.at[lane] : T(0);
    }
    if constexpr (Power) {
      const T unit = shared.unit, exponent = static_cast<T>(options.exponent);
      return each(x, t, [=](T x, T t) { return c * t * sign(x) * std::pow(absolute(t * x) / unit, exponent); });
    } else {
      switch (options.shape) {
        case FLATMIN_QUADRATIC:
          return each(x, t, [=](T x, T t) { return c * t * t * x; });
        case FLATMIN_LINEAR:
          return each(x, t, [=](T x, T t) { return c * t * x; });
        default:
          return each(x, t, [=](T x, T t) { return c * t * sign(x); });
      }
    }
  }

  template <class Formula>
  static FLATMIN_BOTH Vector<T> each(const Vector<T>& x, const Scales<T, T>& t, Formula&& formula) {
    Vector<T> eps;
    FLATMIN_UNROLL
    for (int lane = 0; lane < kItem; ++lane) eps.at[lane] = formula(x.at[lane], t.at[lane]);
    return eps;
  }

  // From where it goes.
  FLATMIN_BOTH Vector<T> origin(const Shared& shared, int item, int count, const Vector<T>& master) const {
    return options.origin == FLATMIN_FROM_MASTER ? master : weights.read_working(shared.run, item, count);
  }
};

template <class Body>
int with_shape(int32_t shape, Body&& body) {
  return shape == FLATMIN_POWER ? body(std::true_type()) : body(std::false_type());
}

}  // namespace flatmin::FLATMIN_SIDE
