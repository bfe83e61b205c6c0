//! One seed a run, many streams: each use derives its own seed, so that adding one does not shift the others.

/// The seed of the dropout masks of a step; both passes of the step share it.
pub fn mask_seed(seed: u64, step: u64) -> u64 {
    mix(mix(seed ^ 0x6d61_736b).wrapping_add(step))
}

/// The seed of what is drawn to mix a batch.
pub fn mix_seed(seed: u64, epoch: u64, batch: u64) -> u64 {
    mix(mix(mix(seed ^ 0x6d69_7875_7000).wrapping_add(epoch)).wrapping_add(batch))
}

/// SplitMix64's output function: neighbouring inputs give unrelated outputs.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_seeds_have_streams_of_their_own() {
        let mut seen = std::collections::HashSet::new();
        assert!((0..50).all(|seed| (0..50).all(|step| seen.insert(mask_seed(seed, step)))));
        assert_eq!(mask_seed(3, 4), mask_seed(3, 4));
    }
}
