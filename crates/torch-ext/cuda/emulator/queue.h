// Streams, events, captures and graphs of the emulated GPU.
//
// Nothing that is queued runs before somebody waits for it, and then only what that needs: the latest moment that a real GPU might
// choose. So who reads a result without waiting, or forgets that one stream must wait for what another writes, gets wrong numbers each time,
// and not now and then. FLATMIN_EMULATED_GPU_EAGER=null lets the null streams run at once instead, =others all but these: so does who
// writes before another stream has read.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <map>
#include <mutex>
#include <string>

namespace emulator {

using Work = std::function<void()>;

// What the process asked of the GPU; written as JSON to the file that FLATMIN_EMULATED_GPU_COUNTS names, when it ends.
struct Counts {
  size_t queued = 0;     // kernels, operations and copies, those of a recording not among them
  size_t waits = 0;      // of the host, for a stream, an event or the device
  size_t recordings = 0;
  size_t replays = 0;
  std::map<std::string, size_t> recorded;  // works of all recordings, by name
};
Counts& counts();

// Held by every call of the runtime, and while work runs.
std::recursive_mutex& lock();

// This thread's device. What is made belongs to it, and work is launched on its streams alone; the null stream is its own.
int current_device();
void set_device(int device);

cudaError_t stream_create(cudaStream_t* stream);
cudaError_t stream_destroy(cudaStream_t stream);
// Runs at last, or is part of the graph that the stream is captured into; there it counts under its name.
cudaError_t enqueue(cudaStream_t stream, const std::string& name, Work work);
// For kernels and operations: on a stream of the current device.
__attribute__((visibility("default"))) cudaError_t launch(cudaStream_t stream, const std::string& name, Work work);
cudaError_t synchronize(cudaStream_t stream);
// All streams.
cudaError_t synchronize_device();
// Runs what is queued first, and says whether there was anything.
cudaError_t stream_query(cudaStream_t stream);

cudaError_t event_create(cudaEvent_t* event);
cudaError_t event_destroy(cudaEvent_t event);
cudaError_t event_record(cudaEvent_t event, cudaStream_t stream);
cudaError_t event_wait(cudaStream_t stream, cudaEvent_t event);
cudaError_t event_synchronize(cudaEvent_t event);
cudaError_t event_query(cudaEvent_t event);
cudaError_t event_elapsed(float* milliseconds, cudaEvent_t start, cudaEvent_t end);

cudaError_t capture_begin(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t capture_end(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t capture_info(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id);
// Any stream, by any thread.
bool capturing();
void exchange_mode(cudaStreamCaptureMode* mode);
// What a call must ask that could wait for a capture, or disturb it.
cudaError_t allowed();

size_t graph_size(cudaGraph_t graph);
void graph_destroy(cudaGraph_t graph);
void graph_instantiate(cudaGraphExec_t* exec, cudaGraph_t graph);
void graph_exec_destroy(cudaGraphExec_t exec);
cudaError_t graph_launch(cudaGraphExec_t exec, cudaStream_t stream);

}  // namespace emulator
