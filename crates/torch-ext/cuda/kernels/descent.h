// What every descent write does around its formula: working = master, stepped where there is a gradient and the step proceeds,
// and the step counted once all blocks are through.
#pragma once

#include "arena.h"

namespace flatmin::FLATMIN_SIDE {

// `Formula` is a struct with
//   struct Rates;  void rates(const Run&, int64_t count, Rates&) const;     for a block
//   void step(const Run&, const Rates&, int item, int count, Vector<T>& weights, const Gradient<T>&) const;
//   bool counts(int group) const;                                          whether a step of the group is counted
template <class T, class Formula>
struct Descent {
  flatmin_cut cut;
  Weights<T> weights;
  flatmin_blend blend;
  int64_t* counts;
  flatmin_step* record;
  Formula formula;

  struct Shared {
    int items;
    bool moves;
    Run run;
    Gradient<T> gradient;
    typename Formula::Rates rates;
  };

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    shared.run = run_of(cut, block);
    shared.items = items_of(shared.run);
    find_gradient(blend, shared.run, shared.gradient);
    shared.moves = shared.gradient.present && record->proceed != 0;
    if (shared.moves) formula.rates(shared.run, counts[shared.run.segment], shared.rates);
  }

  FLATMIN_BOTH void item(const Shared& shared, int item) const {
    const int count = count_of(shared.run, item);
    Vector<T> master = weights.read_master(shared.run, item, count);
    if (shared.moves) {
      formula.step(shared.run, shared.rates, item, count, master, shared.gradient);
      weights.write_master(shared.run, item, count, master);
    }
    weights.write_working(shared.run, item, count, master);
  }

  FLATMIN_BOTH int last_items() const { return cut.segment_count; }

  FLATMIN_BOTH void last(int segment) const {
    const bool proceed = record->proceed != 0;
    if (segment == 0) (proceed ? record->taken : record->skipped) += 1;
    const bool present = blend.terms[0].table[segment].kind != FLATMIN_ABSENT;
    if (proceed && present && formula.counts(cut.segments[segment].group)) counts[segment] += 1;
  }
};

}  // namespace flatmin::FLATMIN_SIDE
