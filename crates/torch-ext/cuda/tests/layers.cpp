// Layers and input: batch norm, cross-entropy, random layers, augmentation.
#include "numbers.h"

namespace flatmin::test {
namespace {

struct NormOptions {
  bool residual = false;
  bool relu = true;
  bool running = true;
  size_t shift = 0;  // elements that activations begin behind an aligned address
};

template <class Stored>
Results batch_norm(Side& side, int64_t rows, int32_t channels, const NormOptions& options) {
  using Wide = typename Format<Stored>::Wide;
  constexpr int32_t number = Format<Stored>::kNumber;
  const size_t len = static_cast<size_t>(rows * channels), width = static_cast<size_t>(channels), shift = options.shift;
  const auto input = [&](uint64_t seed) { return side.copy(numbers<Stored>(len + shift, seed)) + shift; };
  const auto output = [&] { return side.room<Stored>(len + shift) + shift; };
  const Stored *x = input(1), *dy = input(3), *residual = options.residual ? input(2) : nullptr;
  // Where the ReLU passes a gradient is read from y only if a residual hides it from x.
  const bool gated = options.residual && options.relu;
  Stored *y = output(), *dx = output(), *passed = gated ? output() : nullptr;
  Wide* mean = options.running ? side.zeros<Wide>(width) : nullptr;
  Wide* variance = options.running ? side.zeros<Wide>(width) : nullptr;
  Wide* saved = side.room<Wide>(4 * width);
  Wide* parameters = side.room<Wide>(2 * width);
  Wide* coefficients = side.room<Wide>(3 * width);
  const flatmin_scratch scratch = side.scratch(side->norm_scratch(rows, channels), channels);
  const flatmin_norm norm{side.copy(numbers<Wide>(width, 4)), side.copy(numbers<Wide>(width, 5)), mean, variance, saved, 0.1,
                          1e-5, rows, channels, number, options.relu};
  side.check(side->norm_forward(side.stream(), &norm, x, residual, y, &scratch));
  const flatmin_norm_backward backward{x, dy, gated ? y : nullptr, saved, dx, passed, parameters, parameters + width,
                                       coefficients, rows, channels, number, options.relu};
  side.check(side->norm_backward(side.stream(), &backward, &scratch));
  Results results;
  append(results, side, y, len);
  append(results, side, dx, len);
  if (passed != nullptr) append(results, side, passed, len);
  if (options.running) append(results, side, mean, width);
  if (options.running) append(results, side, variance, width);
  append(results, side, saved, 4 * width);
  append(results, side, parameters, 2 * width);
  return results;
}

// `unknown`: one label is no class.
template <class Stored>
Results cross_entropy(Side& side, int64_t rows, int32_t classes, bool counted, bool unknown = false) {
  using Wide = typename Format<Stored>::Wide;
  const size_t len = static_cast<size_t>(rows * classes), height = static_cast<size_t>(rows);
  std::vector<int64_t> labels(height);
  for (int64_t row = 0; row < rows; ++row) labels[static_cast<size_t>(row)] = row * 7 % classes;
  if (unknown) labels[1] = classes;
  Wide* loss = side.room<Wide>(1);
  Wide* log_sum = side.room<Wide>(height);
  int64_t* correct = counted ? side.room<int64_t>(1) : nullptr;
  const flatmin_cross_entropy entropy{side.copy(numbers<Stored>(len, 1)), side.copy(labels), loss, log_sum, correct, 0.1, rows,
                                      classes, Format<Stored>::kNumber};
  const flatmin_scratch scratch = side.scratch(side->cross_entropy_scratch(rows));
  const Wide* dloss = side.copy(std::vector<Wide>{3});
  Stored* dlogits = side.room<Stored>(len);
  side.check(side->cross_entropy(side.stream(), &entropy, &scratch));
  side.check(side->cross_entropy_backward(side.stream(), &entropy, dloss, dlogits));
  Results results;
  append(results, side, loss, 1);
  append(results, side, log_sum, height);
  if (counted) append(results, side, correct, 1);
  append(results, side, dlogits, len);
  return results;
}

template <class Stored>
Results draw(Side& side) {
  constexpr int64_t len = 100003;
  constexpr size_t count = static_cast<size_t>(len);
  constexpr int32_t number = Format<Stored>::kNumber;
  const uint64_t* seed = side.copy(std::vector<uint64_t>{11});
  Stored* uniform = side.room<Stored>(count);
  Stored* mask = side.room<Stored>(count);
  const flatmin_draw uniforms{nullptr, 7, 3, -1, 2, 0, uniform, len, number};
  const flatmin_draw masks{seed, 0, 4, 0, 0, 0.7, mask, len, number};
  side.check(side->draw(side.stream(), &uniforms));
  side.check(side->draw(side.stream(), &masks));
  Results results;
  append(results, side, uniform, count);
  append(results, side, mask, count);
  return results;
}

template <class Stored>
Results augment(Side& side) {
  constexpr int32_t count = 300, batch = 128, edge = 32, channels = 3;
  constexpr size_t pixels = static_cast<size_t>(edge) * edge * channels;
  std::vector<uint8_t> bytes(count * pixels);
  for (size_t index = 0; index < bytes.size(); ++index) bytes[index] = static_cast<uint8_t>(index * 37 % 251);
  std::vector<int64_t> labels(count);
  std::vector<int32_t> order(count);
  for (int32_t index = 0; index < count; ++index) {
    labels[static_cast<size_t>(index)] = index % 10;
    order[static_cast<size_t>(index)] = index * 7 % count;
  }
  const flatmin_images images{side.copy(bytes),       side.copy(labels), count, {0.01f, 0.02f, 0.04f},
                              {-0.5f, -1.0f, 0.25f}, edge,              edge,  channels};
  flatmin_feed* feed = side.copy(std::vector<flatmin_feed>{{3, 0}});
  Stored* out = side.room<Stored>(batch * pixels);
  int64_t* classes = side.room<int64_t>(batch);
  const flatmin_scratch scratch = side.scratch(1);
  const flatmin_augment options{side.copy(order), count, feed, out, classes, 7, batch, Format<Stored>::kNumber, 4, 1, 16, 1};
  Results results;
  // The last batch runs past the end.
  for (int repeat = 0; repeat < 3; ++repeat) {
    side.check(side->augment(side.stream(), &images, &options, &scratch));
    append(results, side, out, batch * pixels);
    append(results, side, classes, batch);
  }
  results.push_back(static_cast<double>(side.read(feed, 1)[0].next));
  return results;
}

constexpr NormOptions kAlone{}, kResidual{.residual = true}, kLinear{.residual = true, .relu = false},
    kUntracked{.relu = false, .running = false}, kUnaligned{.residual = true, .shift = 1};

}  // namespace

std::vector<Case> layer_cases() {
  using BFloat16 = uint16_t;
  return {
      {"batch norm, float32", [](Side& side) { return batch_norm<float>(side, 5000, 20, kResidual); }, 0},
      {"batch norm, float64", [](Side& side) { return batch_norm<double>(side, 3000, 6, kAlone); }, 0},
      {"batch norm, bfloat16", [](Side& side) { return batch_norm<BFloat16>(side, 9000, 64, kAlone); }, 0},
      {"batch norm, residual", [](Side& side) { return batch_norm<BFloat16>(side, 9000, 64, kResidual); }, 0},
      {"batch norm, no ReLU", [](Side& side) { return batch_norm<BFloat16>(side, 900, 64, kLinear); }, 0},
      {"batch norm, no statistics", [](Side& side) { return batch_norm<BFloat16>(side, 900, 64, kUntracked); }, 0},
      {"batch norm, two tiles", [](Side& side) { return batch_norm<BFloat16>(side, 2000, 512, kResidual); }, 0},
      {"batch norm, 12 channels", [](Side& side) { return batch_norm<BFloat16>(side, 700, 12, kAlone); }, 0},
      {"batch norm, 10 channels", [](Side& side) { return batch_norm<BFloat16>(side, 700, 10, kAlone); }, 0},
      {"batch norm, 5 channels", [](Side& side) { return batch_norm<BFloat16>(side, 700, 5, kAlone); }, 0},
      {"batch norm, unaligned", [](Side& side) { return batch_norm<BFloat16>(side, 700, 64, kUnaligned); }, 0},
      {"cross-entropy, 10", [](Side& side) { return cross_entropy<float>(side, 300, 10, true); }, kFunctions},
      {"cross-entropy, 1000", [](Side& side) { return cross_entropy<float>(side, 65, 1000, false); }, kFunctions},
      {"cross-entropy, float64", [](Side& side) { return cross_entropy<double>(side, 65, 100, true); }, kFunctions},
      {"cross-entropy, bfloat16", [](Side& side) { return cross_entropy<BFloat16>(side, 65, 100, true); }, kRounded},
      {"cross-entropy, no class", [](Side& side) { return cross_entropy<float>(side, 65, 10, true, true); }, kFunctions},
      {"random layers, float32", draw<float>, 0},
      {"random layers, float64", draw<double>, 0},
      {"random layers, bfloat16", draw<BFloat16>, 0},
      {"augmentation, float32", augment<float>, 0},
      {"augmentation, bfloat16", augment<BFloat16>, 0},
  };
}

}  // namespace flatmin::test
