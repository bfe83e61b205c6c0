// norm2(g) and norm2(T_w g) over all perturbed parameters jointly, in one pass over weights and gradients, and what follows
// from them for the step: does it proceed, and how far does the ascent go.
#include "arena.h"
#include "kernels.h"
#include "team.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

// norm2(filter) + eta, for the blocks of segments that are scaled by filter. In double: no square overflows.
template <class T>
struct FilterScales {
  static constexpr int kParts = 16;  // of a block, a team each: filters can be short
  flatmin_cut cut;
  Weights<T> weights;
  double eta;
  T* scales;

  template <class Team>
  FLATMIN_BOTH void run(const Team& team, int64_t part) const {
    const Run run = run_of(cut, part / kParts);
    if (run.geometry != FLATMIN_FILTER || !run.perturbed) return;
    const int filters = run.len / run.filter;
    for (int filter = static_cast<int>(part % kParts); filter < filters; filter += kParts) {
      const T* start = weights.master + run.global + filter * run.filter;
      const double squares = team_sum(team, run.filter, [=](int64_t index) {
        const double w = start[index];
        return w * w;
      });
      if (team.lead()) scales[run.first_filter + filter] = static_cast<T>(std::sqrt(squares)) + static_cast<T>(eta);
    }
  }
};

// rho / (norm + guard), 0 for norm 0.
FLATMIN_BOTH double length(double rho, double norm, double guard) { return norm == 0 ? 0 : rho / (norm + guard); }

// Squares are taken and summed in double, so that neither they nor T_w g overflow or vanish for float weights.
template <class T>
struct Norms {
  flatmin_cut cut;
  Weights<T> weights;
  flatmin_blend blend;
  double eta;
  const T* filter_scales;
  flatmin_step* step;
  int32_t step_pass;
  flatmin_ball ball;

  struct Shared {
    int items;
    Run run;
    Gradient<T> gradient;
  };
  using Sum = Sums<2>;

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    shared.run = run_of(cut, block);
    find_gradient(blend, shared.run, shared.gradient);
    shared.items = shared.gradient.present ? items_of(shared.run) : 0;
  }

  FLATMIN_BOTH Sum item(const Shared& shared, int item) const {
    const Run& run = shared.run;
    const int count = count_of(run, item);
    const bool scaled = run.perturbed && is_scaled(), by_weight = scaled && run.geometry == FLATMIN_ELEMENT;
    const Vector<T> master = by_weight ? weights.read_master(run, item, count) : Vector<T>{};
    const Vector<T> gradient = read_gradient(shared.gradient, item, count);
    Sum sum = Sum::zero();
    if (!scaled) {
      for (int lane = 0; lane < kItem; ++lane) sum.at[0] += square(gradient.at[lane]);
      return sum;
    }
    const Scales<double, T> scales(run, item, master, eta, filter_scales);
    for (int lane = 0; lane < kItem; ++lane) {
      const double g = gradient.at[lane];
      sum.at[0] += g * g;
      sum.at[1] += square(scales.at[lane] * g);
    }
    return sum;
  }

  // The second pass is asked for its norm and its finiteness alone, and spares the weights.
  FLATMIN_BOTH bool is_scaled() const { return step_pass != FLATMIN_SECOND_PASS; }

  static FLATMIN_BOTH double square(double value) { return value * value; }

  FLATMIN_BOTH void finish(const Sum& sum) const {
    step->plain = std::sqrt(sum.at[0]);
    if (is_scaled()) step->scaled = std::sqrt(sum.at[1]);
    const bool finite = std::isfinite(step->plain) && std::isfinite(step->scaled);
    if (step_pass == FLATMIN_FIRST_PASS) {
      step->proceed = finite ? 1 : 0;
      step->first_plain = step->plain;
      step->first_scaled = step->scaled;
      step->half_factor = 1;
    } else if (step_pass == FLATMIN_SECOND_PASS && !finite) {
      step->proceed = 0;
    }
    if (ball.coefficients == nullptr) return;
    for (int group = 0; group < ball.group_count; ++group) {
      const double rho = ball.groups[group].rho;
      if (ball.p == 2) ball.coefficients[group] = length(rho, step->scaled, ball.guard);
      if (std::isinf(ball.p)) ball.coefficients[group] = rho;
    }
  }
};

// |T_w g| of an item's elements.
template <class T>
FLATMIN_BOTH void magnitudes(const Norms<T>& norms, const typename Norms<T>::Shared& shared, int item,
                             double (&out)[kItem]) {
  const int count = count_of(shared.run, item);
  const Vector<T> master = norms.weights.read_master(shared.run, item, count);
  const Vector<T> gradient = read_gradient(shared.gradient, item, count);
  const Scales<double, T> scales(shared.run, item, master, norms.eta, norms.filter_scales);
  for (int lane = 0; lane < kItem; ++lane) out[lane] = absolute(scales.at[lane] * static_cast<double>(gradient.at[lane]));
}

// max |T_w g|.
template <class T>
struct LargestMagnitude : Norms<T> {
  using typename Norms<T>::Shared;
  using Sum = Largest;

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    Norms<T>::prepare(block, shared);
    if (!shared.run.perturbed) shared.items = 0;
  }

  FLATMIN_BOTH Sum item(const Shared& shared, int item) const {
    double h[kItem];
    magnitudes(*this, shared, item, h);
    Sum largest = Sum::zero();
    for (double value : h) largest.add({{value}});
    return largest;
  }

  FLATMIN_BOTH void finish(const Sum& largest) const { this->step->largest = largest.at[0]; }
};

// norm_q(T_w g), in units of the largest magnitude, so that powers neither overflow nor vanish.
template <class T>
struct PowerSum : LargestMagnitude<T> {
  using typename Norms<T>::Shared;
  using Sum = Sums<1>;

  FLATMIN_BOTH double exponent() const { return this->ball.p / (this->ball.p - 1); }

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    LargestMagnitude<T>::prepare(block, shared);
    if (this->step->largest == 0) shared.items = 0;
  }

  FLATMIN_BOTH Sum item(const Shared& shared, int item) const {
    double h[kItem];
    magnitudes(*this, shared, item, h);
    Sum sum = Sum::zero();
    FLATMIN_UNROLL
    for (double value : h) sum.at[0] += std::pow(value / this->step->largest, exponent());
    return sum;
  }

  FLATMIN_BOTH void finish(const Sum& sum) const {
    const double largest = this->step->largest, q = exponent();
    const double relative = largest == 0 ? 0 : std::pow(sum.at[0], 1 / q);
    this->step->relative = relative;
    const double guard = largest == 0 ? 0 : this->ball.guard / largest;
    for (int group = 0; group < this->ball.group_count; ++group) {
      const double rho = this->ball.groups[group].rho;
      this->ball.coefficients[group] = relative == 0 ? 0 : rho / std::pow(relative + guard, q - 1);
    }
  }
};

}  // namespace

int64_t arena_scratch(int64_t blocks) { return 3 * blocks; }

int norms(void* stream, const flatmin_cut* cut, const flatmin_arenas* arenas, const flatmin_blend* blend, double eta,
          void* filter_scales, const flatmin_scratch* scratch, flatmin_step* step, int32_t pass,
          const flatmin_ball* ball) {
  return with_real(arenas->number, [&](auto number) {
    using T = decltype(number);
    T* scales = static_cast<T*>(filter_scales);
    if (scales != nullptr && pass != FLATMIN_SECOND_PASS) {
      const FilterScales<T> kernel{*cut, Weights<T>(*arenas), eta, scales};
      if (teams(stream, int64_t(cut->block_count) * kernel.kParts, kernel) != 0) return 1;
    }
    const flatmin_ball none{};
    const Norms<T> kernel{*cut, Weights<T>(*arenas), *blend, eta, scales, step, pass, ball != nullptr ? *ball : none};
    return sum(stream, cut->block_count, *scratch, kernel);
  });
}

int dual_norm(void* stream, const flatmin_cut* cut, const flatmin_arenas* arenas, const flatmin_blend* blend, double eta,
              const void* filter_scales, const flatmin_scratch* scratch, flatmin_step* step, const flatmin_ball* ball) {
  return with_real(arenas->number, [&](auto number) {
    using T = decltype(number);
    const Norms<T> base{*cut, Weights<T>(*arenas),     *blend, eta, static_cast<const T*>(filter_scales),
                        step, FLATMIN_ONLY_MEASURE, *ball};
    if (sum(stream, cut->block_count, *scratch, LargestMagnitude<T>{base}) != 0) return 1;
    return sum(stream, cut->block_count, *scratch, PowerSum<T>{{base}});
  });
}

}  // namespace flatmin::FLATMIN_SIDE
