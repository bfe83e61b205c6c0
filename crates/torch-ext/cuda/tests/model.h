// Segments of arenas, cut into blocks as crates/torch-ext/src/cuda/cut.rs does.
#pragma once

#include <algorithm>

#include "side.h"

namespace flatmin::test {

struct Arena {
  std::vector<flatmin_segment> segments;
  std::vector<flatmin_block> blocks;
  int64_t len = 0;
  int64_t filters = 0;

  // Lays another segment behind the others.
  flatmin_segment& add(int64_t count, int32_t geometry, int64_t filter) {
    segments.push_back({len, count, filter, filters, geometry, 0, 1, 0});
    len = (len + count + 31) / 32 * 32;
    filters += filter == 0 ? 0 : count / filter;
    return segments.back();
  }

  flatmin_cut cut(Side& side) {
    for (size_t index = 0; index < segments.size(); ++index) {
      const auto& segment = segments[index];
      const int64_t most = block_len(side->block_len, segment.filter);
      for (int64_t start = 0; start < segment.len; start += most) {
        const int64_t left = segment.len - start;
        blocks.push_back({start, static_cast<int32_t>(std::min(most, left)), static_cast<int32_t>(index)});
      }
    }
    return {side.copy(segments), side.copy(blocks), static_cast<int32_t>(segments.size()),
            static_cast<int32_t>(blocks.size())};
  }

  static int64_t block_len(int64_t most, int64_t filter) {
    if (filter == 0) return most;
    const int64_t fit = std::max<int64_t>(1, most / filter);
    return (fit < 8 ? fit : fit / 8 * 8) * filter;
  }
};

}  // namespace flatmin::test
