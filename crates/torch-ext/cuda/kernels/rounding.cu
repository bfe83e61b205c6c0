// The factor on eps that makes up for what rounding to bfloat16 takes from it. The search is crates/optim/src/rounding.rs's,
// with its state in the step's record: a measurement that is no longer needed ends at once.
#include "displacement.h"
#include "kernels.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

constexpr double kTolerance = 0.01;
constexpr double kLargestFactor = 16;

// The names of `flatmin_step.search`.
struct Search {
  double done;
  double factor;
  double least_error;  // of the factors measured so far; infinity: none was
  double low_factor, low_projection;
  double high_factor, high_projection;  // factor 0: none was
};
static_assert(sizeof(Search) <= sizeof(flatmin_step::search));

FLATMIN_BOTH Search& search_of(flatmin_step* step) { return *reinterpret_cast<Search*>(step->search); }

struct Begin {
  flatmin_step* step;
  bool wanted;

  FLATMIN_BOTH void operator()() const {
    step->half_factor = 1;
    step->ratio = 0;
    step->cosine = 0;
    search_of(step) = {wanted && step->proceed != 0 ? 0.0 : 1.0, 1, HUGE_VAL, 0, 0, 0, 0};
  }
};

FLATMIN_BOTH double clamp(double value, double low, double high) { return std::fmin(std::fmax(value, low), high); }

FLATMIN_BOTH double next_factor(const Search& search, double projection) {
  if (search.high_factor == 0) {
    return std::fmin(search.factor * (1 / std::fmax(projection, 0.5)), kLargestFactor);
  }
  // The chord, kept from its ends: the projection moves in steps.
  const double rise = search.high_projection - search.low_projection;
  const double share = clamp((1 - search.low_projection) / rise, 0.1, 0.9);
  return search.low_factor + share * (search.high_factor - search.low_factor);
}

// <d, d>, <d, eps> and <eps, eps> over the bfloat16 segments, d = round(from + factor eps) - round(from).
template <class T, bool Power>
struct Measure : Displacement<T, Power> {
  flatmin_step* step;

  struct Shared : Displacement<T, Power>::Shared {
    T factor;
  };
  using Sum = Sums<3>;

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    const Search& search = search_of(step);
    if (search.done != 0) {
      shared.items = kNotWanted;
      return;
    }
    this->find(block, *step, shared);
    if (!shared.run.half) shared.items = 0;
    shared.factor = static_cast<T>(search.factor);
  }

  FLATMIN_BOTH Sum item(const Shared& shared, int item) const {
    const int count = count_of(shared.run, item);
    const Vector<T> master = this->weights.read_master(shared.run, item, count);
    const Vector<T> from = this->origin(shared, item, count, master);
    const Vector<T> eps = this->read(shared, item, count, master, static_cast<T>(shared.coefficient));
    Sum sum = Sum::zero();
    // Behind the block's end all is zero.
    for (int lane = 0; lane < kItem; ++lane) {
      const T moved = rounded(from.at[lane] + shared.factor * eps.at[lane]);
      const double seen = moved - rounded(from.at[lane]), asked = eps.at[lane];
      sum.at[0] += seen * seen;
      sum.at[1] += seen * asked;
      sum.at[2] += asked * asked;
    }
    return sum;
  }

  static FLATMIN_BOTH T rounded(T value) { return static_cast<T>(wide(to_bfloat16(static_cast<float>(value)))); }

  FLATMIN_BOTH void finish(const Sum& sum) const {
    Search& search = search_of(step);
    const double aa = sum.at[0], ab = sum.at[1], bb = sum.at[2];
    if (!(bb > 0 && std::isfinite(bb))) {
      search.done = 1;
      return;
    }
    const double projection = ab / bb, error = std::fabs(projection - 1);
    if (error < search.least_error) {
      search.least_error = error;
      step->half_factor = search.factor;
      step->ratio = std::sqrt(aa / bb);
      const double norms = std::sqrt(aa * bb);
      step->cosine = norms > 0 ? ab / norms : 0;
    }
    if (error <= kTolerance || (search.factor >= kLargestFactor && projection < 1)) {
      search.done = 1;
      return;
    }
    if (projection < 1) {
      search.low_factor = search.factor;
      search.low_projection = projection;
    } else {
      search.high_factor = search.factor;
      search.high_projection = projection;
    }
    search.factor = next_factor(search, projection);
  }
};

}  // namespace

int correct_rounding(void* stream, const flatmin_cut* cut, const flatmin_arenas* arenas, const flatmin_blend* blend,
                     const flatmin_displacement* displacement, const flatmin_scratch* scratch, flatmin_step* step,
                     int32_t passes) {
  if (once(stream, Begin{step, passes > 0}) != 0) return 1;
  return with_real(arenas->number, [&](auto number) {
    using T = decltype(number);
    return with_shape(displacement->shape, [&](auto power) {
      const Measure<T, power()> measure{{*cut, Weights<T>(*arenas), *blend, *displacement}, step};
      for (int32_t pass = 0; pass < passes; ++pass) {
        if (sum(stream, cut->block_count, *scratch, measure) != 0) return 1;
      }
      return 0;
    });
  });
}

}  // namespace flatmin::FLATMIN_SIDE
