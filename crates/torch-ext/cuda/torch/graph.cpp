// CUDA graphs by torch's own class, which keeps the allocator's and the generators' books; and generators for them.
#include <ATen/core/Generator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>
#include <mutex>

#include "guarded.h"

namespace flatmin {
namespace {

using at::cuda::CUDAGraph;

CUDAGraph& graph_of(void* graph) { return *static_cast<CUDAGraph*>(graph); }

void set_seed(at::Generator generator, uint64_t seed) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(seed);
}

}  // namespace

int generator_new(int32_t device, uint64_t seed, void** generator) {
  return guarded([&] {
    c10::cuda::device_count_ensure_non_zero();
    auto own = std::make_unique<at::Generator>(
        at::cuda::detail::createCUDAGenerator(static_cast<c10::DeviceIndex>(device)));
    set_seed(*own, seed);
    *generator = own.release();
  });
}

int seed(uint64_t seed) {
  return guarded([&] {
    const c10::DeviceIndex count = c10::cuda::device_count_ensure_non_zero();
    for (c10::DeviceIndex device = 0; device < count; ++device) {
      set_seed(at::cuda::detail::getDefaultCUDAGenerator(device), seed);
    }
  });
}

int graph_new(void** graph) {
  return guarded([&] {
    c10::cuda::device_count_ensure_non_zero();
    *graph = new CUDAGraph();
  });
}

int graph_register_generator(void* graph, const void* generator) {
  return guarded([&] { graph_of(graph).register_generator_state(*static_cast<const at::Generator*>(generator)); });
}

int graph_begin(void* graph, void* share) {
  return guarded([&] {
    const auto current = c10::cuda::getCurrentCUDAStream();
    TORCH_CHECK(current != c10::cuda::getDefaultCUDAStream(current.device_index()),
                "a graph cannot be captured on the default stream: make one of the pool's current");
    const auto pool = share != nullptr ? graph_of(share).pool() : c10::MempoolId_t{0, 0};
    graph_of(graph).capture_begin(pool, cudaStreamCaptureModeThreadLocal);
  });
}

int graph_end(void* graph) {
  return guarded([&] { graph_of(graph).capture_end(); });
}

int graph_replay(void* graph) {
  return guarded([&] { graph_of(graph).replay(); });
}

int graph_reset(void* graph) {
  return guarded([&] { graph_of(graph).reset(); });
}

void graph_free(void* graph) { delete static_cast<CUDAGraph*>(graph); }

}  // namespace flatmin
