// What update kernels share: the block of an arena that is worked on, the gradient there, T_w, and the weights that the network
// reads. Eight elements, a vector, are an item.
#pragma once

#include "launch.h"

namespace flatmin::FLATMIN_SIDE {

// 16 bytes of bfloat16, 32 of float.
constexpr int kItem = 8;
constexpr int64_t kBlockLen = 4096;

template <class T>
using Vector = Pack<T, kItem>;

// A block of one segment.
struct Run {
  int64_t local;   // from the segment's start
  int64_t global;  // from the arena's start
  int len;
  int segment;
  int group;
  int geometry;
  int filter;  // a block has whole ones
  int64_t first_filter;
  bool perturbed;
  bool half;
};

FLATMIN_BOTH Run run_of(const flatmin_cut& cut, int64_t index) {
  const flatmin_block block = cut.blocks[index];
  const flatmin_segment segment = cut.segments[block.segment];
  Run run;
  run.local = block.start;
  run.global = segment.offset + block.start;
  run.len = block.len;
  run.segment = block.segment;
  run.group = segment.group;
  run.geometry = segment.geometry;
  run.filter = static_cast<int>(segment.filter);
  run.first_filter = segment.geometry == FLATMIN_FILTER ? segment.first_filter + block.start / segment.filter : 0;
  run.perturbed = segment.perturbed != 0;
  run.half = segment.half != 0;
  return run;
}

FLATMIN_BOTH int items_of(const Run& run) { return (run.len + kItem - 1) / kItem; }

// Elements of an item.
FLATMIN_BOTH int count_of(const Run& run, int item) {
  const int left = run.len - item * kItem;
  return left < kItem ? left : kItem;
}

// The terms of a blend that a block has.
template <class T>
struct Gradient {
  struct Term {
    const void* data;  // at the block's start
    T coefficient;
    bool half;
  };
  Term terms[FLATMIN_TERMS];
  int count;
  bool present;
};

template <class T>
FLATMIN_BOTH void find_gradient(const flatmin_blend& blend, const Run& run, Gradient<T>& gradient) {
  gradient.count = 0;
  gradient.present = blend.terms[0].table[run.segment].kind != FLATMIN_ABSENT;
  if (!gradient.present) return;
  for (int index = 0; index < blend.count; ++index) {
    const flatmin_term& term = blend.terms[index];
    const flatmin_source source = term.table[run.segment];
    const double coefficient = term.coefficient * (term.by_group != nullptr ? term.by_group[run.group] : 1.0);
    if (index > 0 && (source.kind == FLATMIN_ABSENT || coefficient == 0)) continue;
    auto& found = gradient.terms[gradient.count++];
    found.half = source.kind == FLATMIN_HALF;
    const int64_t size = found.half ? sizeof(BFloat16) : sizeof(T);
    found.data = static_cast<const char*>(source.data) + run.local * size;
    found.coefficient = static_cast<T>(coefficient);
  }
}

template <class T>
FLATMIN_BOTH Vector<T> read_vector(const void* data, bool half, int64_t start, int count) {
  if (!half) return load_pack<kItem>(static_cast<const T*>(data) + start, count);
  const auto stored = load_pack<kItem>(static_cast<const BFloat16*>(data) + start, count);
  Vector<T> values;
  for (int lane = 0; lane < kItem; ++lane) values.at[lane] = static_cast<T>(wide(stored.at[lane]));
  return values;
}

template <class T>
FLATMIN_BOTH Vector<T> read_gradient(const Gradient<T>& gradient, int item, int count) {
  Vector<T> sum{};
  for (int index = 0; index < gradient.count; ++index) {
    const auto& term = gradient.terms[index];
    const Vector<T> values = read_vector<T>(term.data, term.half, static_cast<int64_t>(item) * kItem, count);
    for (int lane = 0; lane < kItem; ++lane) {
      const T product = term.coefficient * values.at[lane];
      sum.at[lane] = index == 0 ? product : sum.at[lane] + product;
    }
  }
  return sum;
}

// T_w of an item's elements. `Number` is what it is computed in.
template <class Number, class T>
struct Scales {
  Number at[kItem];

  FLATMIN_BOTH Scales(const Run& run, int item, const Vector<T>& weights, double eta, const T* filter_scales) {
    const int start = item * kItem;
    int filter = 0, place = 0;
    if (run.geometry == FLATMIN_FILTER) {
      filter = start / run.filter;
      place = start - filter * run.filter;
    }
    for (int lane = 0; lane < kItem; ++lane) {
      switch (run.geometry) {
        case FLATMIN_ELEMENT:
          at[lane] = absolute(static_cast<Number>(weights.at[lane])) + static_cast<Number>(eta);
          break;
        case FLATMIN_FILTER:
          // Behind the block's end there is no scale.
          at[lane] = start + lane < run.len ? static_cast<Number>(filter_scales[run.first_filter + filter]) : Number(0);
          if (++place == run.filter) {
            place = 0;
            ++filter;
          }
          break;
        default:
          at[lane] = Number(1);
      }
    }
  }
};

// The arenas, typed.
template <class T>
struct Weights {
  T* master;
  T* working;
  BFloat16* working_half;

  explicit Weights(const flatmin_arenas& arenas)
      : master(static_cast<T*>(arenas.master)),
        working(static_cast<T*>(arenas.working)),
        working_half(reinterpret_cast<BFloat16*>(arenas.working_half)) {}

  FLATMIN_BOTH Vector<T> read_master(const Run& run, int item, int count) const {
    return load_pack<kItem>(master + run.global + static_cast<int64_t>(item) * kItem, count);
  }

  FLATMIN_BOTH void write_master(const Run& run, int item, int count, const Vector<T>& values) const {
    store_pack(master + run.global + static_cast<int64_t>(item) * kItem, values, count);
  }

  FLATMIN_BOTH Vector<T> read_working(const Run& run, int item, int count) const {
    const void* data = run.half ? static_cast<const void*>(working_half) : working;
    return read_vector<T>(data, run.half, run.global + static_cast<int64_t>(item) * kItem, count);
  }

  FLATMIN_BOTH void write_working(const Run& run, int item, int count, const Vector<T>& values) const {
    const int64_t start = run.global + static_cast<int64_t>(item) * kItem;
    if (!run.half) return store_pack(working + start, values, count);
    Vector<BFloat16> rounded;
    for (int lane = 0; lane < kItem; ++lane) rounded.at[lane] = to_bfloat16(static_cast<float>(values.at[lane]));
    store_pack(working_half + start, rounded, count);
  }
};

}  // namespace flatmin::FLATMIN_SIDE
