// Streams, events, and copies that run beside the work of other streams.
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "guarded.h"

namespace flatmin {
namespace {

using c10::cuda::CUDAStream;

const CUDAStream& stream_of(const void* stream) { return *static_cast<const CUDAStream*>(stream); }

c10::DeviceIndex index_of(int32_t device) {
  c10::cuda::device_count_ensure_non_zero();
  return static_cast<c10::DeviceIndex>(device);
}

// Made where it is first recorded, since an event belongs to one device.
struct Event {
  cudaEvent_t event = nullptr;
};

const Event& recorded(const void* event) {
  const Event& found = *static_cast<const Event*>(event);
  TORCH_CHECK(found.event != nullptr, "the event was not recorded yet");
  return found;
}

}  // namespace

int stream_from_pool(int32_t device, void** stream) {
  return guarded([&] { *stream = new CUDAStream(c10::cuda::getStreamFromPool(false, index_of(device))); });
}

int stream_new(int32_t device, void** stream) {
  return guarded([&] {
    const c10::DeviceIndex index = index_of(device);
    const c10::cuda::CUDAGuard guard(index);
    cudaStream_t raw = nullptr;
    C10_CUDA_CHECK(cudaStreamCreateWithFlags(&raw, cudaStreamNonBlocking));
    *stream = new CUDAStream(c10::cuda::getStreamFromExternal(raw, index));
  });
}

int stream_current(int32_t device, void** stream) {
  return guarded([&] { *stream = new CUDAStream(c10::cuda::getCurrentCUDAStream(index_of(device))); });
}

int stream_set_current(const void* stream) {
  return guarded([&] {
    c10::cuda::set_device(stream_of(stream).device_index());
    c10::cuda::setCurrentCUDAStream(stream_of(stream));
  });
}

int stream_synchronize(const void* stream) {
  return guarded([&] { stream_of(stream).synchronize(); });
}

void stream_free(void* stream) { delete static_cast<CUDAStream*>(stream); }

int current_raw(int32_t device, void** raw) {
  return guarded([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    if (c10::cuda::current_device() != index) c10::cuda::set_device(index);
    *raw = c10::cuda::getCurrentCUDAStream(index).stream();
  });
}

int event_new(void** event) {
  return guarded([&] { *event = new Event; });
}

int event_record(void* event, const void* stream) {
  return guarded([&] {
    Event& own = *static_cast<Event*>(event);
    const CUDAStream& queue = stream_of(stream);
    const c10::cuda::CUDAGuard guard(queue.device_index());
    if (own.event == nullptr) C10_CUDA_CHECK(cudaEventCreateWithFlags(&own.event, cudaEventDisableTiming));
    C10_CUDA_CHECK(cudaEventRecord(own.event, queue.stream()));
  });
}

int event_wait(void* event, const void* stream) {
  return guarded([&] {
    const CUDAStream& queue = stream_of(stream);
    const c10::cuda::CUDAGuard guard(queue.device_index());
    C10_CUDA_CHECK(cudaStreamWaitEvent(queue.stream(), recorded(event).event, 0));
  });
}

void event_free(void* event) {
  Event* own = static_cast<Event*>(event);
  if (own != nullptr && own->event != nullptr) (void)cudaEventDestroy(own->event);
  delete own;
}

int pinned_like(const void* tensor, void** out) {
  return guarded([&] {
    const at::Tensor& like = *static_cast<const at::Tensor*>(tensor);
    c10::cuda::device_count_ensure_non_zero();
    // Torch would allow it, and the graph would keep what lies there now.
    const bool captured = c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
    TORCH_CHECK(!captured, "page-locked memory was asked for while a graph is captured");
    const auto options = like.options().device(at::kCPU).pinned_memory(true).requires_grad(false);
    *out = new at::Tensor(at::empty_like(like, options, at::MemoryFormat::Preserve));
  });
}

int copy_async(void* to, const void* from, const void* stream) {
  return guarded([&] {
    const c10::cuda::CUDAStreamGuard guard(stream_of(stream));
    const at::NoGradGuard no_grad;
    static_cast<at::Tensor*>(to)->copy_(*static_cast<const at::Tensor*>(from), true);
  });
}

int record_stream(const void* tensor, const void* stream) {
  return guarded([&] { static_cast<const at::Tensor*>(tensor)->record_stream(stream_of(stream).unwrap()); });
}

}  // namespace flatmin
