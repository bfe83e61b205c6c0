// Two sums a channel over all rows of a channels-last activation, in two launches: blocks of rows, then the blocks.
//
// A kernel of the first is a struct with
//   kWidth; using Sums = PackSums<Real, kWidth>;                               rows are whole packs of this width
//   kBlocks;                                                                   that a multiprocessor has registers for
//   struct Constants;  Constants constants(int channel) const;                 of a pack's channels
//   struct Loaded;  Loaded load(int64_t start) const;                          what memory holds of the pack that starts there
//   void add(const Constants&, const Loaded&, Sums&) const;
#pragma once

#include "team.h"

namespace flatmin::FLATMIN_SIDE {

// Rows are cut into slices, channels into tiles; a block has one of each. In a block `columns` threads side by side take the
// packs of a row, the others take further rows.
struct Grid {
  int64_t rows;
  int channels;
  int width;    // channels of a pack
  int columns;  // threads side by side, a power of two
  int tiles;
  int slices;
  int64_t slice_rows;

  Grid(int64_t rows, int channels, int width) : rows(rows), channels(channels), width(width) {
    const int packs = channels / width;
    columns = 1;
    while (columns < kLanes && columns < packs) columns *= 2;
    // Few idle threads where the packs of a row are no power of two.
    while (columns > 4 && packs % columns != 0) columns /= 2;
    tiles = (packs + columns - 1) / columns;
    const int64_t enough = (rows + kRowsOfThread * lines() - 1) / (kRowsOfThread * lines());
    const int64_t most = kMostBlocks / tiles > 1 ? kMostBlocks / tiles : 1;
    slices = static_cast<int>(enough < 1 ? 1 : enough < most ? enough : most);
    slice_rows = (rows + slices - 1) / slices;
  }

  // Depends on the shape alone, so that sums do, too.
  static constexpr int64_t kRowsOfThread = 16;
  static constexpr int kMostBlocks = 1024;

  FLATMIN_BOTH int lines() const { return kThreads / columns; }
  int64_t scratch() const { return static_cast<int64_t>(slices) * channels * 2; }
};

template <class T, int Width>
struct PackSums {
  Pack<T, Width> at[2];

  FLATMIN_BOTH void clear() {
    for (int index = 0; index < Width; ++index) at[0].at[index] = at[1].at[index] = 0;
  }

  FLATMIN_BOTH void add(const PackSums& other) {
    for (int index = 0; index < Width; ++index) {
      at[0].at[index] += other.at[0].at[index];
      at[1].at[index] += other.at[1].at[index];
    }
  }
};

// One thread's part: its rows, in order.
template <class Kernel>
FLATMIN_BOTH typename Kernel::Sums add_rows(const Kernel& kernel, const Grid& grid, int64_t tile, int64_t slice,
                                            int thread) {
  typename Kernel::Sums sums;
  sums.clear();
  const int channel = static_cast<int>(tile * grid.columns + thread % grid.columns) * Kernel::kWidth;
  if (channel >= grid.channels) return sums;
  const int64_t first = slice * grid.slice_rows;
  const int64_t end = first + grid.slice_rows < grid.rows ? first + grid.slice_rows : grid.rows;
  const auto constants = kernel.constants(channel);
  add_ahead<4>(
      first + thread / grid.columns, end, static_cast<int64_t>(grid.lines()),
      [&](int64_t row) { return kernel.load(row * grid.channels + channel); },
      [&](const typename Kernel::Loaded& loaded) { kernel.add(constants, loaded, sums); });
  return sums;
}

// `partials` is [slices, 2, channels].
template <class Sums>
FLATMIN_BOTH void put_partials(const Grid& grid, int width, int64_t tile, int64_t slice, int column, const Sums& sums,
                               double* partials) {
  const int channel = static_cast<int>(tile * grid.columns + column) * width;
  double* out = partials + slice * 2 * grid.channels;
  for (int index = 0; index < width && channel + index < grid.channels; ++index) {
    out[channel + index] = sums.at[0].at[index];
    out[grid.channels + channel + index] = sums.at[1].at[index];
  }
}

#ifdef __CUDACC__

template <class Kernel>
__global__ void __launch_bounds__(kThreads, Kernel::kBlocks)
    column_kernel(const __grid_constant__ Kernel kernel, const __grid_constant__ Grid grid, double* partials) {
  using Sums = typename Kernel::Sums;
  __shared__ Sums sums[kThreads];
  const int64_t tile = blockIdx.x, slice = blockIdx.y;
  sums[threadIdx.x] = add_rows(kernel, grid, tile, slice, threadIdx.x);
  __syncthreads();
  for (int half = kThreads / 2; half >= grid.columns; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x].add(sums[threadIdx.x + half]);
    __syncthreads();
  }
  if (threadIdx.x < grid.columns) {
    put_partials(grid, Kernel::kWidth, tile, slice, threadIdx.x, sums[threadIdx.x], partials);
  }
}

template <class Kernel>
int sum_rows(void* stream, const Grid& grid, const Kernel& kernel, double* partials) {
  const dim3 blocks(grid.tiles, grid.slices);
  column_kernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel, grid, partials);
  return launched();
}

#else

template <class Kernel>
int sum_rows(void*, const Grid& grid, const Kernel& kernel, double* partials) {
  typename Kernel::Sums sums[kThreads];
  for (int64_t tile = 0; tile < grid.tiles; ++tile) {
    for (int64_t slice = 0; slice < grid.slices; ++slice) {
      for (int thread = 0; thread < kThreads; ++thread) sums[thread] = add_rows(kernel, grid, tile, slice, thread);
      for (int half = kThreads / 2; half >= grid.columns; half /= 2) {
        for (int thread = 0; thread < half; ++thread) sums[thread].add(sums[thread + half]);
      }
      for (int column = 0; column < grid.columns; ++column) {
        put_partials(grid, Kernel::kWidth, tile, slice, column, sums[column], partials);
      }
    }
  }
  return 0;
}

#endif

// The second launch: `finish(channel, first, second)` of each channel's sums.
template <class Finish>
struct FinishColumns {
  const double* partials;
  int slices;
  int channels;
  Finish finish;

  template <class Team>
  FLATMIN_BOTH void run(const Team& team, int64_t channel) const {
    const double* start = partials + channel;
    const int64_t part = channels;
    const Sums<2> sums = team_sums<2>(team, slices, [=](int64_t slice) -> Sums<2> {
      return {{start[2 * part * slice], start[2 * part * slice + part]}};
    });
    if (team.lead()) finish(static_cast<int>(channel), sums.at[0], sums.at[1]);
  }
};

}  // namespace flatmin::FLATMIN_SIDE
