// What the kernels take on this GPU: the update on ResNet-50's shapes, launch by launch and as one graph, and batch norm + ReLU.
// Bytes are those that must move, each array read and written once a pass.
#include <algorithm>
#include <functional>

#include "model.h"
#include "numbers.h"

namespace flatmin::test {
namespace {

constexpr int kWarmUp = 10, kRepeats = 100;

struct Measured {
  std::string name;
  std::vector<float> milliseconds;  // sorted
  double bytes;
};

// Each repetition between two events; all of them are queued before the first is waited for.
Measured measure(const Side& side, const std::string& name, double bytes, const std::function<void()>& work) {
  std::vector<cudaEvent_t> events(2 * kRepeats);
  for (cudaEvent_t& event : events) side.check(cudaEventCreate(&event));
  for (int repeat = 0; repeat < kWarmUp; ++repeat) work();
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    side.check(cudaEventRecord(events[2 * repeat], side.stream()));
    work();
    side.check(cudaEventRecord(events[2 * repeat + 1], side.stream()));
  }
  side.check(cudaDeviceSynchronize());
  Measured measured{name, std::vector<float>(kRepeats), bytes};
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    side.check(cudaEventElapsedTime(&measured.milliseconds[repeat], events[2 * repeat], events[2 * repeat + 1]));
  }
  for (const cudaEvent_t event : events) side.check(cudaEventDestroy(event));
  std::sort(measured.milliseconds.begin(), measured.milliseconds.end());
  return measured;
}

// Uniform in [-size, size), drawn where it is used.
template <class Stored>
Stored* drawn(Side& side, int64_t len, uint64_t seed, double size) {
  Stored* out = side.room<Stored>(static_cast<size_t>(len));
  const flatmin_draw draw{nullptr, seed, 0, -size, size, 0, out, len, Format<Stored>::kNumber};
  side.check(side->draw(side.stream(), &draw));
  return out;
}

// ResNet-50's 161 tensors: filters and the classifier are read in bfloat16, the others in float32.
struct Shapes {
  Arena arena;
  int32_t geometry;  // of filters and classifier
  double matrices = 0, vectors = 0;

  explicit Shapes(int32_t geometry) : geometry(geometry) {
    convolution(64, 3, 7);
    const int64_t blocks[] = {3, 4, 6, 3};
    int64_t in = 64;
    for (int stage = 0; stage < 4; ++stage) {
      const int64_t width = int64_t{64} << stage, out = 4 * width;
      for (int64_t block = 0; block < blocks[stage]; ++block) {
        convolution(width, in, 1);
        convolution(width, width, 3);
        convolution(out, width, 1);
        if (block == 0) convolution(out, in, 1);
        in = out;
      }
    }
    matrix(1000 * 2048);
    vector(1000);
  }

  void convolution(int64_t out, int64_t in, int64_t size) {
    matrix(out * in * size * size);
    vector(out);
    vector(out);
  }

  void matrix(int64_t len) {
    arena.add(len, geometry, 0).half = 1;
    matrices += static_cast<double>(len);
  }

  void vector(int64_t len) {
    arena.add(len, FLATMIN_PLAIN, 0);
    vectors += static_cast<double>(len);
  }
};

// bfloat16 gradients and working weights, SGD with momentum, p = 2.
void measure_update(Side& side, const std::string& name, int32_t geometry, std::vector<Measured>& results) {
  Shapes shapes(geometry);
  Arena& arena = shapes.arena;
  const auto cut = arena.cut(side);
  const auto stream = side.stream();
  const flatmin_arenas arenas{drawn<float>(side, arena.len, 1, 0.05), drawn<float>(side, arena.len, 1, 0.05),
                              drawn<uint16_t>(side, arena.len, 1, 0.05), FLATMIN_FLOAT32};
  std::vector<flatmin_source> entries;
  for (const auto& segment : arena.segments) {
    const uint64_t seed = 10 + entries.size();
    if (segment.half) {
      entries.push_back({drawn<uint16_t>(side, segment.len, seed, 1e-3), FLATMIN_HALF});
    } else {
      entries.push_back({drawn<float>(side, segment.len, seed, 1e-3), FLATMIN_FULL});
    }
  }
  flatmin_source* table = side.room<flatmin_source>(entries.size());
  side.check(side->write_table(stream, table, static_cast<int64_t>(entries.size()), entries.data()));
  flatmin_blend blend{};
  blend.terms[0] = {table, nullptr, 1.0};
  blend.count = 1;
  const auto scratch = side.scratch(side->arena_scratch(cut.block_count));
  flatmin_step start{};
  start.proceed = start.half_factor = 1;
  flatmin_step* step = side.copy(std::vector<flatmin_step>{start});
  const auto* groups = side.copy(std::vector<flatmin_group>{{0.05, 1e-4, 0.9, 0, 1e-4, 0, 0, 0}});
  double* coefficients = side.room<double>(1);
  const flatmin_ball ball{groups, coefficients, 2, 1e-12, 1};
  flatmin_displacement displacement{};
  displacement.coefficients = coefficients;
  displacement.eta = 0.01;
  displacement.keep = 1;
  displacement.shape = FLATMIN_QUADRATIC;
  const flatmin_sgd options{groups, side.zeros<float>(static_cast<size_t>(arena.len)),
                            side.zeros<int64_t>(arena.segments.size()), 0, 0};

  const auto norms = [&] {
    side.check(side->norms(stream, &cut, &arenas, &blend, 0.01, nullptr, &scratch, step, FLATMIN_FIRST_PASS, &ball));
  };
  const auto rounding = [&] {
    side.check(side->correct_rounding(stream, &cut, &arenas, &blend, &displacement, &scratch, step, 8));
  };
  const auto perturb = [&] { side.check(side->perturb(stream, &cut, &arenas, &blend, &displacement, step)); };
  const auto second_norm = [&] {
    side.check(side->norms(stream, &cut, &arenas, &blend, 0.01, nullptr, &scratch, step, FLATMIN_SECOND_PASS, nullptr));
  };
  const auto descend = [&] { side.check(side->sgd(stream, &cut, &arenas, &blend, &options, &scratch, step)); };

  const double m = shapes.matrices, v = shapes.vectors;
  const struct {
    const char* name;
    double bytes;
    std::function<void()> work;
  } launches[] = {
      {"norms", (geometry == FLATMIN_ELEMENT ? 6 : 2) * m + 4 * v, norms},
      // One measurement is enough for weights that lie off bfloat16's grid; the other seven end at once.
      {"rounding", 6 * m, rounding},
      {"perturb", 8 * m + 12 * v, perturb},
      {"second norm", 2 * m + 4 * v, second_norm},
      {"sgd", 20 * m + 24 * v, descend},
  };
  double bytes = 0;
  for (const auto& launch : launches) {
    results.push_back(measure(side, name + ", " + launch.name, launch.bytes, launch.work));
    bytes += launch.bytes;
  }
  const auto graph = side.capture([&] {
    for (const auto& launch : launches) launch.work();
  });
  results.push_back(measure(side, name + ", all as a graph", bytes, [&] { side.check(cudaGraphLaunch(graph, stream)); }));
  side.check(cudaGraphExecDestroy(graph));
}

void measure_batch_norm(Side& side, int32_t channels, int64_t size, std::vector<Measured>& results) {
  const int64_t rows = 256 * size * size, len = rows * channels;
  const size_t count = static_cast<size_t>(len), width = static_cast<size_t>(channels);
  const auto *x = drawn<uint16_t>(side, len, 1, 1), *dy = drawn<uint16_t>(side, len, 2, 1);
  auto *y = side.room<uint16_t>(count), *dx = side.room<uint16_t>(count);
  auto *saved = side.room<float>(4 * width), *parameters = side.room<float>(2 * width);
  const auto scratch = side.scratch(side->norm_scratch(rows, channels), channels);
  const flatmin_norm norm{drawn<float>(side, channels, 3, 1), drawn<float>(side, channels, 4, 1), side.zeros<float>(width),
                          side.zeros<float>(width), saved, 0.1, 1e-5, rows, channels, FLATMIN_BFLOAT16, 1};
  const flatmin_norm_backward backward{x, dy, nullptr, saved, dx, nullptr, parameters, parameters + width,
                                       side.room<float>(3 * width), rows, channels, FLATMIN_BFLOAT16, 1};
  const std::string name = "batch norm + ReLU, 256 x " + std::to_string(channels) + " x " + std::to_string(size) + " x " +
                           std::to_string(size);
  const double array = 2.0 * static_cast<double>(len);
  results.push_back(measure(side, name + ", forward", 3 * array, [&] {
    side.check(side->norm_forward(side.stream(), &norm, x, nullptr, y, &scratch));
  }));
  results.push_back(measure(side, name + ", backward", 5 * array, [&] {
    side.check(side->norm_backward(side.stream(), &backward, &scratch));
  }));
}

}  // namespace

int measure_kernels() {
  std::vector<Measured> results;
  cudaDeviceProp device{};
  const struct {
    const char* name;
    std::function<void(Side&)> measure;
  } parts[] = {
      {"SAM", [&](Side& side) { measure_update(side, "SAM", FLATMIN_PLAIN, results); }},
      {"ASAM", [&](Side& side) { measure_update(side, "ASAM", FLATMIN_ELEMENT, results); }},
      {"batch norm", [&](Side& side) { measure_batch_norm(side, 64, 112, results); }},
      {"batch norm", [&](Side& side) { measure_batch_norm(side, 256, 56, results); }},
  };
  for (const auto& part : parts) {
    Side side = Side::device(part.name);
    side.check(cudaGetDeviceProperties(&device, 0));
    part.measure(side);
  }
  std::printf("{\"device\": \"%s\", \"results\": [\n", device.name);
  for (const Measured& result : results) {
    const auto& sorted = result.milliseconds;
    const double median = (sorted[kRepeats / 2 - 1] + sorted[kRepeats / 2]) / 2;
    std::printf("  {\"name\": \"%s\", \"n\": %d, \"medianMs\": %.4f, \"minMs\": %.4f, \"maxMs\": %.4f, \"bytes\": %.0f, "
                "\"terabytesPerSecond\": %.3f}%s\n",
                result.name.c_str(), kRepeats, median, sorted.front(), sorted.back(), result.bytes,
                result.bytes / median * 1e-9, &result == &results.back() ? "" : ",");
  }
  std::printf("]}\n");
  return 0;
}

}  // namespace flatmin::test
