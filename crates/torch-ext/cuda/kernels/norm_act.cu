// Training-time batch norm (+ addition) (+ ReLU) over channels-last activations, forward and backward: two passes over memory
// each, one that sums and one that writes.
#include <algorithm>
#include <initializer_list>

#include "columns.h"
#include "kernels.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

// The rows of `saved`.
template <class T>
struct Saved {
  T* mean;
  T* inverse;  // 1 / deviation
  T* scale;
  T* shift;

  Saved(void* saved, int channels)
      : mean(static_cast<T*>(saved)), inverse(mean + channels), scale(inverse + channels), shift(scale + channels) {}
};

// As numbers to compute with.
template <class Stored, int Width>
FLATMIN_BOTH Pack<Real<Stored>, Width> wide(const Pack<Stored, Width>& stored) {
  Pack<Real<Stored>, Width> pack;
  for (int index = 0; index < Width; ++index) pack.at[index] = load(stored.at[index]);
  return pack;
}

template <int Width, class Stored>
FLATMIN_BOTH Pack<Real<Stored>, Width> read(const Stored* from, int64_t start) {
  return wide(whole_pack<Width>(from + start));
}

template <int Width, class Stored>
FLATMIN_BOTH void write(Stored* to, int64_t start, const Pack<Real<Stored>, Width>& pack) {
  Pack<Stored, Width> stored;
  for (int index = 0; index < Width; ++index) stored.at[index] = store<Stored>(pack.at[index]);
  *reinterpret_cast<Pack<Stored, Width>*>(to + start) = stored;
}

// Sums of the differences from the first row and of their squares: a large mean does not swallow a small variance.
template <class Stored, int Width>
struct Moments {
  static constexpr int kWidth = Width, kBlocks = 4;
  using T = Real<Stored>;
  using Sums = PackSums<T, Width>;
  using Constants = Pack<T, Width>;
  using Loaded = Pack<Stored, Width>;
  const Stored* x;

  FLATMIN_BOTH Constants constants(int channel) const { return read<Width>(x, channel); }
  FLATMIN_BOTH Loaded load(int64_t start) const { return whole_pack<Width>(x + start); }

  FLATMIN_BOTH void add(const Constants& origin, const Loaded& loaded, Sums& sums) const {
    const auto values = wide(loaded);
    for (int index = 0; index < Width; ++index) {
      const T difference = values.at[index] - origin.at[index];
      sums.at[0].at[index] += difference;
      sums.at[1].at[index] += difference * difference;
    }
  }
};

template <class Stored>
struct FinishMoments {
  using T = Real<Stored>;
  flatmin_norm norm;
  Saved<T> saved;
  const Stored* x;

  FLATMIN_BOTH void operator()(int channel, double sum, double squares) const {
    const double count = static_cast<double>(norm.rows);
    const double offset = sum / count;
    const double mean = load(x[channel]) + offset;
    const double variance = std::fmax(squares / count - offset * offset, 0.0);
    const double inverse = 1 / std::sqrt(variance + norm.eps);
    const double scale = static_cast<const T*>(norm.gamma)[channel] * inverse;
    saved.mean[channel] = static_cast<T>(mean);
    saved.inverse[channel] = static_cast<T>(inverse);
    saved.scale[channel] = static_cast<T>(scale);
    saved.shift[channel] = static_cast<T>(static_cast<const T*>(norm.beta)[channel] - mean * scale);
    if (norm.running_mean == nullptr) return;
    blend(static_cast<T*>(norm.running_mean)[channel], mean);
    blend(static_cast<T*>(norm.running_variance)[channel], variance * (count / (count - 1)));
  }

  FLATMIN_BOTH void blend(T& running, double batch) const {
    running = static_cast<T>((1 - norm.momentum) * running + norm.momentum * batch);
  }
};

// A pass that writes: packs of all elements in order, many to a block.
template <int Width>
struct Elements {
  static constexpr int kPacks = 4 * kThreads;
  int64_t len;
  int channels;

  struct Shared {
    int items;
    int channel;  // of the block's first element
    int64_t start;
  };

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    shared.start = block * kPacks * Width;
    const int64_t packs = (len - shared.start + Width - 1) / Width;
    shared.items = static_cast<int>(packs < kPacks ? packs : kPacks);
    shared.channel = static_cast<int>(shared.start % channels);
  }

  FLATMIN_BOTH int channel(const Shared& shared, int item) const { return (shared.channel + item * Width) % channels; }
  int64_t blocks() const { return (len + int64_t(kPacks) * Width - 1) / (int64_t(kPacks) * Width); }
};

// y = act(scale x + shift + residual).
template <class Stored, int Width>
struct Apply : Elements<Width> {
  using T = Real<Stored>;
  using Shared = typename Elements<Width>::Shared;
  Saved<T> saved;
  const Stored* x;
  const Stored* residual;
  Stored* y;
  bool relu;

  FLATMIN_BOTH void item(const Shared& shared, int item) const {
    const int64_t start = shared.start + static_cast<int64_t>(item) * Width;
    const int channel = this->channel(shared, item);
    auto values = read<Width>(x, start);
    const auto scale = whole_pack<Width>(saved.scale + channel);
    const auto shift = whole_pack<Width>(saved.shift + channel);
    for (int index = 0; index < Width; ++index) values.at[index] = values.at[index] * scale.at[index] + shift.at[index];
    if (residual != nullptr) {
      const auto added = read<Width>(residual, start);
      for (int index = 0; index < Width; ++index) values.at[index] += added.at[index];
    }
    if (relu) {
      for (int index = 0; index < Width; ++index) values.at[index] = pass(values.at[index], values.at[index]);
    }
    write<Width>(y, start, values);
  }
};

// What backward passes read of an element, and the gradient that passed the ReLU: where y is above 0 or, without y, where
// scale x + shift is.
template <class Stored, int Width>
struct Gate {
  using T = Real<Stored>;
  const Stored* x;
  const Stored* dy;
  const Stored* y;
  bool relu;

  struct Loaded {
    Pack<Stored, Width> x, dy, y;
  };

  FLATMIN_BOTH Loaded load(int64_t start) const {
    Loaded loaded;
    loaded.x = whole_pack<Width>(x + start);
    loaded.dy = whole_pack<Width>(dy + start);
    loaded.y = y != nullptr ? whole_pack<Width>(y + start) : Pack<Stored, Width>{};
    return loaded;
  }

  FLATMIN_BOTH Pack<T, Width> gradient(const Loaded& loaded, const Pack<T, Width>& scale, const Pack<T, Width>& shift) const {
    auto gradient = wide(loaded.dy);
    if (!relu) return gradient;
    const auto x = wide(loaded.x), output = wide(loaded.y);
    for (int index = 0; index < Width; ++index) {
      const T gate = y != nullptr ? output.at[index] : x.at[index] * scale.at[index] + shift.at[index];
      gradient.at[index] = pass(gate, gradient.at[index]);
    }
    return gradient;
  }
};

// Sums of dy and of dy (x - mean).
template <class Stored, int Width>
struct GradientSums {
  static constexpr int kWidth = Width, kBlocks = 2;
  using T = Real<Stored>;
  using Sums = PackSums<T, Width>;
  using Loaded = typename Gate<Stored, Width>::Loaded;
  Gate<Stored, Width> gate;
  Saved<T> saved;

  struct Constants {
    Pack<T, Width> mean, scale, shift;
  };

  FLATMIN_BOTH Constants constants(int channel) const {
    return {whole_pack<Width>(saved.mean + channel), whole_pack<Width>(saved.scale + channel),
            whole_pack<Width>(saved.shift + channel)};
  }

  FLATMIN_BOTH Loaded load(int64_t start) const { return gate.load(start); }

  FLATMIN_BOTH void add(const Constants& constants, const Loaded& loaded, Sums& sums) const {
    const auto x = wide(loaded.x), gradient = gate.gradient(loaded, constants.scale, constants.shift);
    for (int index = 0; index < Width; ++index) {
      sums.at[0].at[index] += gradient.at[index];
      sums.at[1].at[index] += gradient.at[index] * (x.at[index] - constants.mean.at[index]);
    }
  }
};

// dx = a dy + b x + c, dgamma, dbeta.
template <class T>
struct FinishGradient {
  Saved<T> saved;
  T* dgamma;
  T* dbeta;
  T* coefficients;
  int64_t rows;
  int channels;

  FLATMIN_BOTH void operator()(int channel, double through, double along) const {
    const double count = static_cast<double>(rows);
    const double inverse = saved.inverse[channel], scale = saved.scale[channel];
    const double b = -scale * inverse * inverse * along / count;
    dbeta[channel] = static_cast<T>(through);
    dgamma[channel] = static_cast<T>(along * inverse);
    coefficients[channel] = static_cast<T>(scale);
    coefficients[channels + channel] = static_cast<T>(b);
    coefficients[2 * channels + channel] = static_cast<T>(-scale * through / count - b * saved.mean[channel]);
  }
};

template <class Stored, int Width>
struct InputGradient : Elements<Width> {
  using T = Real<Stored>;
  using Shared = typename Elements<Width>::Shared;
  Saved<T> saved;
  Gate<Stored, Width> gate;
  const T* coefficients;
  Stored* dx;
  Stored* residual;

  FLATMIN_BOTH void item(const Shared& shared, int item) const {
    const int64_t start = shared.start + static_cast<int64_t>(item) * Width;
    const int channel = this->channel(shared, item);
    const auto loaded = gate.load(start);
    const auto scale = whole_pack<Width>(saved.scale + channel);
    const auto shift = whole_pack<Width>(saved.shift + channel);
    const auto gradient = gate.gradient(loaded, scale, shift);
    if (residual != nullptr) write<Width>(residual, start, gradient);
    const auto a = whole_pack<Width>(coefficients + channel);
    const auto b = whole_pack<Width>(coefficients + this->channels + channel);
    const auto c = whole_pack<Width>(coefficients + 2 * this->channels + channel);
    auto values = wide(loaded.x);
    for (int index = 0; index < Width; ++index) {
      values.at[index] = a.at[index] * gradient.at[index] + b.at[index] * values.at[index] + c.at[index];
    }
    write<Width>(dx, start, values);
  }
};

// Calls `body` with the numbers that are moved at once: as many of `Widest`, 16 bytes, as make up rows, one where not all memory
// is aligned for it. So no load needs to ask.
template <int Widest, class Body>
int with_width(int channels, std::initializer_list<const void*> memory, Body&& body) {
  if constexpr (Widest > 1) {
    const auto aligned = [](const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; };
    if (channels % Widest != 0 || !std::all_of(memory.begin(), memory.end(), aligned)) {
      return with_width<Widest / 2>(channels, memory, body);
    }
  }
  return body(std::integral_constant<int, Widest>());
}

template <class Stored>
constexpr int kWidest = 16 / sizeof(Stored);

template <class Stored, int Width>
int forward(void* stream, const flatmin_norm& norm, const void* input, const void* added, void* output,
            const flatmin_scratch& scratch) {
  using T = Real<Stored>;
  const Grid grid(norm.rows, norm.channels, Width);
  const Saved<T> saved(norm.saved, norm.channels);
  const Stored* x = static_cast<const Stored*>(input);
  const Stored* residual = static_cast<const Stored*>(added);
  const FinishMoments<Stored> finish{norm, saved, x};
  if (sum_rows(stream, grid, Moments<Stored, Width>{x}, finish, scratch) != 0) return 1;
  const Elements<Width> elements{norm.rows * norm.channels, norm.channels};
  const Apply<Stored, Width> apply{elements, saved, x, residual, static_cast<Stored*>(output), norm.relu != 0};
  return map(stream, elements.blocks(), apply);
}

template <class Stored, int Width>
int backward(void* stream, const flatmin_norm_backward& norm, const flatmin_scratch& scratch) {
  using T = Real<Stored>;
  const Grid grid(norm.rows, norm.channels, Width);
  const Saved<T> saved(const_cast<void*>(norm.saved), norm.channels);
  const Gate<Stored, Width> gate{static_cast<const Stored*>(norm.x), static_cast<const Stored*>(norm.dy),
                                 static_cast<const Stored*>(norm.y), norm.relu != 0};
  T* coefficients = static_cast<T*>(norm.coefficients);
  const FinishGradient<T> finish{saved,        static_cast<T*>(norm.dgamma), static_cast<T*>(norm.dbeta),
                                 coefficients, norm.rows,                    norm.channels};
  if (sum_rows(stream, grid, GradientSums<Stored, Width>{gate, saved}, finish, scratch) != 0) return 1;
  const Elements<Width> elements{norm.rows * norm.channels, norm.channels};
  const InputGradient<Stored, Width> write{elements,     saved, gate, coefficients, static_cast<Stored*>(norm.dx),
                                           static_cast<Stored*>(norm.residual)};
  return map(stream, elements.blocks(), write);
}

}  // namespace

int64_t norm_scratch(int64_t rows, int64_t channels) {
  int64_t most = 0;
  for (const int width : {1, 2, 4, 8}) {
    if (channels % width != 0) continue;
    const int64_t scratch = Grid(rows, static_cast<int>(channels), width).scratch();
    most = scratch > most ? scratch : most;
  }
  return most;
}

int norm_forward(void* stream, const flatmin_norm* norm, const void* x, const void* residual, void* y,
                 const flatmin_scratch* scratch) {
  if (norm->rows < 2) return fail("batch norm needs more than one value per channel to train");
  return with_stored(norm->number, [&](auto stored) {
    using Stored = decltype(stored);
    return with_width<kWidest<Stored>>(norm->channels, {x, residual, y, norm->saved}, [&](auto width) {
      return forward<Stored, width()>(stream, *norm, x, residual, y, *scratch);
    });
  });
}

int norm_backward(void* stream, const flatmin_norm_backward* norm, const flatmin_scratch* scratch) {
  return with_stored(norm->number, [&](auto stored) {
    using Stored = decltype(stored);
    const auto start = [&](auto width) { return backward<Stored, width()>(stream, *norm, *scratch); };
    return with_width<kWidest<Stored>>(
        norm->channels, {norm->x, norm->dy, norm->y, norm->saved, norm->dx, norm->residual, norm->coefficients}, start);
  });
}

}  // namespace flatmin::FLATMIN_SIDE
