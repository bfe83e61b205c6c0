//! What random layers draw on a device is what they draw on the CPU.

use super::*;
use crate::{Draw, Seed, channels_last, draw_like};

#[test]
fn draws_are_the_cpus() {
    let place = Place::twin();
    let memory = Tensor::from_slice(&[-3i64]);
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half] {
        let like = channels_last(&Tensor::zeros([7, 5, 11, 13], (kind, Device::Cpu))).unwrap();
        for draw in [Draw::Mask { keep: 0.7 }, Draw::Uniform { low: -1.0, high: 0.5 }] {
            for (seed, stream) in [(Seed::Value(9), 0), (Seed::Value(u64::MAX), 4), (Seed::Memory(&memory), 1)] {
                let found = place.draw_like(&like, seed, stream, draw).unwrap();
                assert_eq!(found.stride(), like.stride());
                assert_eq!(found, draw_like(&like, seed, stream, draw).unwrap(), "{kind:?} {draw:?} {seed:?}");
            }
        }
    }
}

#[test]
fn a_new_seed_in_the_same_memory_draws_anew() {
    let place = Place::twin();
    let (like, seed) = (numbers(1000, 1), Tensor::from_slice(&[5i64]));
    let mask = || place.draw_like(&like, Seed::Memory(&seed), 0, Draw::Mask { keep: 0.5 }).unwrap();
    let first = mask();
    assert_eq!(first, mask());
    let _ = seed.shallow_clone().fill_(6);
    assert_ne!(first, mask());
}
