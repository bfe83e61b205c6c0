// One side of a comparison, the GPU or its twin: kernels, memory, launches. Needs nothing but the CUDA runtime.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../flatmin_cuda.h"

namespace flatmin::test {

// Leaves outputs and scratch on the GPU as they are allocated. Else they are filled, differently on both sides, so that what is
// read before it was written shows.
inline bool leave_uninitialised = false;

class Side {
 public:
  static Side device(const char* name) { return {*flatmin_cuda_kernels(), true, name}; }
  static Side twin(const char* name) { return {*flatmin_twin_kernels(), false, name}; }

  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  ~Side() {
    for (void* block : blocks_) on_device_ ? static_cast<void>(cudaFree(block)) : std::free(block);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  const flatmin_kernels* operator->() const { return &kernels_; }
  cudaStream_t stream() const { return stream_; }

  void check(int status) const {
    if (status != 0) give_up(kernels_.last_error());
  }

  void check(cudaError_t status) const {
    if (status != cudaSuccess) give_up(cudaGetErrorString(status));
  }

  // Of exactly this size: memcheck then sees what runs over the end.
  template <class T>
  T* room(size_t count) {
    T* block = allocate<T>(count);
    if (!on_device_) fill(block, 0, count);
    if (on_device_ && !leave_uninitialised) fill(block, 0xff, count);
    return block;
  }

  template <class T>
  T* zeros(size_t count) {
    T* block = allocate<T>(count);
    fill(block, 0, count);
    return block;
  }

  template <class T>
  T* copy(const std::vector<T>& values) {
    T* block = allocate<T>(values.size());
    const size_t bytes = values.size() * sizeof(T);
    if (on_device_) {
      check(cudaMemcpy(block, values.data(), bytes, cudaMemcpyHostToDevice));
    } else {
      std::memcpy(block, values.data(), bytes);
    }
    return block;
  }

  // Waits for the kernels.
  template <class T>
  std::vector<T> read(const T* from, size_t count) const {
    std::vector<T> values(count);
    if (on_device_) {
      check(cudaDeviceSynchronize());
      check(cudaMemcpy(values.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost));
    } else {
      std::memcpy(values.data(), from, count * sizeof(T));
    }
    return values;
  }

  flatmin_scratch scratch(int64_t doubles, int64_t counters = 1) {
    return {room<double>(static_cast<size_t>(doubles)), zeros<uint32_t>(static_cast<size_t>(counters))};
  }

  // Does `work` so many times; on the GPU it is captured once and replayed.
  template <class Work>
  void replay(int times, Work&& work) const {
    if (!on_device_) {
      for (int time = 0; time < times; ++time) work();
      return;
    }
    const cudaGraphExec_t graph = capture(work);
    for (int time = 0; time < times; ++time) check(cudaGraphLaunch(graph, stream_));
    check(cudaDeviceSynchronize());
    check(cudaGraphExecDestroy(graph));
  }

  template <class Work>
  cudaGraphExec_t capture(Work&& work) const {
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    work();
    check(cudaStreamEndCapture(stream_, &graph));
    check(cudaGraphInstantiate(&executable, graph, 0));
    check(cudaGraphDestroy(graph));
    return executable;
  }

 private:
  Side(const flatmin_kernels& kernels, bool on_device, const char* name)
      : kernels_(kernels), on_device_(on_device), name_(name) {
    if (on_device_) check(cudaStreamCreate(&stream_));
  }

  [[noreturn]] void give_up(const char* why) const {
    std::fprintf(stderr, "%s: %s\n", name_, why);
    std::exit(1);
  }

  template <class T>
  T* allocate(size_t count) {
    void* block = nullptr;
    if (on_device_) {
      check(cudaMalloc(&block, count * sizeof(T)));
    } else {
      // Aligned as the device's.
      block = std::aligned_alloc(256, (count * sizeof(T) + 255) / 256 * 256);
      if (block == nullptr) give_up("out of memory");
    }
    blocks_.push_back(block);
    return static_cast<T*>(block);
  }

  template <class T>
  void fill(T* block, int byte, size_t count) const {
    if (on_device_) {
      check(cudaMemset(block, byte, count * sizeof(T)));
    } else {
      std::memset(static_cast<void*>(block), byte, count * sizeof(T));
    }
  }

  const flatmin_kernels& kernels_;
  bool on_device_;
  const char* name_;
  cudaStream_t stream_ = nullptr;
  std::vector<void*> blocks_;
};

}  // namespace flatmin::test
