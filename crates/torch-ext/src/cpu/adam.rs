//! The descent write of Adam (Kingma and Ba 2015, algorithm 1) and AdamW (Loshchilov and Hutter 2019, algorithm 2).

use multiversion::multiversion;

use super::blend::Blend;
use super::descent::{Descent, descend};
use super::layout::Layout;
use super::memory::{CHUNK, prefetch};
use super::slab::{HalfSlab, Real, Slab};

/// Options of one parameter group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// True for AdamW: `w -= lr weight_decay w` apart from the moments; false adds `weight_decay w` to the gradient.
    pub decoupled: bool,
}

/// Steps every segment that has a gradient, and rounds the weights of 16 bits anew.
///
/// `steps` has one entry for each group; `counts` says of each segment the how-manieth step this is, from 1.
#[allow(clippy::too_many_arguments)] // Four arenas, their gradients and two tables.
pub fn adam<T: Real>(
    layout: &Layout,
    master: Slab<T>,
    half: Option<HalfSlab>,
    first_moment: Slab<T>,
    second_moment: Slab<T>,
    gradient: &Blend<'_, T>,
    steps: &[AdamStep],
    counts: &[u64],
) {
    descend(layout, master, half, gradient, |descent| {
        let Descent { block, group, weights, gradient } = descent;
        let range = || block.global.clone();
        // SAFETY: blocks are disjoint; the moments are arenas of their own.
        let moments = unsafe { (first_moment.write(range()), second_moment.write(range())) };
        update(weights, moments, gradient, &Rates::new(&steps[group], counts[block.segment]));
    });
}

/// The numbers of one update, bias corrections worked in.
struct Rates<T> {
    shrink: T,
    decay: T,
    enter1: T,
    keep2: T,
    enter2: T,
    size: T,
    correction: T,
    eps: T,
}

impl<T: Real> Rates<T> {
    fn new(step: &AdamStep, count: u64) -> Self {
        let exponent = count as f64;
        let (correction1, correction2) = (1.0 - step.beta1.powf(exponent), 1.0 - step.beta2.powf(exponent));
        let (shrink, decay) = match step.decoupled {
            true => (1.0 - step.lr * step.weight_decay, 0.0),
            false => (1.0, step.weight_decay),
        };
        Self {
            shrink: T::of(shrink),
            decay: T::of(decay),
            enter1: T::of(1.0 - step.beta1),
            keep2: T::of(step.beta2),
            enter2: T::of(1.0 - step.beta2),
            size: T::of(step.lr / correction1),
            correction: T::of(correction2.sqrt()),
            eps: T::of(step.eps),
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn update<T: Real>(weights: &mut [T], moments: (&mut [T], &mut [T]), gradient: &[T], rates: &Rates<T>) {
    let moments = moments.0.chunks_mut(CHUNK).zip(moments.1.chunks_mut(CHUNK));
    let chunks = weights.chunks_mut(CHUNK).zip(moments).zip(gradient.chunks(CHUNK));
    for ((weights, (m, v)), gradient) in chunks {
        prefetch(weights);
        prefetch(m);
        prefetch(v);
        prefetch(gradient);
        for (((w, m), v), &g) in weights.iter_mut().zip(m).zip(v).zip(gradient) {
            let d = g + rates.decay * *w;
            *m += rates.enter1 * (d - *m);
            *v = rates.keep2 * *v + rates.enter2 * d * d;
            *w = *w * rates.shrink - rates.size * *m / (v.sqrt() / rates.correction + rates.eps);
        }
    }
}
