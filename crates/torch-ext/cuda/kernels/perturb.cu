// The ascent write: working = from + eps, the master left as it is; back to the master if the step is skipped.
#include "displacement.h"
#include "kernels.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

template <class T, bool Power>
struct Perturb : Displacement<T, Power> {
  const flatmin_step* step;

  struct Shared : Displacement<T, Power>::Shared {
    T scaled;  // the coefficient, rounding made up for
    bool proceed;
  };

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    this->find(block, *step, shared);
    if (shared.items == 0) return;
    shared.scaled = static_cast<T>(shared.coefficient * (shared.run.half ? step->half_factor : 1.0));
    shared.proceed = step->proceed != 0;
  }

  FLATMIN_BOTH void item(const Shared& shared, int item) const {
    const int count = count_of(shared.run, item);
    Vector<T> master = this->weights.read_master(shared.run, item, count);
    if (!shared.proceed) return this->weights.write_working(shared.run, item, count, master);
    Vector<T> perturbed = this->origin(shared, item, count, master);
    const Vector<T> eps = this->read(shared, item, count, master, shared.scaled);
    for (int lane = 0; lane < kItem; ++lane) perturbed.at[lane] += eps.at[lane];
    this->weights.write_working(shared.run, item, count, perturbed);
    if (this->options.round_trip == 0) return;
    for (int lane = 0; lane < kItem; ++lane) master.at[lane] = (master.at[lane] + eps.at[lane]) - eps.at[lane];
    this->weights.write_master(shared.run, item, count, master);
  }
};

}  // namespace

int perturb(void* stream, const flatmin_cut* cut, const flatmin_arenas* arenas, const flatmin_blend* blend,
            const flatmin_displacement* displacement, const flatmin_step* step) {
  return with_real(arenas->number, [&](auto number) {
    using T = decltype(number);
    return with_shape(displacement->shape, [&](auto power) {
      const Perturb<T, power()> kernel{{*cut, Weights<T>(*arenas), *blend, *displacement}, step};
      return map(stream, cut->block_count, kernel);
    });
  });
}

}  // namespace flatmin::FLATMIN_SIDE
