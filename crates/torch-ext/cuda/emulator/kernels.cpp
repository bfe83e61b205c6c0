// Our kernels on the emulated GPU: each launch is queued, and runs as its twin.
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../flatmin_cuda.h"
#include "queue.h"

namespace {

// Structs that a launch reads on the host; everything else behind a pointer is device memory.
template <class T, class... Others>
constexpr bool kOneOf = (std::is_same_v<T, Others> || ...);
template <class T>
constexpr bool kOnHost =
    kOneOf<T, flatmin_cut, flatmin_arenas, flatmin_blend, flatmin_scratch, flatmin_ball, flatmin_displacement, flatmin_sgd,
           flatmin_adam, flatmin_norm, flatmin_norm_backward, flatmin_cross_entropy, flatmin_draw, flatmin_images, flatmin_augment>;

template <class T>
struct Kept {
  T value;
  T get() const { return value; }
};

template <class T>
  requires kOnHost<T>
struct Kept<const T*> {
  std::optional<T> value;
  explicit Kept(const T* given) {
    if (given != nullptr) value = *given;
  }
  const T* get() const { return value.has_value() ? &*value : nullptr; }
};

// What counts blocks starts at zero, which twins do not need.
template <class T>
void require_zero(const T&) {}
void require_zero(const Kept<const flatmin_scratch*>& kept) {
  const flatmin_scratch* const scratch = kept.get();
  if (scratch == nullptr || scratch->counter == nullptr || *scratch->counter == 0) return;
  std::fputs("emulated GPU: a counter is not zero before its kernel\n", stderr);
  std::abort();
}

void check(int status) {
  if (status == 0) return;
  std::fprintf(stderr, "emulated GPU: a kernel failed: %s\n", flatmin_twin_kernels()->last_error());
  std::abort();
}

thread_local cudaError_t failed = cudaSuccess;

const char* message() { return cudaGetErrorString(failed); }

int submit(void* stream, const char* name, emulator::Work work) {
  failed = emulator::launch(static_cast<cudaStream_t>(stream), name, std::move(work));
  return failed == cudaSuccess ? 0 : 1;
}

template <auto Kernel>
struct Queued;

template <class... Arguments, int (*flatmin_kernels::*Kernel)(void*, Arguments...)>
struct Queued<Kernel> {
  static inline const char* name;

  static int call(void* stream, Arguments... arguments) {
    return submit(stream, name, [kept = std::tuple<Kept<Arguments>...>(Kept<Arguments>{arguments}...)] {
      const auto launch = [](const auto&... each) {
        (require_zero(each), ...);
        return (flatmin_twin_kernels()->*Kernel)(nullptr, each.get()...);
      };
      check(std::apply(launch, kept));
    });
  }
};

int write_table(void* stream, flatmin_source* table, int64_t count, const flatmin_source* entries) {
  return submit(stream, "write_table", [=, kept = std::vector<flatmin_source>(entries, entries + count)] {
    check(flatmin_twin_kernels()->write_table(nullptr, table, count, kept.data()));
  });
}

flatmin_kernels table() {
  flatmin_kernels kernels = *flatmin_twin_kernels();
  kernels.last_error = message;
  kernels.write_table = write_table;
#define QUEUED(kernel)                                \
  Queued<&flatmin_kernels::kernel>::name = #kernel; \
  kernels.kernel = Queued<&flatmin_kernels::kernel>::call
  QUEUED(norms);
  QUEUED(dual_norm);
  QUEUED(correct_rounding);
  QUEUED(perturb);
  QUEUED(sgd);
  QUEUED(adam);
  QUEUED(restore);
  QUEUED(assign);
  QUEUED(translate);
  QUEUED(products);
  QUEUED(clip);
  QUEUED(commit);
  QUEUED(norm_forward);
  QUEUED(norm_backward);
  QUEUED(cross_entropy);
  QUEUED(cross_entropy_backward);
  QUEUED(draw);
  QUEUED(augment);
#undef QUEUED
  return kernels;
}

}  // namespace

const flatmin_kernels* flatmin_cuda_kernels(void) {
  static const flatmin_kernels kernels = table();
  return &kernels;
}
