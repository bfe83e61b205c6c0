// The interface's table of this side's kernels. What goes wrong while a launch is prepared becomes its answer.
#include "arena.h"
#include "kernels.h"

#include <exception>

namespace flatmin::FLATMIN_SIDE {
namespace {

const char* message() { return last_error().c_str(); }

template <auto Launch>
struct Guarded;

template <class... Arguments, int (*Launch)(Arguments...)>
struct Guarded<Launch> {
  static int call(Arguments... arguments) noexcept {
    try {
      return Launch(arguments...);
    } catch (const std::exception& error) {
      return fail(error.what());
    }
  }
};

const flatmin_kernels kernels = {
    FLATMIN_CUDA_ABI,
    message,
    kBlockLen,
    arena_scratch,
    norm_scratch,
    cross_entropy_scratch,
    Guarded<write_table>::call,
    Guarded<norms>::call,
    Guarded<dual_norm>::call,
    Guarded<correct_rounding>::call,
    Guarded<perturb>::call,
    Guarded<sgd>::call,
    Guarded<adam>::call,
    Guarded<restore>::call,
    Guarded<assign>::call,
    Guarded<translate>::call,
    Guarded<products>::call,
    Guarded<clip>::call,
    Guarded<commit>::call,
    Guarded<norm_forward>::call,
    Guarded<norm_backward>::call,
    Guarded<cross_entropy>::call,
    Guarded<cross_entropy_backward>::call,
    Guarded<draw>::call,
    Guarded<augment>::call,
};

}  // namespace
}  // namespace flatmin::FLATMIN_SIDE

#ifdef __CUDACC__
const flatmin_kernels* flatmin_cuda_kernels(void) { return &flatmin::gpu::kernels; }
#else
const flatmin_kernels* flatmin_twin_kernels(void) { return &flatmin::twin::kernels; }
#endif
