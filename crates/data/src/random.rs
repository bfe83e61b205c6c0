//! Random streams derived from (seed, purpose, epoch, index), so that no draw depends on what was
//! drawn before it or on which thread draws.
//!
//! The four words are folded by SplitMix64 (Steele, Lea and Flood 2014): the state starts as the
//! seed, and for each of purpose, epoch, index it becomes `next(state) ^ word`. Four further
//! outputs are the key of a ChaCha8 stream. Ranges and shuffles are written out here instead of
//! taken from `rand`, whose results may change between its versions.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a stream is for: two purposes with the same seed share no numbers.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    Order = 1,
    Augment = 2,
    Split = 3,
    LabelNoise = 4,
    Replace = 5,
}

struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// One stream of random numbers.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> Self {
        let mut mixer = SplitMix64(seed);
        for word in [purpose as u64, epoch, index] {
            mixer.0 = mixer.next() ^ word;
        }
        let mut key = [0u8; 32];
        for part in key.chunks_exact_mut(8) {
            part.copy_from_slice(&mixer.next().to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number in `0..bound`, by multiplication and shift (bias below `bound / 2^64`).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A number from `low` to `high`, uniformly, of 53 random bits.
    pub(crate) fn between(&mut self, (low, high): (f64, f64)) -> f64 {
        low + (high - low) * ((self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// True with probability `share`.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.between((0.0, 1.0)) < share
    }

    /// Fisher-Yates permutation of `0..count`.
    pub(crate) fn permutation(&mut self, count: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count as u32).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_the_published_values() {
        let mut mixer = SplitMix64(1_234_567);
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(published.map(|_| mixer.next()), published);
    }

    #[test]
    fn each_word_changes_the_stream() {
        let first = |seed, purpose, epoch, index| Stream::new(seed, purpose, epoch, index).below(1 << 60);
        let draws = [
            first(1, Purpose::Order, 0, 0),
            first(2, Purpose::Order, 0, 0),
            first(1, Purpose::Augment, 0, 0),
            first(1, Purpose::Order, 1, 0),
            first(1, Purpose::Order, 0, 1),
        ];
        let distinct: std::collections::HashSet<_> = draws.iter().collect();
        assert_eq!(distinct.len(), draws.len());
        assert_eq!(draws[0], first(1, Purpose::Order, 0, 0));
    }

    #[test]
    fn below_is_uniform_and_permutations_move_every_place() {
        let mut stream = Stream::new(7, Purpose::Split, 0, 0);
        let mut counts = [0i64; 5];
        for _ in 0..50_000 {
            counts[stream.below(5)] += 1;
        }
        // Five standard deviations of a binomial count with p = 1/5.
        assert!(counts.iter().all(|c| (c - 10_000).abs() < 450), "{counts:?}");

        let mut first_place = [0i64; 6];
        for epoch in 0..6_000 {
            let order = Stream::new(7, Purpose::Order, epoch, 0).permutation(6);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
            first_place[order[0] as usize] += 1;
        }
        assert!(first_place.iter().all(|c| (c - 1_000).abs() < 150), "{first_place:?}");
    }
}
