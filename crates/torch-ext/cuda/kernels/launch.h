// How a kernel runs: on the GPU as blocks of threads, in the twin as loops over the same blocks and threads in order.
//
// A kernel is a struct that is copied to where it runs:
//   struct Shared;                                   what one thread finds out for its block; has `int items`
//   void prepare(int64_t block, Shared&) const;
//   void item(const Shared&, int index) const;       for every index below `items`
// A kernel that ends with something for which all blocks must be through (`map_then`):
//   int last_items() const;  void last(int index) const;
// A kernel that sums (`sum`):
//   using Sum;  Sum item(const Shared&, int index) const;  void finish(const Sum&) const;   once, by one thread
// and where `prepare` answers `kNotWanted` items, in all blocks alike, the launch ends there, without `finish`.
#pragma once

#include <string>

#include "../flatmin_cuda.h"
#include "sums.h"

namespace flatmin::FLATMIN_SIDE {

constexpr int kThreads = 256;
constexpr int kNotWanted = -1;

// A kernel's answer to its caller; the message waits in `last_error`.
inline std::string& last_error() {
  thread_local std::string message;
  return message;
}

inline int fail(std::string message) {
  last_error() = std::move(message);
  return 1;
}

// What another block wrote: past the first-level cache, which does not know of it.
FLATMIN_BOTH double of_other_block(const double* number) {
#ifdef __CUDA_ARCH__
  return __ldcg(number);
#else
  return *number;
#endif
}

#ifdef __CUDACC__

inline int launched() {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return 0;
  return fail(std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")");
}

template <class Kernel>
__device__ void run_items(const Kernel& kernel, const typename Kernel::Shared& shared) {
  for (int index = threadIdx.x; index < shared.items; index += kThreads) kernel.item(shared, index);
}

// Whether this block is the last of so many to come here. The counter wraps to 0 by itself.
__device__ inline bool is_last_block(uint32_t* counter, unsigned blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = blocks == 1 || atomicInc(counter, blocks - 1) == blocks - 1;
  __syncthreads();
  __threadfence();
  return last;
}

template <class Kernel>
__global__ void __launch_bounds__(kThreads) map_kernel(const __grid_constant__ Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  if (threadIdx.x == 0) kernel.prepare(blockIdx.x, shared);
  __syncthreads();
  run_items(kernel, shared);
}

template <class Kernel>
__global__ void __launch_bounds__(kThreads) map_then_kernel(const __grid_constant__ Kernel kernel, uint32_t* counter) {
  __shared__ typename Kernel::Shared shared;
  if (threadIdx.x == 0) kernel.prepare(blockIdx.x, shared);
  __syncthreads();
  run_items(kernel, shared);
  if (!is_last_block(counter, gridDim.x)) return;
  for (int index = threadIdx.x; index < kernel.last_items(); index += kThreads) kernel.last(index);
}

// The sum of what the threads of a block bring, for its first thread: of each 32 lanes, then of these sums.
template <class Sum>
__device__ Sum block_sum(Sum own) {
  constexpr int kTeams = kThreads / kLanes;
  __shared__ Sum sums[kTeams];
  own = join_lanes<kLanes>(own, Add{});
  __syncthreads();
  if (threadIdx.x % kLanes == 0) sums[threadIdx.x / kLanes] = own;
  __syncthreads();
  return join_lanes<kTeams>(sums[threadIdx.x % kTeams], Add{});
}

template <class Sum>
__device__ Sum partial_of(const double* partials, int64_t block) {
  constexpr int kCount = sizeof(Sum) / sizeof(double);
  Sum sum;
  for (int index = 0; index < kCount; ++index) sum.at[index] = of_other_block(partials + block * kCount + index);
  return sum;
}

template <class Kernel>
__global__ void __launch_bounds__(kThreads) sum_kernel(const __grid_constant__ Kernel kernel, flatmin_scratch scratch) {
  using Sum = typename Kernel::Sum;
  __shared__ typename Kernel::Shared shared;
  if (threadIdx.x == 0) kernel.prepare(blockIdx.x, shared);
  __syncthreads();
  // All blocks leave or none: what they decide by is written by `finish`, once all came through the counter.
  if (shared.items == kNotWanted) return;
  Sum own = Sum::zero();
  for (int index = threadIdx.x; index < shared.items; index += kThreads) own.add(kernel.item(shared, index));
  Sum total = block_sum(own);
  if (threadIdx.x == 0) reinterpret_cast<Sum*>(scratch.partials)[blockIdx.x] = total;
  if (!is_last_block(scratch.counter, gridDim.x)) return;
  own = Sum::zero();
  add_ahead<4>(
      int64_t(threadIdx.x), int64_t(gridDim.x), int64_t(kThreads),
      [&](int64_t block) { return partial_of<Sum>(scratch.partials, block); }, [&](const Sum& sum) { own.add(sum); });
  total = block_sum(own);
  if (threadIdx.x == 0) kernel.finish(total);
}

template <class Kernel>
int map(void* stream, int64_t blocks, const Kernel& kernel) {
  if (blocks == 0) return 0;
  map_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  return launched();
}

template <class Kernel>
int map_then(void* stream, int64_t blocks, uint32_t* counter, const Kernel& kernel) {
  if (blocks == 0) return 0;
  map_then_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel, counter);
  return launched();
}

template <class Kernel>
int sum(void* stream, int64_t blocks, const flatmin_scratch& scratch, const Kernel& kernel) {
  if (blocks == 0) return 0;
  sum_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel, scratch);
  return launched();
}

#else

template <class Kernel>
int map(void*, int64_t blocks, const Kernel& kernel) {
  for (int64_t block = 0; block < blocks; ++block) {
    typename Kernel::Shared shared{};
    kernel.prepare(block, shared);
    for (int index = 0; index < shared.items; ++index) kernel.item(shared, index);
  }
  return 0;
}

template <class Kernel>
int map_then(void* stream, int64_t blocks, uint32_t*, const Kernel& kernel) {
  map(stream, blocks, kernel);
  for (int index = 0; index < kernel.last_items(); ++index) kernel.last(index);
  return 0;
}

// `term(index)` for every index below `count`, added as the threads of a block add.
template <class Sum, class Term>
Sum block_sum(int64_t count, Term&& term) {
  constexpr int kTeams = kThreads / kLanes;
  Sum sums[kTeams];
  for (int team = 0; team < kTeams; ++team) {
    Sum lanes[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = Sum::zero();
      for (int64_t index = team * kLanes + lane; index < count; index += kThreads) lanes[lane].add(term(index));
    }
    sums[team] = join_lanes<kLanes>(lanes, Add{});
  }
  return join_lanes<kTeams>(sums, Add{});
}

template <class Kernel>
int sum(void*, int64_t blocks, const flatmin_scratch& scratch, const Kernel& kernel) {
  using Sum = typename Kernel::Sum;
  Sum* partials = reinterpret_cast<Sum*>(scratch.partials);
  for (int64_t block = 0; block < blocks; ++block) {
    typename Kernel::Shared shared{};
    kernel.prepare(block, shared);
    if (shared.items == kNotWanted) return 0;
    partials[block] = block_sum<Sum>(shared.items, [&](int64_t index) { return kernel.item(shared, index); });
  }
  kernel.finish(block_sum<Sum>(blocks, [&](int64_t block) { return partials[block]; }));
  return 0;
}

#endif

// Something for a single thread to do: `work()`.
template <class Work>
struct Once {
  Work work;
  struct Shared {
    int items;
  };
  FLATMIN_BOTH void prepare(int64_t, Shared& shared) const { shared.items = 1; }
  FLATMIN_BOTH void item(const Shared&, int) const { work(); }
};

template <class Work>
int once(void* stream, const Work& work) {
  return map(stream, 1, Once<Work>{work});
}

// Calls `body` with a number of the format that an arena or tensor has.
template <class Body>
int with_real(int32_t number, Body&& body) {
  switch (number) {
    case FLATMIN_FLOAT32:
      return body(float());
    case FLATMIN_FLOAT64:
      return body(double());
    default:
      return fail("arenas are float32 or float64");
  }
}

template <class Body>
int with_stored(int32_t number, Body&& body) {
  switch (number) {
    case FLATMIN_FLOAT32:
      return body(float());
    case FLATMIN_FLOAT64:
      return body(double());
    case FLATMIN_BFLOAT16:
      return body(BFloat16());
    default:
      return fail("numbers are float32, float64 or bfloat16");
  }
}

}  // namespace flatmin::FLATMIN_SIDE
