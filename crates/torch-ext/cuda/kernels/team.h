// Kernels in which 32 lanes work on one thing together: a filter, a channel, a row of logits.
//
// A kernel is a struct with
//   template <class Team> void run(const Team&, int64_t index) const;    for every index below `count`
// and a team offers sums over `n` terms, whose result every lane gets, and `lead()`, true for one lane.
#pragma once

#include "launch.h"

namespace flatmin::FLATMIN_SIDE {

#ifdef __CUDACC__

struct Team {
  int lane;

  __device__ bool lead() const { return lane == 0; }

  template <class Work>
  __device__ void each(int64_t n, Work&& work) const {
    for (int64_t index = lane; index < n; index += kLanes) work(index);
  }

  template <class T, class Join, class Term>
  __device__ T reduce(int64_t n, T start, Join&& join, Term&& term) const {
    T value = start;
    for (int64_t index = lane; index < n; index += kLanes) value = join(value, term(index));
    return of_first_lane(join_lanes<kLanes>(value, join));
  }
};

// Four blocks to a multiprocessor leave registers enough; left alone, the compiler aims at more and spills.
template <class Kernel>
__global__ void __launch_bounds__(kThreads, 4) team_kernel(const __grid_constant__ Kernel kernel, int64_t count) {
  const int64_t index = blockIdx.x * static_cast<int64_t>(kThreads / kLanes) + threadIdx.x / kLanes;
  if (index < count) kernel.run(Team{static_cast<int>(threadIdx.x % kLanes)}, index);
}

template <class Kernel>
int teams(void* stream, int64_t count, const Kernel& kernel) {
  if (count == 0) return 0;
  const int64_t blocks = (count * kLanes + kThreads - 1) / kThreads;
  team_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel, count);
  return launched();
}

#else

struct Team {
  bool lead() const { return true; }

  template <class Work>
  void each(int64_t n, Work&& work) const {
    for (int64_t index = 0; index < n; ++index) work(index);
  }

  template <class T, class Join, class Term>
  T reduce(int64_t n, T start, Join&& join, Term&& term) const {
    T values[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      values[lane] = start;
      for (int64_t index = lane; index < n; index += kLanes) values[lane] = join(values[lane], term(index));
    }
    return join_lanes<kLanes>(values, join);
  }
};

template <class Kernel>
int teams(void*, int64_t count, const Kernel& kernel) {
  for (int64_t index = 0; index < count; ++index) kernel.run(Team{}, index);
  return 0;
}

#endif

template <class Team, class Term>
FLATMIN_BOTH double team_sum(const Team& team, int64_t n, Term&& term) {
  return team.reduce(n, 0.0, [](double a, double b) { return a + b; }, term);
}

}  // namespace flatmin::FLATMIN_SIDE
