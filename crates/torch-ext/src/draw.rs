//! What the random layers of a network draw: each number is a function of seed, stream and place (SplitMix64), so that no
//! state is kept and the same seed means the same on any number of threads and on a GPU
//! ([`crate::cuda::Place::draw_like`]).

use half::{bf16, f16};
use multiversion::multiversion;
use tch::{Device, Kind, Tensor};

use crate::cpu::{Number, Slab, split_mix, uniform};
use crate::error::{Error, Result};
use crate::parallel_for;

/// What is drawn for each element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Draw {
    /// 1 / keep with this probability, else 0: what dropout multiplies by.
    Mask { keep: f64 },
    /// Uniform in [low, high).
    Uniform { low: f64, high: f64 },
}

/// Where a seed is found.
#[derive(Debug, Clone, Copy)]
pub enum Seed<'a> {
    Value(u64),
    /// In a tensor (int64, one number), on a device in its own memory: a recorded step is then replayed with other seeds.
    Memory(&'a Tensor),
}

impl Seed<'_> {
    /// Waits for the device if it lies there.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn value(self) -> Result<u64> {
        match self {
            Self::Value(seed) => Ok(seed),
            Self::Memory(seed) => Ok(seed.f_int64_value(&[0])?.cast_unsigned()),
        }
    }
}

/// A tensor with the shape, layout, dtype and device of another, drawn on the CPU from a stream of the seed's; elements are
/// counted as they lie in memory.
///
/// # Errors
/// [`Error::Argument`] unless the dtype is a float of at least 16 bits.
pub fn draw_like(like: &Tensor, seed: Seed<'_>, stream: u64, draw: Draw) -> Result<Tensor> {
    let seed = split_mix(seed.value()?, stream);
    let mut out = like.f_detach()?.f_empty_like()?;
    let drawn = laid_out_as(&out, (out.kind(), Device::Cpu))?;
    match drawn.kind() {
        Kind::Float => fill(Slab::of(&drawn), seed, draw, |value| value as f32),
        Kind::Double => fill(Slab::of(&drawn), seed, draw, |value| value),
        Kind::BFloat16 => fill(Slab::of(&drawn), seed, draw, |value| bf16::from_f32(value as f32)),
        Kind::Half => fill(Slab::of(&drawn), seed, draw, |value| f16::from_f32(value as f32)),
        other => {
            let (found, expected) = (format!("dtype {other:?}"), "a float of 16 bits or more".to_owned());
            return Err(Error::Argument { what: "random numbers", found, expected });
        }
    }
    // Nothing if they are the same.
    out.f_copy_(&drawn)?;
    Ok(out)
}

/// Memory for what goes to `out`, in its layout, of another dtype or on another device; `out` itself if these are its own.
pub(crate) fn laid_out_as(out: &Tensor, options: (Kind, Device)) -> Result<Tensor> {
    if options == (out.kind(), out.device()) {
        return Ok(out.shallow_clone());
    }
    Ok(Tensor::f_empty_strided(out.size(), out.stride(), options)?)
}

fn fill<T: Number>(out: Slab<T>, seed: u64, draw: Draw, round: impl Fn(f64) -> T + Copy + Sync) {
    const BLOCK: usize = 16 << 10;
    parallel_for(out.len().div_ceil(BLOCK), |block| {
        let start = block * BLOCK;
        // SAFETY: blocks are disjoint, and the memory is new.
        let out = unsafe { out.write(start..(start + BLOCK).min(out.len())) };
        match draw {
            Draw::Mask { keep } => {
                let (kept, dropped) = (round(1.0 / keep), round(0.0));
                each(out, seed, start, |number| if number < keep { kept } else { dropped });
            }
            Draw::Uniform { low, high } => each(out, seed, start, |number| round(low + (high - low) * number)),
        }
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn each<T>(out: &mut [T], seed: u64, start: usize, of: impl Fn(f64) -> T) {
    for (index, out) in out.iter_mut().enumerate() {
        *out = of(uniform(seed, (start + index) as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels_last;

    #[test]
    fn numbers_follow_seed_stream_and_place() {
        let like = Tensor::zeros([3, 5, 7, 11], (Kind::Double, Device::Cpu));
        let draw = Draw::Uniform { low: -1.0, high: 3.0 };
        let drawn = draw_like(&like, Seed::Value(7), 2, draw).unwrap();
        let expected: Vec<f64> = (0..1155).map(|index| -1.0 + 4.0 * uniform(split_mix(7, 2), index)).collect();
        assert_eq!(drawn.view([-1]), Tensor::from_slice(&expected));
        assert_eq!(draw_like(&like, Seed::Memory(&Tensor::from_slice(&[7i64])), 2, draw).unwrap(), drawn);
        for (seed, stream) in [(7, 3), (8, 2), (7 + (1 << 32), 2)] {
            assert_ne!(draw_like(&like, Seed::Value(seed), stream, draw).unwrap(), drawn);
        }
        // Counted as they lie, whatever the shape.
        let last = draw_like(&channels_last(&like).unwrap(), Seed::Value(7), 2, draw).unwrap();
        assert_eq!(last.permute([0, 2, 3, 1]).reshape([-1]), Tensor::from_slice(&expected));
    }

    #[test]
    fn a_mask_keeps_a_share_and_the_mean() {
        let like = |kind| Tensor::zeros([100_000], (kind, Device::Cpu));
        let mask = |kind| draw_like(&like(kind), Seed::Value(1), 0, Draw::Mask { keep: 0.75 }).unwrap();
        let double = mask(Kind::Double);
        let kept = double.gt(0.0);
        assert_eq!(double, kept.to_kind(Kind::Double) / 0.75);
        assert!((double.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.01);
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            assert_eq!(mask(kind), double.to_kind(kind));
        }
        assert!(draw_like(&like(Kind::Int64), Seed::Value(1), 0, Draw::Mask { keep: 0.5 }).is_err());
    }
}
