// Two sums a channel over all rows of a channels-last activation, and what follows from them, in one launch: blocks of rows, and the last
// block that is through with a tile of channels adds its blocks.
//
// A kernel is a struct with
//   kWidth; using Sums = PackSums<Real, kWidth>;                               rows are whole packs of this width
//   kBlocks;                                                                   that a multiprocessor has registers for
//   struct Constants;  Constants constants(int channel) const;                 of a pack's channels
//   struct Loaded;  Loaded load(int64_t start) const;                          what memory holds of the pack that starts there
//   void add(const Constants&, const Loaded&, Sums&) const;
// and `finish(channel, first, second)` gets each channel's sums.
#pragma once

#include "launch.h"

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
    // 128 bytes side by side are enough: with more, few threads would be left to add the blocks of a channel.
    const int widest = width > 1 ? 8 : kLanes;
    while (columns < widest && columns < packs) columns *= 2;
    // Few idle threads where the packs of a row are no power of two.
    while (columns > 4 && packs % columns != 0) columns /= 2;
    tiles = (packs + columns - 1) / columns;
    const int64_t enough = (rows + kRowsOfThread * lines() - 1) / (kRowsOfThread * lines());
    int64_t most = kMostBlocks / tiles > 1 ? kMostBlocks / tiles : 1;
    if (most > kSlicesOfAdder * parts()) most = kSlicesOfAdder * parts();
    slices = static_cast<int>(enough < 1 ? 1 : enough < most ? enough : most);
    slice_rows = (rows + slices - 1) / slices;
  }

  // Depends on the shape alone, so that sums do, too.
  static constexpr int64_t kRowsOfThread = 16;
  static constexpr int kMostBlocks = 1024;
  static constexpr int kSlicesOfAdder = 64;

  FLATMIN_BOTH int lines() const { return kThreads / columns; }
  FLATMIN_BOTH int tile_channels() const { return columns * width; }
  // Threads that add the blocks of one channel.
  FLATMIN_BOTH int parts() const { return kThreads / tile_channels(); }
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

// The channel of a thread that adds blocks, and which of them are its own: every `parts`th.
struct Adder {
  int64_t channel;
  int part;

  FLATMIN_BOTH Adder(const Grid& grid, int64_t tile, int thread)
      : channel(tile * grid.tile_channels() + thread % grid.tile_channels()), part(thread / grid.tile_channels()) {}

  FLATMIN_BOTH Sums<2> add(const Grid& grid, const double* partials) const {
    Sums<2> own = Sums<2>::zero();
    if (channel >= grid.channels) return own;
    const double* start = partials + channel;
    const int64_t row = grid.channels;
    add_ahead<4>(
        part, grid.slices, grid.parts(),
        [=](int slice) -> Sums<2> {
          return {{of_other_block(start + 2 * row * slice), of_other_block(start + 2 * row * slice + row)}};
        },
        [&](const Sums<2>& sums) { own.add(sums); });
    return own;
  }
};

#ifdef __CUDACC__

template <class Kernel, class Finish>
__global__ void __launch_bounds__(kThreads, Kernel::kBlocks)
    column_kernel(const __grid_constant__ Kernel kernel, const __grid_constant__ Grid grid,
                  const __grid_constant__ Finish finish, flatmin_scratch scratch) {
  using PackSums = typename Kernel::Sums;
  __shared__ PackSums sums[kThreads];
  __shared__ Sums<2> totals[kThreads];
  const int64_t tile = blockIdx.x, slice = blockIdx.y;
  sums[threadIdx.x] = add_rows(kernel, grid, tile, slice, threadIdx.x);
  __syncthreads();
  for (int half = kThreads / 2; half >= grid.columns; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x].add(sums[threadIdx.x + half]);
    __syncthreads();
  }
  if (threadIdx.x < grid.columns) {
    put_partials(grid, Kernel::kWidth, tile, slice, threadIdx.x, sums[threadIdx.x], scratch.partials);
  }
  if (!is_last_block(scratch.counter + tile, gridDim.y)) return;
  const Adder adder(grid, tile, threadIdx.x);
  totals[threadIdx.x] = adder.add(grid, scratch.partials);
  __syncthreads();
  for (int half = grid.parts() / 2; half > 0; half /= 2) {
    if (adder.part < half) totals[threadIdx.x].add(totals[threadIdx.x + half * grid.tile_channels()]);
    __syncthreads();
  }
  if (adder.part > 0 || adder.channel >= grid.channels) return;
  finish(static_cast<int>(adder.channel), totals[threadIdx.x].at[0], totals[threadIdx.x].at[1]);
}

template <class Kernel, class Finish>
int sum_rows(void* stream, const Grid& grid, const Kernel& kernel, const Finish& finish, const flatmin_scratch& scratch) {
  static_assert(kLanes * Kernel::kWidth <= kThreads, "a thread for each channel of a tile");
  const dim3 blocks(grid.tiles, grid.slices);
  column_kernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel, grid, finish, scratch);
  return launched();
}

#else

template <class Kernel, class Finish>
int sum_rows(void*, const Grid& grid, const Kernel& kernel, const Finish& finish, const flatmin_scratch& scratch) {
  typename Kernel::Sums sums[kThreads];
  Sums<2> totals[kThreads];
  for (int64_t tile = 0; tile < grid.tiles; ++tile) {
    for (int64_t slice = 0; slice < grid.slices; ++slice) {
      for (int thread = 0; thread < kThreads; ++thread) sums[thread] = add_rows(kernel, grid, tile, slice, thread);
      for (int half = kThreads / 2; half >= grid.columns; half /= 2) {
        for (int thread = 0; thread < half; ++thread) sums[thread].add(sums[thread + half]);
      }
      for (int column = 0; column < grid.columns; ++column) {
        put_partials(grid, Kernel::kWidth, tile, slice, column, sums[column], scratch.partials);
      }
    }
    for (int thread = 0; thread < kThreads; ++thread) totals[thread] = Adder(grid, tile, thread).add(grid, scratch.partials);
    for (int half = grid.parts() / 2; half > 0; half /= 2) {
      const int threads = half * grid.tile_channels();
      for (int thread = 0; thread < threads; ++thread) totals[thread].add(totals[thread + threads]);
    }
    for (int thread = 0; thread < grid.tile_channels(); ++thread) {
      const int64_t channel = Adder(grid, tile, thread).channel;
      if (channel < grid.channels) finish(static_cast<int>(channel), totals[thread].at[0], totals[thread].at[1]);
    }
  }
  return 0;
}

#endif

}  // namespace flatmin::FLATMIN_SIDE
