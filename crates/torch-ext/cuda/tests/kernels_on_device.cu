// Runs every kernel on the GPU and on the CPU (its twin) with the same random input and prints how far they are apart. For a
// machine with a GPU; made for compute-sanitizer, so it needs nothing but the CUDA runtime.
//
// Sums have one order on both sides and no product is fused with a sum, so that everything but pow, exp and log is equal bit for
// bit; those differ by a few units in the last place.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "../flatmin_cuda.h"

namespace {

// Memory that both sides can read and write.
class Memory {
 public:
  explicit Memory(bool on_device) : on_device_(on_device) {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  ~Memory() {
    for (void* block : blocks_) on_device_ ? static_cast<void>(cudaFree(block)) : std::free(block);
  }

  template <class T>
  T* zeros(size_t count) {
    void* block = nullptr;
    const size_t bytes = count * sizeof(T) + 64;
    if (on_device_) {
      if (cudaMallocManaged(&block, bytes) != cudaSuccess) throw std::bad_alloc();
    } else {
      block = std::malloc(bytes);
    }
    std::memset(block, 0, bytes);
    blocks_.push_back(block);
    return static_cast<T*>(block);
  }

  template <class T>
  T* copy(const std::vector<T>& values) {
    T* block = zeros<T>(values.size());
    std::memcpy(block, values.data(), values.size() * sizeof(T));
    return block;
  }

 private:
  bool on_device_;
  std::vector<void*> blocks_;
};

double uniform(uint64_t seed, uint64_t index) {
  uint64_t bits = seed + (index + 1) * 0x9E3779B97F4A7C15ull;
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ull;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBull;
  bits ^= bits >> 31;
  return 2.0 * static_cast<double>(bits >> 11) / static_cast<double>(1ull << 53) - 1;
}

std::vector<float> floats(size_t count, uint64_t seed) {
  std::vector<float> values(count);
  for (size_t index = 0; index < count; ++index) values[index] = static_cast<float>(uniform(seed, index));
  return values;
}

// float32 cut off to bfloat16.
std::vector<uint16_t> halves(size_t count, uint64_t seed) {
  std::vector<uint16_t> values(count);
  for (size_t index = 0; index < count; ++index) {
    const float value = static_cast<float>(uniform(seed, index));
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    values[index] = static_cast<uint16_t>(bits >> 16);
  }
  return values;
}

double widened(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
double widened(float value) { return value; }
double widened(double value) { return value; }
double widened(int64_t value) { return static_cast<double>(value); }

using Results = std::vector<double>;

template <class T>
void append(Results& results, const T* values, size_t count) {
  for (size_t index = 0; index < count; ++index) results.push_back(widened(values[index]));
}

// One side: its kernels and its memory.
struct Side {
  const flatmin_kernels& kernels;
  Memory& memory;

  void check(int status) const {
    if (status != 0) {
      std::fprintf(stderr, "a launch failed: %s\n", kernels.last_error());
      std::exit(1);
    }
  }

  flatmin_scratch scratch(int64_t doubles) const {
    return {memory.zeros<double>(static_cast<size_t>(doubles)), memory.zeros<uint32_t>(1)};
  }
};

// A small model: every geometry, a segment that is not perturbed, one without a gradient.
struct Model {
  std::vector<flatmin_segment> segments;
  std::vector<flatmin_block> blocks;
  int64_t len = 0;
  int64_t filters = 0;
  flatmin_cut cut{};
  flatmin_arenas arenas{};
  flatmin_blend blend{};
  flatmin_scratch scratch{};
  flatmin_step* step;
  flatmin_group* groups;
  float* scales;
  double* coefficients;

  explicit Model(const Side& side) {
    const struct {
      int64_t len, filter;
      int32_t geometry;
    } forms[] = {{200003, 0, FLATMIN_ELEMENT}, {27 * 161, 27, FLATMIN_FILTER}, {4608 * 3, 4608, FLATMIN_FILTER},
                 {70, 0, FLATMIN_PLAIN},       {5000, 0, FLATMIN_ELEMENT},     {33, 0, FLATMIN_ELEMENT}};
    for (int32_t index = 0; index < 6; ++index) {
      const auto& form = forms[index];
      segments.push_back({len, form.len, form.filter, filters, form.geometry, index == 2, index != 5, form.len > 100});
      const int64_t most = side.kernels.block_len;
      const int64_t block = form.filter == 0 ? most : std::max<int64_t>(1, most / form.filter) * form.filter;
      for (int64_t start = 0; start < form.len; start += block) {
        blocks.push_back({start, static_cast<int32_t>(std::min(block, form.len - start)), index});
      }
      filters += form.filter == 0 ? 0 : form.len / form.filter;
      len = (len + form.len + 31) / 32 * 32;
    }
    Memory& memory = side.memory;
    cut = {memory.copy(segments), memory.copy(blocks), 6, static_cast<int32_t>(blocks.size())};
    const auto weights = floats(static_cast<size_t>(len), 1);
    arenas = {memory.copy(weights), memory.copy(weights), memory.copy(halves(static_cast<size_t>(len), 1)),
              FLATMIN_FLOAT32};
    flatmin_source* table = memory.zeros<flatmin_source>(6);
    std::vector<flatmin_source> entries(6);
    for (size_t index = 0; index < 6; ++index) {
      const size_t count = static_cast<size_t>(segments[index].len);
      if (index == 4) continue;
      if (segments[index].half) {
        entries[index] = {memory.copy(halves(count, 10 + index)), FLATMIN_HALF};
      } else {
        entries[index] = {memory.copy(floats(count, 10 + index)), FLATMIN_FULL};
      }
    }
    side.check(side.kernels.write_table(nullptr, table, 6, entries.data()));
    blend.terms[0] = {table, nullptr, 1.0};
    blend.count = 1;
    scratch = side.scratch(side.kernels.arena_scratch(cut.block_count));
    step = memory.zeros<flatmin_step>(1);
    step->proceed = step->half_factor = 1;
    groups = memory.copy(std::vector<flatmin_group>{{0.5, 0.1, 0.9, 0.1, 0.01, 0.9, 0.99, 1e-8},
                                                    {0.2, 0.03, 0.9, 0.1, 0.01, 0.9, 0.99, 1e-8}});
    scales = memory.zeros<float>(static_cast<size_t>(filters));
    coefficients = memory.zeros<double>(2);
  }

  void norms(const Side& side, int32_t pass, double p) const {
    const flatmin_ball ball{groups, coefficients, p, 1e-16, 2};
    side.check(side.kernels.norms(nullptr, &cut, &arenas, &blend, 0.01, scales, &scratch, step, pass, &ball));
    if (p == 2 || std::isinf(p)) return;
    side.check(side.kernels.dual_norm(nullptr, &cut, &arenas, &blend, 0.01, scales, &scratch, step, &ball));
  }

  flatmin_displacement displacement(int32_t shape) const {
    flatmin_displacement displacement{};
    displacement.coefficients = coefficients;
    displacement.filter_scales = scales;
    displacement.eta = 0.01;
    displacement.exponent = 2;
    displacement.keep = 1;
    displacement.shape = shape;
    return displacement;
  }

  Results results() const {
    if (cudaDeviceSynchronize() != cudaSuccess) {
      std::fprintf(stderr, "a kernel failed: %s\n", cudaGetErrorString(cudaGetLastError()));
      std::exit(1);
    }
    Results results;
    append(results, static_cast<const float*>(arenas.master), static_cast<size_t>(len));
    append(results, static_cast<const float*>(arenas.working), static_cast<size_t>(len));
    append(results, arenas.working_half, static_cast<size_t>(len));
    append(results, scales, static_cast<size_t>(filters));
    append(results, coefficients, 2);
    append(results, reinterpret_cast<const double*>(step), sizeof(flatmin_step) / sizeof(double));
    return results;
  }
};

Results ascent(const Side& side, double p, int32_t shape) {
  const Model model(side);
  model.norms(side, FLATMIN_FIRST_PASS, p);
  const flatmin_displacement displacement = model.displacement(shape);
  const auto& kernels = side.kernels;
  side.check(kernels.correct_rounding(nullptr, &model.cut, &model.arenas, &model.blend, &displacement, &model.scratch,
                                      model.step, 8));
  side.check(kernels.perturb(nullptr, &model.cut, &model.arenas, &model.blend, &displacement, model.step));
  return model.results();
}

Results descent(const Side& side, bool with_adam) {
  const Model model(side);
  const size_t len = static_cast<size_t>(model.len);
  float* first = side.memory.zeros<float>(len);
  float* second = side.memory.zeros<float>(len);
  int64_t* counts = side.memory.zeros<int64_t>(6);
  const auto& kernels = side.kernels;
  for (int repeat = 0; repeat < 3; ++repeat) {
    model.norms(side, FLATMIN_FIRST_PASS, 2);
    if (with_adam) {
      const flatmin_adam adam{model.groups, first, second, counts, 1};
      side.check(kernels.adam(nullptr, &model.cut, &model.arenas, &model.blend, &adam, &model.scratch, model.step));
    } else {
      const flatmin_sgd sgd{model.groups, first, counts, 0, 1};
      side.check(kernels.sgd(nullptr, &model.cut, &model.arenas, &model.blend, &sgd, &model.scratch, model.step));
    }
  }
  Results results = model.results();
  append(results, first, len);
  append(results, second, len);
  append(results, counts, 6);
  return results;
}

Results combinations(const Side& side) {
  const Model model(side);
  const auto& kernels = side.kernels;
  model.norms(side, FLATMIN_ONLY_MEASURE, HUGE_VAL);
  float* arena = side.memory.zeros<float>(static_cast<size_t>(model.len));
  double* factors = side.memory.zeros<double>(2);
  double* products = side.memory.zeros<double>(3);
  float* committed = side.memory.zeros<float>(3000);
  const float* staged = side.memory.copy(floats(3000, 5));
  side.check(kernels.clip(nullptr, model.step, 5.0, 1e-6, 2, factors));
  flatmin_blend blend = model.blend;
  blend.terms[1] = {blend.terms[0].table, factors, -0.25};
  blend.count = 2;
  side.check(kernels.assign(nullptr, &model.cut, &model.arenas, &blend, arena));
  side.check(kernels.products(nullptr, &model.cut, &model.arenas, &blend, &model.blend, &model.scratch, products));
  side.check(kernels.translate(nullptr, &model.cut, &model.arenas, &blend));
  side.check(kernels.restore(nullptr, &model.cut, &model.arenas));
  side.check(kernels.commit(nullptr, model.step, committed, staged, 3000, FLATMIN_FLOAT32));
  Results results = model.results();
  append(results, arena, static_cast<size_t>(model.len));
  append(results, factors, 2);
  append(results, products, 3);
  append(results, committed, 3000);
  return results;
}

template <class Stored>
Results batch_norm(const Side& side, const std::function<std::vector<Stored>(size_t, uint64_t)>& make, int32_t number,
                   int64_t rows, int32_t channels, bool with_residual) {
  Memory& memory = side.memory;
  const auto& kernels = side.kernels;
  const size_t len = static_cast<size_t>(rows) * static_cast<size_t>(channels), width = static_cast<size_t>(channels);
  const Stored* x = memory.copy(make(len, 1));
  const Stored* residual = with_residual ? memory.copy(make(len, 2)) : nullptr;
  const Stored* dy = memory.copy(make(len, 3));
  Stored* y = memory.zeros<Stored>(len);
  Stored* dx = memory.zeros<Stored>(len);
  Stored* passed = memory.zeros<Stored>(len);
  float* mean = memory.zeros<float>(width);
  float* variance = memory.zeros<float>(width);
  float* saved = memory.zeros<float>(4 * width);
  float* parameters = memory.zeros<float>(2 * width);
  float* coefficients = memory.zeros<float>(3 * width);
  const flatmin_scratch scratch = side.scratch(kernels.norm_scratch(rows, channels));
  const flatmin_norm norm{memory.copy(floats(width, 4)), memory.copy(floats(width, 5)), mean, variance, saved, 0.1,
                          1e-5, rows, channels, number, 1};
  side.check(kernels.norm_forward(nullptr, &norm, x, residual, y, &scratch));
  const flatmin_norm_backward backward{x, dy, with_residual ? y : nullptr, saved, dx, with_residual ? passed : nullptr,
                                       parameters, parameters + width, coefficients, rows, channels, number, 1};
  side.check(kernels.norm_backward(nullptr, &backward, &scratch));
  cudaDeviceSynchronize();
  Results results;
  append(results, y, len);
  append(results, dx, len);
  append(results, passed, len);
  append(results, mean, width);
  append(results, variance, width);
  append(results, parameters, 2 * width);
  return results;
}

Results cross_entropy(const Side& side, int64_t rows, int32_t classes) {
  Memory& memory = side.memory;
  const size_t len = static_cast<size_t>(rows) * static_cast<size_t>(classes);
  int64_t* labels = memory.zeros<int64_t>(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) labels[row] = row * 7 % classes;
  float* loss = memory.zeros<float>(1);
  float* dloss = memory.copy(std::vector<float>{3});
  float* dlogits = memory.zeros<float>(len);
  int64_t* correct = memory.zeros<int64_t>(1);
  const flatmin_cross_entropy entropy{memory.copy(floats(len, 1)), labels, loss,
                                      memory.zeros<float>(static_cast<size_t>(rows)), correct, 0.1, rows, classes,
                                      FLATMIN_FLOAT32};
  const flatmin_scratch scratch = side.scratch(side.kernels.cross_entropy_scratch(rows));
  side.check(side.kernels.cross_entropy(nullptr, &entropy, &scratch));
  side.check(side.kernels.cross_entropy_backward(nullptr, &entropy, dloss, dlogits));
  cudaDeviceSynchronize();
  Results results;
  append(results, loss, 1);
  append(results, correct, 1);
  append(results, dlogits, len);
  return results;
}

Results draw(const Side& side) {
  constexpr int64_t len = 100003;
  const size_t count = static_cast<size_t>(len);
  const uint64_t* seed = side.memory.copy(std::vector<uint64_t>{11});
  float* uniform = side.memory.zeros<float>(count);
  uint16_t* mask = side.memory.zeros<uint16_t>(count);
  const flatmin_draw uniforms{nullptr, 7, 3, -1, 2, 0, uniform, len, FLATMIN_FLOAT32};
  const flatmin_draw masks{seed, 0, 4, 0, 0, 0.75, mask, len, FLATMIN_BFLOAT16};
  side.check(side.kernels.draw(nullptr, &uniforms));
  side.check(side.kernels.draw(nullptr, &masks));
  cudaDeviceSynchronize();
  Results results;
  append(results, uniform, count);
  append(results, mask, count);
  return results;
}

Results augment(const Side& side) {
  Memory& memory = side.memory;
  constexpr int32_t count = 300, batch = 128, side_len = 32, channels = 3;
  constexpr size_t pixels = static_cast<size_t>(side_len) * side_len * channels;
  std::vector<uint8_t> bytes(count * pixels);
  for (size_t index = 0; index < bytes.size(); ++index) bytes[index] = static_cast<uint8_t>(index * 37 % 251);
  std::vector<int64_t> labels(count);
  std::vector<int32_t> order(count);
  for (int32_t index = 0; index < count; ++index) {
    labels[static_cast<size_t>(index)] = index % 10;
    order[static_cast<size_t>(index)] = index * 7 % count;
  }
  const flatmin_images images{memory.copy(bytes),     memory.copy(labels), count,    {0.01f, 0.02f, 0.04f},
                              {-0.5f, -1.0f, 0.25f}, side_len,            side_len, channels};
  flatmin_feed* feed = memory.zeros<flatmin_feed>(1);
  feed->epoch = 3;
  uint16_t* out = memory.zeros<uint16_t>(batch * pixels);
  int64_t* classes = memory.zeros<int64_t>(batch);
  const flatmin_scratch scratch = side.scratch(1);
  Results results;
  // The last batch runs past the end.
  for (int repeat = 0; repeat < 3; ++repeat) {
    const flatmin_augment options{memory.copy(order), count, feed, out, classes, 7, batch, FLATMIN_BFLOAT16, 4, 1, 16, 1};
    side.check(side.kernels.augment(nullptr, &images, &options, &scratch));
    cudaDeviceSynchronize();
    append(results, out, batch * pixels);
    append(results, classes, batch);
  }
  results.push_back(static_cast<double>(feed->next));
  return results;
}

// The largest difference, relative to 1 + magnitude.
double distance(const Results& found, const Results& expected) {
  if (found.size() != expected.size()) return HUGE_VAL;
  double worst = 0;
  for (size_t index = 0; index < found.size(); ++index) {
    if (found[index] == expected[index] || (std::isnan(found[index]) && std::isnan(expected[index]))) continue;
    const double difference = std::fabs(found[index] - expected[index]) / (1 + std::fabs(expected[index]));
    worst = std::isnan(difference) ? HUGE_VAL : std::max(worst, difference);
  }
  return worst;
}

}  // namespace

int main() {
  const auto half = [](size_t count, uint64_t seed) { return halves(count, seed); };
  const auto full = [](size_t count, uint64_t seed) { return floats(count, seed); };
  // exp and pow of the two sides.
  constexpr double kFunctions = 1e-5;
  const struct {
    const char* name;
    std::function<Results(const Side&)> run;
    double tolerance;
  } cases[] = {
      {"ascent, p = 2", [](const Side& side) { return ascent(side, 2, FLATMIN_QUADRATIC); }, 0},
      {"ascent, p = infinity", [](const Side& side) { return ascent(side, HUGE_VAL, FLATMIN_SIGN); }, 0},
      {"ascent, p = 1.5", [](const Side& side) { return ascent(side, 1.5, FLATMIN_POWER); }, kFunctions},
      {"descent, SGD", [](const Side& side) { return descent(side, false); }, 0},
      {"descent, AdamW", [](const Side& side) { return descent(side, true); }, kFunctions},
      {"combinations", combinations, 0},
      {"batch norm, float32", [&](const Side& side) { return batch_norm<float>(side, full, 0, 5000, 20, true); }, 0},
      {"batch norm, bfloat16", [&](const Side& side) { return batch_norm<uint16_t>(side, half, 2, 9000, 64, true); }, 0},
      {"batch norm, 5 channels", [&](const Side& side) { return batch_norm<uint16_t>(side, half, 2, 700, 5, false); }, 0},
      {"cross-entropy, 10", [](const Side& side) { return cross_entropy(side, 300, 10); }, kFunctions},
      {"cross-entropy, 1000", [](const Side& side) { return cross_entropy(side, 65, 1000); }, kFunctions},
      {"random layers", draw, 0},
      {"augmentation", augment, 0},
  };
  bool passed = true;
  for (const auto& test : cases) {
    Memory device(true), host(false);
    const Results found = test.run({*flatmin_cuda_kernels(), device});
    const Results expected = test.run({*flatmin_twin_kernels(), host});
    const double difference = distance(found, expected);
    const bool fits = difference <= test.tolerance;
    std::printf("%-24s %10zu numbers, largest difference %.3g%s\n", test.name, expected.size(), difference,
                fits ? "" : "  TOO LARGE");
    passed = passed && fits;
  }
  return passed ? 0 : 1;
}
