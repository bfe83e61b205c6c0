// The small ones around a step: tables of gradients, the factor of clipping, statistics that become real.
#include "kernels.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

constexpr int64_t kEntries = 128;

// Entries travel with the launch: no buffer of the host's has to outlive it, and a captured one keeps them.
struct WriteTable {
  flatmin_source* table;
  int count;
  flatmin_source entries[kEntries];

  struct Shared {
    int items;
  };
  FLATMIN_BOTH void prepare(int64_t, Shared& shared) const { shared.items = count; }
  FLATMIN_BOTH void item(const Shared&, int index) const { table[index] = entries[index]; }
};

struct Clip {
  const flatmin_step* step;
  double norm;
  double guard;
  int32_t groups;
  double* out;

  FLATMIN_BOTH void operator()() const {
    const double length = step->plain + guard;
    for (int32_t group = 0; group < groups; ++group) out[group] = length > norm ? norm / length : 1.0;
  }
};

template <class T>
struct Commit {
  static constexpr int64_t kLen = 1024;
  const flatmin_step* step;
  T* to;
  const T* from;
  int64_t len;

  struct Shared {
    int items;
    int64_t start;
  };

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    shared.start = block * kLen;
    const int64_t left = len - shared.start;
    shared.items = step->proceed == 0 ? 0 : static_cast<int>(left < kLen ? left : kLen);
  }

  FLATMIN_BOTH void item(const Shared& shared, int index) const { to[shared.start + index] = from[shared.start + index]; }
};

}  // namespace

int write_table(void* stream, flatmin_source* table, int64_t count, const flatmin_source* entries) {
  for (int64_t start = 0; start < count; start += kEntries) {
    WriteTable kernel;
    kernel.table = table + start;
    kernel.count = static_cast<int>(count - start < kEntries ? count - start : kEntries);
    for (int index = 0; index < kernel.count; ++index) kernel.entries[index] = entries[start + index];
    if (map(stream, 1, kernel) != 0) return 1;
  }
  return 0;
}

int clip(void* stream, const flatmin_step* step, double norm, double guard, int32_t groups, double* out) {
  return once(stream, Clip{step, norm, guard, groups, out});
}

int commit(void* stream, const flatmin_step* step, void* to, const void* from, int64_t len, int32_t number) {
  return with_stored(number, [&](auto stored) {
    using T = decltype(stored);
    const int64_t blocks = (len + Commit<T>::kLen - 1) / Commit<T>::kLen;
    return map(stream, blocks, Commit<T>{step, static_cast<T*>(to), static_cast<const T*>(from), len});
  });
}

}  // namespace flatmin::FLATMIN_SIDE
