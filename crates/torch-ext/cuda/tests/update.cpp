// The update: norms, ascent, descent and what variants need, on a small model of every geometry.
#include <cmath>

#include "model.h"
#include "numbers.h"

namespace flatmin::test {
namespace {

struct Options {
  size_t shift = 0;  // elements that gradients begin behind an aligned address
  bool infinite = false;
  bool by_group = false;  // gradients enter by a factor of the group
};

// A segment that is not perturbed, one without a gradient, two parameter groups; with float masters, matrices are read in
// bfloat16.
template <class T>
struct Model {
  static constexpr int32_t kSegments = 6, kWithout = 4, kGroups = 2;
  static constexpr double kEta = 0.01;
  static constexpr bool kHalf = sizeof(T) == sizeof(float);

  Side& side;
  Arena arena;
  size_t len, filters;
  flatmin_cut cut;
  flatmin_arenas arenas;
  flatmin_blend blend{};
  flatmin_scratch scratch;
  flatmin_step* step;
  flatmin_group* groups;
  T* scales;
  double* coefficients;

  Model(Side& side, const Options& options) : side(side) {
    const struct {
      int64_t len, filter;
      int32_t geometry;
    } forms[kSegments] = {{200003, 0, FLATMIN_ELEMENT}, {27 * 161, 27, FLATMIN_FILTER}, {4608 * 3, 4608, FLATMIN_FILTER},
                          {70, 0, FLATMIN_PLAIN},       {5000, 0, FLATMIN_ELEMENT},     {33, 0, FLATMIN_ELEMENT}};
    for (int32_t index = 0; index < kSegments; ++index) {
      const auto& form = forms[index];
      flatmin_segment& segment = arena.add(form.len, form.geometry, form.filter);
      segment.group = index == 2;
      segment.perturbed = index != 5;
      segment.half = kHalf && form.len > 100;
    }
    len = static_cast<size_t>(arena.len);
    filters = static_cast<size_t>(arena.filters);
    cut = arena.cut(side);
    arenas = {side.copy(numbers<T>(len, 1)), side.copy(numbers<T>(len, 2)),
              kHalf ? side.copy(numbers<uint16_t>(len, 2)) : nullptr, Format<T>::kNumber};
    blend.terms[0] = {gradients(10, options), nullptr, 1.0};
    blend.count = 1;
    if (options.by_group) blend.terms[0].by_group = side.copy(std::vector<double>{0.5, 3.0});
    scratch = side.scratch(side->arena_scratch(cut.block_count));
    flatmin_step start{};
    start.proceed = start.half_factor = 1;
    step = side.copy(std::vector<flatmin_step>{start});
    groups = side.copy(std::vector<flatmin_group>{{0.5, 0.1, 0.9, 0.1, 0.01, 0.9, 0.99, 1e-8},
                                                  {0.2, 0.03, 0.9, 0.1, 0.01, 0.9, 0.99, 1e-8}});
    scales = side.room<T>(filters);
    // Those of a norm pass; other ones where none is asked for.
    coefficients = side.copy(std::vector<double>{0.25, 0.125});
  }

  const flatmin_source* gradients(uint64_t seed, const Options& options) {
    std::vector<flatmin_source> entries(kSegments);
    for (size_t index = 0; index < kSegments; ++index) {
      if (index == kWithout) continue;
      const auto& segment = arena.segments[index];
      if (segment.half) {
        entries[index] = {gradient<uint16_t>(segment, seed + index, options), FLATMIN_HALF};
      } else {
        entries[index] = {gradient<T>(segment, seed + index, options), FLATMIN_FULL};
      }
    }
    flatmin_source* table = side.room<flatmin_source>(kSegments);
    side.check(side->write_table(side.stream(), table, kSegments, entries.data()));
    return table;
  }

  template <class Stored>
  const Stored* gradient(const flatmin_segment& segment, uint64_t seed, const Options& options) {
    auto values = numbers<Stored>(static_cast<size_t>(segment.len) + options.shift, seed);
    if (options.infinite && segment.offset == 0) values[12345] = Format<Stored>::of(HUGE_VAL);
    return side.copy(values) + options.shift;
  }

  void norms(int32_t pass, double p) const {
    const flatmin_ball ball{groups, coefficients, p, 1e-16, kGroups};
    const bool first = pass != FLATMIN_SECOND_PASS;
    side.check(side->norms(side.stream(), &cut, &arenas, &blend, kEta, scales, &scratch, step, pass, first ? &ball : nullptr));
    if (!first || p == 2 || std::isinf(p)) return;
    side.check(side->dual_norm(side.stream(), &cut, &arenas, &blend, kEta, scales, &scratch, step, &ball));
  }

  flatmin_displacement displacement(int32_t shape) const {
    flatmin_displacement displacement{};
    displacement.coefficients = coefficients;
    displacement.filter_scales = scales;
    displacement.eta = kEta;
    displacement.exponent = 2;
    displacement.keep = 1;
    displacement.shape = shape;
    return displacement;
  }

  void perturb(const flatmin_displacement& displacement) const {
    if (kHalf) {
      side.check(side->correct_rounding(side.stream(), &cut, &arenas, &blend, &displacement, &scratch, step, 8));
    }
    side.check(side->perturb(side.stream(), &cut, &arenas, &blend, &displacement, step));
  }

  Results results() const {
    Results results;
    append(results, side, static_cast<const T*>(arenas.master), len);
    append(results, side, static_cast<const T*>(arenas.working), len);
    if (kHalf) append(results, side, arenas.working_half, len);
    append(results, side, scales, filters);
    append(results, side, coefficients, kGroups);
    append(results, side, reinterpret_cast<const double*>(step), sizeof(flatmin_step) / sizeof(double));
    return results;
  }
};

// What a descent keeps.
template <class T>
struct Moments {
  T* first;
  T* second;
  int64_t* counts;

  explicit Moments(const Model<T>& model)
      : first(model.side.template zeros<T>(model.len)),
        second(model.side.template zeros<T>(model.len)),
        counts(model.side.template zeros<int64_t>(Model<T>::kSegments)) {}

  void sgd(const Model<T>& model, const flatmin_blend& blend) const {
    const flatmin_sgd sgd{model.groups, first, counts, 0, 1};
    Side& side = model.side;
    side.check(side->sgd(side.stream(), &model.cut, &model.arenas, &blend, &sgd, &model.scratch, model.step));
  }

  void adam(const Model<T>& model, const flatmin_blend& blend) const {
    const flatmin_adam adam{model.groups, first, second, counts, 1};
    Side& side = model.side;
    side.check(side->adam(side.stream(), &model.cut, &model.arenas, &blend, &adam, &model.scratch, model.step));
  }

  void append_to(Results& results, const Model<T>& model) const {
    append(results, model.side, first, model.len);
    append(results, model.side, second, model.len);
    append(results, model.side, counts, Model<T>::kSegments);
  }
};

template <class T>
Results ascent(Side& side, double p, int32_t shape, const Options& options = {}) {
  const Model<T> model(side, options);
  model.norms(FLATMIN_FIRST_PASS, p);
  model.perturb(model.displacement(shape));
  return model.results();
}

template <class Adjust>
Results adjusted(Side& side, int32_t shape, Adjust&& adjust) {
  const Model<float> model(side, {});
  model.norms(FLATMIN_FIRST_PASS, 2);
  flatmin_displacement displacement = model.displacement(shape);
  adjust(displacement);
  model.perturb(displacement);
  return model.results();
}

Results masked(Side& side, int32_t mask) {
  return adjusted(side, FLATMIN_LINEAR, [&](flatmin_displacement& displacement) {
    displacement.mask = mask;
    displacement.mask_seed = side.copy(std::vector<uint64_t>{17});
    displacement.keep = 0.5;
  });
}

Results further(Side& side) {
  return adjusted(side, FLATMIN_QUADRATIC, [](flatmin_displacement& displacement) { displacement.origin = FLATMIN_FROM_WORKING; });
}

Results round_trip(Side& side) {
  return adjusted(side, FLATMIN_QUADRATIC, [](flatmin_displacement& displacement) { displacement.round_trip = 1; });
}

template <class T>
Results descent(Side& side, bool with_adam, const Options& options = {}) {
  const Model<T> model(side, options);
  const Moments<T> moments(model);
  for (int repeat = 0; repeat < 3; ++repeat) {
    model.norms(FLATMIN_FIRST_PASS, 2);
    with_adam ? moments.adam(model, model.blend) : moments.sgd(model, model.blend);
  }
  Results results = model.results();
  moments.append_to(results, model);
  return results;
}

// Two passes and clipping, as the host queues them, recorded once and replayed.
Results whole_steps(Side& side, const Options& options) {
  const Model<float> model(side, options);
  const Moments<float> moments(model);
  constexpr size_t kStatistics = 3000;
  const float* staged = side.copy(numbers<float>(kStatistics, 5));
  float* statistics = side.zeros<float>(kStatistics);
  double* factors = side.room<double>(Model<float>::kGroups);
  flatmin_blend clipped = model.blend;
  clipped.terms[0].by_group = factors;
  side.replay(3, [&] {
    model.norms(FLATMIN_FIRST_PASS, 2);
    model.perturb(model.displacement(FLATMIN_QUADRATIC));
    model.norms(FLATMIN_SECOND_PASS, 2);
    side.check(side->clip(side.stream(), model.step, 5.0, 1e-6, Model<float>::kGroups, factors));
    moments.sgd(model, clipped);
    side.check(side->commit(side.stream(), model.step, statistics, staged, kStatistics, FLATMIN_FLOAT32));
  });
  Results results = model.results();
  moments.append_to(results, model);
  append(results, side, factors, Model<float>::kGroups);
  append(results, side, statistics, kStatistics);
  return results;
}

template <class T>
Results combinations(Side& side) {
  Model<T> model(side, {});
  model.norms(FLATMIN_ONLY_MEASURE, HUGE_VAL);
  T* arena = side.zeros<T>(model.len);
  double* factors = side.room<double>(Model<T>::kGroups);
  double* products = side.room<double>(3);
  side.check(side->clip(side.stream(), model.step, 5.0, 1e-6, Model<T>::kGroups, factors));
  flatmin_blend blend = model.blend;
  blend.terms[1] = {model.gradients(20, {}), factors, -0.25};
  blend.count = 2;
  const cudaStream_t stream = side.stream();
  side.check(side->assign(stream, &model.cut, &model.arenas, &blend, arena));
  side.check(side->products(stream, &model.cut, &model.arenas, &blend, &model.blend, &model.scratch, products));
  side.check(side->translate(stream, &model.cut, &model.arenas, &blend));
  Results results = model.results();
  side.check(side->restore(stream, &model.cut, &model.arenas));
  const Results restored = model.results();
  results.insert(results.end(), restored.begin(), restored.end());
  append(results, side, arena, model.len);
  append(results, side, factors, Model<T>::kGroups);
  append(results, side, products, 3);
  return results;
}

constexpr Options kUnaligned{.shift = 1}, kInfinite{.infinite = true}, kByGroup{.by_group = true};

}  // namespace

std::vector<Case> update_cases() {
  return {
      {"ascent, p = 2", [](Side& side) { return ascent<float>(side, 2, FLATMIN_QUADRATIC); }, 0},
      {"ascent, p = 2, float64", [](Side& side) { return ascent<double>(side, 2, FLATMIN_QUADRATIC); }, 0},
      {"ascent, p = infinity", [](Side& side) { return ascent<float>(side, HUGE_VAL, FLATMIN_SIGN); }, 0},
      {"ascent, p = 1.5", [](Side& side) { return ascent<float>(side, 1.5, FLATMIN_POWER); }, kFunctions},
      {"ascent, p = 1.5, float64", [](Side& side) { return ascent<double>(side, 1.5, FLATMIN_POWER); }, kFunctions},
      {"ascent, linear", [](Side& side) { return ascent<float>(side, 2, FLATMIN_LINEAR); }, 0},
      {"ascent, unaligned", [](Side& side) { return ascent<float>(side, 2, FLATMIN_QUADRATIC, kUnaligned); }, 0},
      {"ascent, by group", [](Side& side) { return ascent<float>(side, 2, FLATMIN_QUADRATIC, kByGroup); }, 0},
      {"ascent, not finite", [](Side& side) { return ascent<float>(side, 2, FLATMIN_QUADRATIC, kInfinite); }, 0},
      {"ascent, mask of elements", [](Side& side) { return masked(side, FLATMIN_MASK_ELEMENT); }, 0},
      {"ascent, mask of segments", [](Side& side) { return masked(side, FLATMIN_MASK_SEGMENT); }, 0},
      {"ascent, a further one", further, 0},
      {"ascent, round trip", round_trip, 0},
      {"SGD", [](Side& side) { return descent<float>(side, false); }, 0},
      {"SGD, float64", [](Side& side) { return descent<double>(side, false); }, 0},
      {"SGD, unaligned", [](Side& side) { return descent<float>(side, false, kUnaligned); }, 0},
      {"SGD, by group", [](Side& side) { return descent<float>(side, false, kByGroup); }, 0},
      {"SGD, not finite", [](Side& side) { return descent<float>(side, false, kInfinite); }, 0},
      {"AdamW", [](Side& side) { return descent<float>(side, true); }, kFunctions},
      {"AdamW, float64", [](Side& side) { return descent<double>(side, true); }, kFunctions},
      {"whole steps, replayed", [](Side& side) { return whole_steps(side, {}); }, 0},
      {"whole steps, not finite", [](Side& side) { return whole_steps(side, kInfinite); }, 0},
      {"combinations", combinations<float>, 0},
      {"combinations, float64", combinations<double>, 0},
  };
}

}  // namespace flatmin::test
