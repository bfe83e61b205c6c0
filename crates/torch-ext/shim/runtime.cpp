// libtorch's thread pool and process-wide switches. Our kernels run on torch's own OpenMP team: a second pool beside it
// would make the two wait for each other's cores.
#include "shim.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <cstdlib>

void flatmin_free_error(char* error) {
  std::free(error);
}

void flatmin_parallel_for(int64_t workers, void (*body)(void*, int64_t), void* context) {
  at::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      body(context, worker);
    }
  });
}

void flatmin_set_num_threads(int threads) {
  at::set_num_threads(threads);
}

int flatmin_num_threads(void) {
  return at::get_num_threads();
}

int flatmin_set_flush_denormal(int on) {
  return at::globalContext().setFlushDenormal(on != 0) ? 1 : 0;
}

char* flatmin_set_switches(const flatmin_switches* switches) {
  return flatmin::guarded([&] {
    at::Context& context = at::globalContext();
    context.setAllowTF32CuBLAS(switches->tf32_matmul != 0);
    context.setAllowTF32CuDNN(switches->tf32_convolutions != 0);
    context.setBenchmarkCuDNN(switches->cudnn_benchmark != 0);
    context.setDeterministicCuDNN(switches->deterministic != 0);
    // Only a warning where an operation has no deterministic form.
    context.setDeterministicAlgorithms(switches->deterministic != 0, true);
  });
}

char* flatmin_get_switches(flatmin_switches* out) {
  return flatmin::guarded([&] {
    const at::Context& context = at::globalContext();
    out->tf32_matmul = context.allowTF32CuBLAS();
    out->tf32_convolutions = context.allowTF32CuDNN();
    out->cudnn_benchmark = context.benchmarkCuDNN();
    out->deterministic = context.deterministicCuDNN();
  });
}

const char* flatmin_cpu_capability(void) {
  static const std::string capability = at::get_cpu_capability();
  return capability.c_str();
}

const char* flatmin_torch_version(void) {
  return TORCH_VERSION;
}
