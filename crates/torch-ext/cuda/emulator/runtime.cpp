// The CUDA runtime as libtorch calls it, on the emulated GPU. Loaded before everything else (LD_PRELOAD), so that its functions are
// found in place of libcudart's; what is missing here is answered by that, which finds no driver.
//
// Kernels are never run: libtorch's operations are replaced (operators.cpp), and so are ours (kernels.cpp). One that is
// launched nevertheless is an error with its name.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <unordered_map>
#include <vector>

#include "memory.h"
#include "queue.h"

using namespace emulator;

#define EMULATED extern "C" __attribute__((visibility("default")))

namespace {

thread_local cudaError_t last_error = cudaSuccess;

// Several, so that the second can be asked for; they share one memory.
int device_total() {
  const char* const wanted = std::getenv("FLATMIN_EMULATED_GPUS");
  return wanted == nullptr ? 1 : std::atoi(wanted);
}

cudaError_t answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// Whether this call is to fail while something is captured, as where memory is short.
bool refused(const char* call) {
  const char* const wanted = std::getenv("FLATMIN_EMULATED_GPU_REFUSES");
  return wanted != nullptr && std::strcmp(wanted, call) == 0;
}

template <class Call>
cudaError_t locked(Call&& call) {
  const std::lock_guard guard(lock());
  return answer(call());
}

std::unordered_map<const void*, const char*>& kernel_names() {
  static auto& names = *new std::unordered_map<const void*, const char*>;
  return names;
}

cudaError_t not_emulated(const void* kernel) {
  const auto found = kernel_names().find(kernel);
  const char* const name = found == kernel_names().end() ? "?" : found->second;
  std::fprintf(stderr, "emulated GPU: a kernel that is not emulated was launched: %s\n", name);
  return answer(cudaErrorNotSupported);
}

void move(void* to, const void* from, size_t bytes) { std::memmove(to, from, bytes); }

cudaError_t copy(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  const bool from_host = !is_on_device(from), to_host = !is_on_device(to);
  const bool pageable = (from_host && !is_pinned(from)) || (to_host && !is_pinned(to));
  if (!pageable) return enqueue(stream, "copy", [=] { move(to, from, bytes); });
  cudaStreamCaptureStatus status;
  if (const cudaError_t error = capture_info(stream, &status, nullptr); error != cudaSuccess) return error;
  if (status != cudaStreamCaptureStatusNone) return synchronize(stream);  // fails, and ends the capture
  if (!to_host) {
    // Taken at once, from memory that the driver cannot keep in place.
    const auto bytes_now = static_cast<const char*>(from);
    auto taken = std::make_shared<std::vector<char>>(bytes_now, bytes_now + bytes);
    return enqueue(stream, "copy", [=] { move(to, taken->data(), bytes); });
  }
  if (const cudaError_t error = enqueue(stream, "copy", [=] { move(to, from, bytes); }); error != cudaSuccess) return error;
  return synchronize(stream);
}

}  // namespace

// Devices.

EMULATED cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

EMULATED cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

EMULATED cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_total();
  return cudaSuccess;
}

EMULATED cudaError_t cudaGetDevice(int* device) {
  *device = current_device();
  return cudaSuccess;
}

EMULATED cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_total()) return answer(cudaErrorInvalidDevice);
  set_device(device);
  return cudaSuccess;
}

EMULATED cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= device_total()) return answer(cudaErrorInvalidDevice);
  *properties = cudaDeviceProp{};
  std::snprintf(properties->name, sizeof properties->name, "emulated GPU");
  properties->totalGlobalMem = kMemory;
  properties->major = 9;
  properties->warpSize = 32;
  properties->multiProcessorCount = 132;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->sharedMemPerMultiprocessor = 228 << 10;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->l2CacheSize = 50 << 20;
  for (int axis = 0; axis < 3; ++axis) {
    properties->maxThreadsDim[axis] = axis == 2 ? 64 : 1024;
    properties->maxGridSize[axis] = axis == 0 ? 2147483647 : 65535;
  }
  return cudaSuccess;
}

EMULATED cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = 132;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 227 << 10;
      break;
    default:
      *value = 0;
  }
  return cudaSuccess;
}

EMULATED cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 1;
  return cudaSuccess;
}

EMULATED cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }

EMULATED cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

EMULATED cudaError_t cudaDeviceSynchronize() { return locked(synchronize_device); }

EMULATED cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                                      cudaDriverEntryPointQueryResult* result) {
  *function = nullptr;
  if (result != nullptr) *result = cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

// Errors.

EMULATED cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

EMULATED cudaError_t cudaPeekAtLastError() { return last_error; }

// Memory.

EMULATED cudaError_t cudaMalloc(void** address, size_t bytes) {
  return locked([&] {
    if (const cudaError_t error = allowed(); error != cudaSuccess) return error;
    *address = refused("cudaMalloc") && capturing() ? nullptr : allocate(bytes);
    return *address == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
  });
}

EMULATED cudaError_t cudaFree(void* address) {
  return locked([&] {
    if (address == nullptr) return cudaSuccess;
    if (const cudaError_t error = synchronize_device(); error != cudaSuccess) return error;
    return release(address) ? cudaSuccess : cudaErrorInvalidValue;
  });
}

EMULATED cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const std::lock_guard guard(lock());
  *total = kMemory;
  *free = kMemory - allocated();
  return cudaSuccess;
}

EMULATED cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) {
  return locked([&] {
    if (const cudaError_t error = allowed(); error != cudaSuccess) return error;
    *address = allocate_pinned(bytes);
    return *address == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
  });
}

EMULATED cudaError_t cudaFreeHost(void* address) {
  return locked([&] {
    if (const cudaError_t error = synchronize_device(); error != cudaSuccess) return error;
    if (!release_pinned(address)) return cudaErrorInvalidValue;
    std::free(address);
    return cudaSuccess;
  });
}

EMULATED cudaError_t cudaHostRegister(void* address, size_t bytes, unsigned) {
  register_pinned(address, bytes);
  return cudaSuccess;
}

EMULATED cudaError_t cudaHostUnregister(void* address) {
  return answer(release_pinned(address) ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
}

EMULATED cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  *attributes = cudaPointerAttributes{};
  attributes->device = current_device();
  attributes->type = is_on_device(address) ? cudaMemoryTypeDevice
                     : is_pinned(address)  ? cudaMemoryTypeHost
                                           : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}

EMULATED cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return locked([&] { return copy(to, from, bytes, stream); });
}

EMULATED cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  return locked([&] {
    if (const cudaError_t error = allowed(); error != cudaSuccess) return error;
    if (const cudaError_t error = copy(to, from, bytes, nullptr); error != cudaSuccess) return error;
    return synchronize(nullptr);
  });
}

EMULATED cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return locked([&] { return enqueue(stream, "set", [=] { std::memset(to, value, bytes); }); });
}

EMULATED cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return locked([&] {
    if (const cudaError_t error = allowed(); error != cudaSuccess) return error;
    return enqueue(nullptr, "set", [=] { std::memset(to, value, bytes); });
  });
}

// Streams and events.

EMULATED cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return locked([&] { return stream_create(stream); });
}

EMULATED cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  return locked([&] { return stream_create(stream); });
}

EMULATED cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return locked([&] { return stream_destroy(stream); });
}

EMULATED cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return locked([&] { return synchronize(stream); });
}

EMULATED cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return locked([&] { return stream_query(stream); });
}

EMULATED cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return locked([&] { return event_wait(stream, event); });
}

EMULATED cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* data, unsigned) {
  return locked([&] { return enqueue(stream, "callback", [=] { callback(stream, cudaSuccess, data); }); });
}

EMULATED cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return locked([&] { return enqueue(stream, "callback", [=] { function(data); }); });
}

EMULATED cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return locked([&] { return event_create(event); });
}

EMULATED cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return cudaEventCreate(event); }

EMULATED cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return locked([&] { return event_destroy(event); });
}

EMULATED cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return locked([&] { return event_record(event, stream); });
}

EMULATED cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}

EMULATED cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return locked([&] { return event_synchronize(event); });
}

EMULATED cudaError_t cudaEventQuery(cudaEvent_t event) {
  return locked([&] { return event_query(event); });
}

EMULATED cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return locked([&] { return event_elapsed(milliseconds, start, end); });
}

// Captures and graphs.

EMULATED cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  exchange_mode(mode);
  return cudaSuccess;
}

EMULATED cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return locked([&] { return capture_begin(stream, mode); });
}

EMULATED cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return locked([&] { return capture_end(stream, graph); });
}

EMULATED cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return locked([&] { return capture_info(stream, status, nullptr); });
}

EMULATED cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                              cudaGraph_t* graph, const cudaGraphNode_t** dependencies,
                                              const cudaGraphEdgeData** edges, size_t* count) {
  if (graph != nullptr) *graph = nullptr;
  if (dependencies != nullptr) *dependencies = nullptr;
  if (edges != nullptr) *edges = nullptr;
  if (count != nullptr) *count = 0;
  return locked([&] { return capture_info(stream, status, id); });
}

EMULATED cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = graph_size(graph);
  return cudaSuccess;
}

EMULATED cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  graph_destroy(graph);
  return cudaSuccess;
}

EMULATED cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (refused("cudaGraphInstantiate")) return answer(cudaErrorMemoryAllocation);
  graph_instantiate(exec, graph);
  return cudaSuccess;
}

EMULATED cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags) {
  return cudaGraphInstantiate(exec, graph, flags);
}

EMULATED cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  graph_exec_destroy(exec);
  return cudaSuccess;
}

EMULATED cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return locked([&] { return graph_launch(exec, stream); });
}

// Kernels: their names are kept, and nothing else.

EMULATED void** __cudaRegisterFatBinary(void* binary) { return static_cast<void**>(binary); }
EMULATED void __cudaRegisterFatBinaryEnd(void**) {}
EMULATED void __cudaUnregisterFatBinary(void**) {}
EMULATED void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}

EMULATED void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                                     int*) {
  kernel_names()[host] = name;
}

EMULATED unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, cudaStream_t) { return 0; }
EMULATED cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = *block = dim3(1, 1, 1);
  *shared = 0;
  *static_cast<cudaStream_t*>(stream) = nullptr;
  return cudaSuccess;
}

EMULATED cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(host));
  return cudaSuccess;
}

EMULATED cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void**, size_t, cudaStream_t) {
  return not_emulated(kernel);
}

EMULATED cudaError_t cudaLaunchKernel(const void* kernel, dim3, dim3, void**, size_t, cudaStream_t) {
  return not_emulated(kernel);
}

EMULATED cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void* kernel, void**) {
  return not_emulated(kernel);
}
