// CUDA graphs by torch's own class, which keeps the allocator's books.
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "guarded.h"

namespace flatmin {
namespace {

using at::cuda::CUDAGraph;

CUDAGraph& graph_of(void* graph) { return *static_cast<CUDAGraph*>(graph); }

}  // namespace

int graph_new(void** graph) {
  return guarded([&] {
    c10::cuda::device_count_ensure_non_zero();
    *graph = new CUDAGraph();
  });
}

int graph_begin(void* graph) {
  return guarded([&] {
    const auto current = c10::cuda::getCurrentCUDAStream();
    TORCH_CHECK(current != c10::cuda::getDefaultCUDAStream(current.device_index()),
                "a graph cannot be captured on the default stream: make one of the pool's current");
    graph_of(graph).capture_begin(c10::MempoolId_t{0, 0}, cudaStreamCaptureModeThreadLocal);
  });
}

int graph_end(void* graph) {
  return guarded([&] { graph_of(graph).capture_end(); });
}

int graph_replay(void* graph) {
  return guarded([&] { graph_of(graph).replay(); });
}

void graph_free(void* graph) { delete static_cast<CUDAGraph*>(graph); }

}  // namespace flatmin
