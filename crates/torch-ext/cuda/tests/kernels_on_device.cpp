// Runs every kernel on the GPU and on the CPU (its twin) with the same random input and prints how far they are apart.
//
//   kernels-on-device                   what a release is tested by; also under compute-sanitizer's memcheck, racecheck, synccheck
//   kernels-on-device --uninitialised   leaves outputs as they are allocated: for its initcheck
//   kernels-on-device --time            rates on this GPU, as JSON
//
// Sums have one order on both sides and no product is fused with a sum, so that everything but pow, exp and log is equal bit for
// bit; those differ by a few units in the last place.
#include <algorithm>
#include <cmath>

#include "numbers.h"

namespace flatmin::test {
namespace {

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

bool passes(const Case& test) {
  Side device = Side::device(test.name), twin = Side::twin(test.name);
  const Results found = test.run(device), expected = test.run(twin);
  const double difference = distance(found, expected);
  const bool fits = difference <= test.tolerance;
  std::printf("%-26s %10zu numbers, largest difference %.3g%s\n", test.name, expected.size(), difference,
              fits ? "" : "  TOO LARGE");
  return fits;
}

int compare_kernels() {
  bool passed = true;
  for (const auto& cases : {update_cases(), layer_cases()}) {
    for (const Case& test : cases) passed = passes(test) && passed;
  }
  return passed ? 0 : 1;
}

}  // namespace
}  // namespace flatmin::test

int main(int count, char** words) {
  const std::string option = count > 1 ? words[1] : "";
  if (option == "--time") return flatmin::test::measure_kernels();
  flatmin::test::leave_uninitialised = option == "--uninitialised";
  return flatmin::test::compare_kernels();
}
