// GPUs: which there are, and their memory.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

#include <cstdio>

#include "guarded.h"

namespace flatmin {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

c10::DeviceIndex checked(int32_t index) {
  const c10::DeviceIndex count = c10::cuda::device_count_ensure_non_zero();
  TORCH_CHECK(index >= 0 && index < count, "there is no GPU ", index, ": this machine has ", static_cast<int>(count));
  return static_cast<c10::DeviceIndex>(index);
}

size_t aggregate() { return static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE); }

}  // namespace

int versions(int32_t* driver, int32_t* runtime) {
  return guarded([&] {
    // Not by torch's macro, which asks the driver for more even after a success.
    const bool told = cudaDriverGetVersion(driver) == cudaSuccess && cudaRuntimeGetVersion(runtime) == cudaSuccess;
    TORCH_CHECK(told, "the CUDA runtime does not tell its version");
  });
}

int device_count(int32_t* count) {
  return guarded([&] { *count = c10::cuda::device_count_ensure_non_zero(); });
}

int device(int32_t index, flatmin_device* out) {
  return guarded([&] {
    cudaDeviceProp properties;
    C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, checked(index)));
    std::snprintf(out->name, sizeof out->name, "%s", properties.name);
    out->memory = properties.totalGlobalMem;
    out->major = properties.major;
    out->minor = properties.minor;
    out->processors = properties.multiProcessorCount;
    out->l2_bytes = properties.l2CacheSize;
  });
}

int memory(int32_t index, flatmin_memory* out) {
  return guarded([&] {
    const auto statistics = allocator::getDeviceStats(checked(index));
    const auto& allocated = statistics.allocated_bytes[aggregate()];
    const auto& reserved = statistics.reserved_bytes[aggregate()];
    out->allocated = static_cast<uint64_t>(allocated.current);
    out->allocated_peak = static_cast<uint64_t>(allocated.peak);
    out->reserved = static_cast<uint64_t>(reserved.current);
    out->reserved_peak = static_cast<uint64_t>(reserved.peak);
    out->retries = static_cast<uint64_t>(statistics.num_alloc_retries);
  });
}

}  // namespace flatmin
