// What variants need beside a norm pass and a write pass: inner products, sums kept in an arena, weights moved along a
// combination or taken back to the master.
#include "arena.h"
#include "kernels.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

template <class T>
struct Restore {
  flatmin_cut cut;
  Weights<T> weights;

  struct Shared {
    int items;
    Run run;
  };

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    shared.run = run_of(cut, block);
    shared.items = items_of(shared.run);
  }

  FLATMIN_BOTH void item(const Shared& shared, int item) const {
    const int count = count_of(shared.run, item);
    weights.write_working(shared.run, item, count, weights.read_master(shared.run, item, count));
  }
};

template <class T>
struct WithGradient {
  flatmin_cut cut;
  Weights<T> weights;
  flatmin_blend blend;

  struct Shared {
    int items;
    Run run;
    Gradient<T> gradient;
  };

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    shared.run = run_of(cut, block);
    shared.items = items_of(shared.run);
    find_gradient(blend, shared.run, shared.gradient);
  }
};

template <class T>
struct Assign : WithGradient<T> {
  using typename WithGradient<T>::Shared;
  T* arena;

  FLATMIN_BOTH void item(const Shared& shared, int item) const {
    if (!shared.gradient.present) return;
    const int count = count_of(shared.run, item);
    const Vector<T> values = read_gradient(shared.gradient, item, count);
    store_pack(arena + shared.run.global + static_cast<int64_t>(item) * kItem, values, count);
  }
};

template <class T>
struct Translate : WithGradient<T> {
  using typename WithGradient<T>::Shared;

  FLATMIN_BOTH void item(const Shared& shared, int item) const {
    const int count = count_of(shared.run, item);
    Vector<T> master = this->weights.read_master(shared.run, item, count);
    if (shared.gradient.present) {
      const Vector<T> move = read_gradient(shared.gradient, item, count);
      for (int lane = 0; lane < kItem; ++lane) master.at[lane] += move.at[lane];
      this->weights.write_master(shared.run, item, count, master);
    }
    this->weights.write_working(shared.run, item, count, master);
  }
};

template <class T>
struct Products {
  flatmin_cut cut;
  flatmin_blend a;
  flatmin_blend b;
  double* out;

  struct Shared {
    int items;
    Run run;
    Gradient<T> a;
    Gradient<T> b;
  };
  using Sum = Sums<3>;

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    shared.run = run_of(cut, block);
    find_gradient(a, shared.run, shared.a);
    find_gradient(b, shared.run, shared.b);
    shared.items = shared.a.present && shared.b.present ? items_of(shared.run) : 0;
  }

  FLATMIN_BOTH Sum item(const Shared& shared, int item) const {
    const int count = count_of(shared.run, item);
    const Vector<T> a = read_gradient(shared.a, item, count), b = read_gradient(shared.b, item, count);
    Sum sum = Sum::zero();
    for (int lane = 0; lane < kItem; ++lane) {
      const double x = a.at[lane], y = b.at[lane];
      sum.at[0] += x * x;
      sum.at[1] += x * y;
      sum.at[2] += y * y;
    }
    return sum;
  }

  FLATMIN_BOTH void finish(const Sum& sum) const {
    for (int index = 0; index < 3; ++index) out[index] = sum.at[index];
  }
};

}  // namespace

int restore(void* stream, const flatmin_cut* cut, const flatmin_arenas* arenas) {
  return with_real(arenas->number, [&](auto number) {
    using T = decltype(number);
    return map(stream, cut->block_count, Restore<T>{*cut, Weights<T>(*arenas)});
  });
}

int assign(void* stream, const flatmin_cut* cut, const flatmin_arenas* arenas, const flatmin_blend* blend, void* arena) {
  return with_real(arenas->number, [&](auto number) {
    using T = decltype(number);
    const Assign<T> kernel{{*cut, Weights<T>(*arenas), *blend}, static_cast<T*>(arena)};
    return map(stream, cut->block_count, kernel);
  });
}

int translate(void* stream, const flatmin_cut* cut, const flatmin_arenas* arenas, const flatmin_blend* blend) {
  return with_real(arenas->number, [&](auto number) {
    using T = decltype(number);
    return map(stream, cut->block_count, Translate<T>{{*cut, Weights<T>(*arenas), *blend}});
  });
}

int products(void* stream, const flatmin_cut* cut, const flatmin_arenas* arenas, const flatmin_blend* a,
             const flatmin_blend* b, const flatmin_scratch* scratch, double* out) {
  return with_real(arenas->number, [&](auto number) {
    return sum(stream, cut->block_count, *scratch, Products<decltype(number)>{*cut, *a, *b, out});
  });
}

}  // namespace flatmin::FLATMIN_SIDE
