// Random numbers that keep no state. Masks over weights and activations: SplitMix64 (Steele 2014) of a seed and an index, as in
// crates/torch-ext/src/cpu/mask.rs. Augmentation: the streams of crates/data/src/random.rs, where SplitMix64 folds seed, purpose, epoch
// and index into the key of ChaCha with 8 rounds (Bernstein 2008); one block of it, which is eight numbers, serves an image.
#pragma once

#include "number.h"

namespace flatmin::FLATMIN_SIDE {

constexpr uint64_t kAugment = 2;

struct SplitMix64 {
  uint64_t state;

  FLATMIN_BOTH uint64_t next() {
    state += 0x9E3779B97F4A7C15ull;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
};

// The bits that a seed and an index draw.
FLATMIN_BOTH uint64_t split_mix(uint64_t seed, uint64_t index) {
  return SplitMix64{seed + index * 0x9E3779B97F4A7C15ull}.next();
}

// The number that they draw, uniform in [0, 1).
FLATMIN_BOTH double uniform(uint64_t seed, uint64_t index) {
  return static_cast<double>(split_mix(seed, index) >> 11) / static_cast<double>(1ull << 53);
}

class RandomStream {
 public:
  FLATMIN_BOTH RandomStream(uint64_t seed, uint64_t purpose, uint64_t epoch, uint64_t index) : used_(0) {
    SplitMix64 mixer{seed};
    const uint64_t folded[3] = {purpose, epoch, index};
    for (const uint64_t word : folded) mixer.state = mixer.next() ^ word;
    uint32_t start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    for (int part = 0; part < 4; ++part) {
      const uint64_t key = mixer.next();
      start[4 + 2 * part] = static_cast<uint32_t>(key);
      start[5 + 2 * part] = static_cast<uint32_t>(key >> 32);
    }
    // Block counter and stream number stay 0.
    for (int word = 0; word < 16; ++word) words_[word] = start[word];
    for (int round = 0; round < 8; round += 2) {
      for (int column = 0; column < 4; ++column) quarter(column, 4 + column, 8 + column, 12 + column);
      for (int column = 0; column < 4; ++column) {
        quarter(column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4);
      }
    }
    for (int word = 0; word < 16; ++word) words_[word] += start[word];
  }

  // A number in 0..bound, by multiplication and shift. At most eight calls.
  FLATMIN_BOTH int below(int bound) {
    const uint64_t bits = words_[used_] | static_cast<uint64_t>(words_[used_ + 1]) << 32;
    used_ += 2;
    return static_cast<int>(static_cast<unsigned __int128>(bits) * static_cast<uint64_t>(bound) >> 64);
  }

 private:
  FLATMIN_BOTH void quarter(int a, int b, int c, int d) {
    mix(a, b, d, 16);
    mix(c, d, b, 12);
    mix(a, b, d, 8);
    mix(c, d, b, 7);
  }

  FLATMIN_BOTH void mix(int to, int from, int turned, int by) {
    words_[to] += words_[from];
    const uint32_t bits = words_[turned] ^ words_[to];
    words_[turned] = bits << by | bits >> (32 - by);
  }

  uint32_t words_[16];
  int used_;
};

}  // namespace flatmin::FLATMIN_SIDE
