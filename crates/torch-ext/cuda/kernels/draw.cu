// What the random layers of a network draw: each number a function of seed, stream and place, so that the passes of a step can
// share their masks and a captured step draws anew at each replay. The CPU's are crates/torch-ext/src/draw.rs.
#include "kernels.h"
#include "random.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

template <class Stored>
struct Draw {
  static constexpr int64_t kLen = 4096;
  flatmin_draw draw;

  struct Shared {
    int items;
    int64_t start;
    uint64_t seed;
    Stored kept;  // of a mask
  };

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    shared.start = block * kLen;
    const int64_t left = draw.len - shared.start;
    shared.items = static_cast<int>(left < kLen ? left : kLen);
    shared.seed = split_mix(draw.seed != nullptr ? *draw.seed : draw.value, draw.stream);
    shared.kept = store<Stored>(static_cast<Real<Stored>>(1 / draw.keep));
  }

  FLATMIN_BOTH void item(const Shared& shared, int index) const {
    const int64_t place = shared.start + index;
    const double number = uniform(shared.seed, static_cast<uint64_t>(place));
    const double value = draw.low + (draw.high - draw.low) * number;
    const Stored drawn = store<Stored>(static_cast<Real<Stored>>(value));
    static_cast<Stored*>(draw.out)[place] = draw.keep == 0 ? drawn : number < draw.keep ? shared.kept : Stored{};
  }
};

}  // namespace

int draw(void* stream, const flatmin_draw* options) {
  return with_stored(options->number, [&](auto stored) {
    using Kernel = Draw<decltype(stored)>;
    return map(stream, (options->len + Kernel::kLen - 1) / Kernel::kLen, Kernel{*options});
  });
}

}  // namespace flatmin::FLATMIN_SIDE
