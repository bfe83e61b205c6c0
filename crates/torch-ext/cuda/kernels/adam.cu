// The descent write of Adam (Kingma and Ba 2015, algorithm 1) and AdamW (Loshchilov and Hutter 2019, algorithm 2).
#include "descent.h"
#include "kernels.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

template <class T>
struct AdamFormula {
  const flatmin_group* groups;
  T* first_moment;
  T* second_moment;
  bool decoupled;

  // The numbers of one update, bias corrections worked in.
  struct Rates {
    T shrink;
    T decay;
    T enter1;
    T keep2;
    T enter2;
    T size;
    T correction;
    T eps;
  };

  FLATMIN_BOTH bool counts(int) const { return true; }

  FLATMIN_BOTH void rates(const Run& run, int64_t count, Rates& rates) const {
    const flatmin_group group = groups[run.group];
    const double exponent = static_cast<double>(count + 1);
    const double correction1 = 1 - std::pow(group.beta1, exponent);
    const double correction2 = 1 - std::pow(group.beta2, exponent);
    rates.shrink = decoupled ? static_cast<T>(1 - group.lr * group.weight_decay) : T(1);
    rates.decay = decoupled ? T(0) : static_cast<T>(group.weight_decay);
    rates.enter1 = static_cast<T>(1 - group.beta1);
    rates.keep2 = static_cast<T>(group.beta2);
    rates.enter2 = static_cast<T>(1 - group.beta2);
    rates.size = static_cast<T>(group.lr / correction1);
    rates.correction = static_cast<T>(std::sqrt(correction2));
    rates.eps = static_cast<T>(group.eps);
  }

  FLATMIN_BOTH void step(const Run& run, const Rates& rates, int item, int count, Vector<T>& weights,
                         const Gradient<T>& source) const {
    const int64_t start = run.global + static_cast<int64_t>(item) * kItem;
    Vector<T> first = load_pack<kItem>(first_moment + start, count);
    Vector<T> second = load_pack<kItem>(second_moment + start, count);
    const Vector<T> gradient = read_gradient(source, item, count);
    for (int lane = 0; lane < kItem; ++lane) {
      const T w = weights.at[lane];
      const T d = gradient.at[lane] + rates.decay * w;
      T& m = first.at[lane];
      T& v = second.at[lane];
      m += rates.enter1 * (d - m);
      v = rates.keep2 * v + rates.enter2 * d * d;
      weights.at[lane] = w * rates.shrink - rates.size * m / (std::sqrt(v) / rates.correction + rates.eps);
    }
    store_pack(first_moment + start, first, count);
    store_pack(second_moment + start, second, count);
  }
};

}  // namespace

int adam(void* stream, const flatmin_cut* cut, const flatmin_arenas* arenas, const flatmin_blend* blend,
         const flatmin_adam* adam, const flatmin_scratch* scratch, flatmin_step* step) {
  return with_real(arenas->number, [&](auto number) {
    using T = decltype(number);
    const AdamFormula<T> formula{adam->groups, static_cast<T*>(adam->first_moment),
                                 static_cast<T*>(adam->second_moment), adam->decoupled != 0};
    const Descent<T, AdamFormula<T>> kernel{*cut, Weights<T>(*arenas), *blend, adam->counts, step, formula};
    return map_then(stream, cut->block_count, scratch->counter, kernel);
  });
}

}  // namespace flatmin::FLATMIN_SIDE
