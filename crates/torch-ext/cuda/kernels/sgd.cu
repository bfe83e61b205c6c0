// The descent write of stochastic gradient descent, with PyTorch's meaning of every option:
// d = g + weight_decay w; b = momentum b + (1 - dampening) d; w -= lr (nesterov ? d + momentum b : b).
#include "descent.h"
#include "kernels.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

template <class T>
struct SgdFormula {
  const flatmin_group* groups;
  T* momentum;
  bool decoupled;
  bool nesterov;

  struct Rates {
    T lr;
    T shrink;  // 1, or what decoupled decay leaves of a weight
    T decay;
    T keep;   // of the old momentum
    T enter;  // of the new d
    T momentum;
    bool has_momentum;
  };

  FLATMIN_BOTH bool counts(int group) const { return groups[group].momentum != 0; }

  FLATMIN_BOTH void rates(const Run& run, int64_t count, Rates& rates) const {
    const flatmin_group group = groups[run.group];
    rates.lr = static_cast<T>(group.lr);
    rates.shrink = decoupled ? static_cast<T>(1 - group.lr * group.weight_decay) : T(1);
    rates.decay = decoupled ? T(0) : static_cast<T>(group.weight_decay);
    rates.has_momentum = momentum != nullptr && group.momentum != 0;
    rates.momentum = static_cast<T>(group.momentum);
    // An unset momentum counts as zero, and the first d enters undamped.
    rates.keep = count == 0 ? T(0) : rates.momentum;
    rates.enter = count == 0 ? T(1) : static_cast<T>(1 - group.dampening);
  }

  FLATMIN_BOTH void step(const Run& run, const Rates& rates, int item, int count, Vector<T>& weights,
                         const Gradient<T>& source) const {
    T* place = momentum + run.global + static_cast<int64_t>(item) * kItem;
    Vector<T> buffer = rates.has_momentum ? load_pack<kItem>(place, count) : Vector<T>{};
    const Vector<T> gradient = read_gradient(source, item, count);
    for (int lane = 0; lane < kItem; ++lane) {
      const T w = weights.at[lane];
      const T d = gradient.at[lane] + rates.decay * w;
      T direction = d;
      if (rates.has_momentum) {
        const T next = rates.keep * buffer.at[lane] + rates.enter * d;
        buffer.at[lane] = next;
        direction = nesterov ? d + rates.momentum * next : next;
      }
      weights.at[lane] = rates.shrink * w - rates.lr * direction;
    }
    if (rates.has_momentum) store_pack(place, buffer, count);
  }
};

}  // namespace

int sgd(void* stream, const flatmin_cut* cut, const flatmin_arenas* arenas, const flatmin_blend* blend,
        const flatmin_sgd* sgd, const flatmin_scratch* scratch, flatmin_step* step) {
  return with_real(arenas->number, [&](auto number) {
    using T = decltype(number);
    const SgdFormula<T> formula{sgd->groups, static_cast<T*>(sgd->momentum), sgd->decoupled != 0, sgd->nesterov != 0};
    const Descent<T, SgdFormula<T>> kernel{*cut, Weights<T>(*arenas), *blend, sgd->counts, step, formula};
    return map_then(stream, cut->block_count, scratch->counter, kernel);
  });
}

}  // namespace flatmin::FLATMIN_SIDE
