// CUDA graphs by torch's own class, which keeps the allocator's books.
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "guarded.h"

namespace flatmin {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

struct Recording {
  at::cuda::CUDAGraph graph;
  // Where memory of its tensors comes from.
  c10::MempoolId_t pool{0, 0};
  c10::DeviceIndex device = -1;
};

Recording& recording_of(void* graph) { return *static_cast<Recording*>(graph); }

template <class Call>
bool succeeds(Call&& call) noexcept {
  try {
    call();
    return true;
  } catch (...) {
    return false;
  }
}

// What torch leaves undone where a recording fails: until 2.12 all memory goes on as if one were under way, which gives
// nothing back; 2.13 only keeps the pool. `begun`: torch has counted the recording among the pool's users.
void unwind(Recording& recording, bool begun) noexcept {
  // Torch's own destructor does it where there is a recording.
  if (succeeds([&] { recording.graph.pool(); })) return;
  auto* host = at::getHostAllocator(at::kCUDA);
  const bool routed = succeeds([&] { allocator::endAllocateToPool(recording.device, recording.pool); });
  const bool host_routed = succeeds([&] { host->end_allocate_to_pool(recording.pool); });
  if (begun || routed) (void)succeeds([&] { allocator::releasePool(recording.device, recording.pool); });
  if (begun || host_routed) (void)succeeds([&] { host->release_pool(recording.pool); });
}

}  // namespace

int graph_new(void** graph) {
  return guarded([&] {
    c10::cuda::device_count_ensure_non_zero();
    *graph = new Recording();
  });
}

int graph_begin(void* graph, const void* other) {
  Recording& recording = recording_of(graph);
  const auto begin = [&] {
    const auto current = c10::cuda::getCurrentCUDAStream();
    TORCH_CHECK(current != c10::cuda::getDefaultCUDAStream(current.device_index()),
                "a graph cannot be captured on the default stream: make another one current");
    recording.device = current.device_index();
    recording.pool = other == nullptr ? at::cuda::graph_pool_handle() : static_cast<const Recording*>(other)->pool;
    // While a recording is under way the allocator does not give back what it has cached to make room.
    current.synchronize();
    allocator::emptyCache();
    recording.graph.capture_begin(recording.pool, cudaStreamCaptureModeThreadLocal);
  };
  const int status = guarded(begin);
  if (status != 0 && recording.device >= 0) unwind(recording, false);
  return status;
}

int graph_end(void* graph) {
  Recording& recording = recording_of(graph);
  const int status = guarded([&] { recording.graph.capture_end(); });
  if (status != 0) unwind(recording, true);
  return status;
}

int graph_replay(void* graph) {
  return guarded([&] { recording_of(graph).graph.replay(); });
}

void graph_free(void* graph) { delete static_cast<Recording*>(graph); }

}  // namespace flatmin
