//! The descent write of stochastic gradient descent, with PyTorch's meaning of every option.

use multiversion::multiversion;

use super::blend::Blend;
use super::descent::{Descent, descend};
use super::layout::Layout;
use super::memory::{CHUNK, prefetch};
use super::slab::{HalfSlab, Real, Slab};

/// Options of one parameter group:
/// `d = g + weight_decay w; b = momentum b + (1 - dampening) d; w -= lr (nesterov ? d + momentum b : b)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    pub lr: f64,
    pub momentum: f64,
    pub dampening: f64,
    pub weight_decay: f64,
    /// `w -= lr weight_decay w` apart from the momentum, and `d = g` (Loshchilov and Hutter 2019, algorithm 1).
    pub decoupled: bool,
    pub nesterov: bool,
}

/// Steps every segment that has a gradient, and rounds the weights of 16 bits anew.
///
/// `steps` has one entry for each group; `first` says of each segment whether its momentum is still unset (it then starts
/// as d, not dampened, as in PyTorch). `momentum` may be absent when no group uses it.
pub fn sgd<T: Real>(
    layout: &Layout,
    master: Slab<T>,
    half: Option<HalfSlab>,
    momentum: Option<Slab<T>>,
    gradient: &Blend<'_, T>,
    steps: &[SgdStep],
    first: &[bool],
) {
    descend(layout, master, half, gradient, |descent| {
        let Descent { block, group, weights, gradient } = descent;
        let step = &steps[group];
        let (shrink, decay) = match step.decoupled {
            true => (1.0 - step.lr * step.weight_decay, 0.0),
            false => (1.0, step.weight_decay),
        };
        let rates = Rates { lr: T::of(step.lr), shrink: T::of(shrink), decay: T::of(decay) };
        let buffer = match momentum {
            // SAFETY: blocks are disjoint; momentum is an arena of its own.
            Some(momentum) if step.momentum != 0.0 => unsafe { momentum.write(block.global.clone()) },
            _ => &mut [],
        };
        let arrays = Arrays { weights, buffer, gradient };
        if arrays.buffer.is_empty() {
            return without_momentum(arrays, rates);
        }
        // An unset momentum counts as zero, and the first d enters undamped.
        let (keep, enter) = match first[block.segment] {
            true => (T::zero(), T::one()),
            false => (T::of(step.momentum), T::of(1.0 - step.dampening)),
        };
        match step.nesterov {
            false => with_momentum(arrays, rates, keep, enter),
            true => with_nesterov(arrays, rates, keep, enter, T::of(step.momentum)),
        }
    });
}

/// One block of every arena; `buffer` is empty without momentum.
struct Arrays<'a, T> {
    weights: &'a mut [T],
    buffer: &'a mut [T],
    gradient: &'a [T],
}

#[derive(Clone, Copy)]
struct Rates<T> {
    lr: T,
    /// 1, or what decoupled decay leaves of a weight.
    shrink: T,
    decay: T,
}

/// What one element does: weight, momentum and gradient in, weight and momentum out.
#[inline(always)]
fn each<T: Real>(arrays: Arrays<'_, T>, formula: impl Fn(T, T, T) -> (T, T)) {
    let Arrays { weights, buffer, gradient } = arrays;
    let mut buffers = buffer.chunks_mut(CHUNK);
    for (weights, gradient) in weights.chunks_mut(CHUNK).zip(gradient.chunks(CHUNK)) {
        prefetch(weights);
        prefetch(gradient);
        match buffers.next() {
            Some(buffer) => {
                prefetch(buffer);
                for ((w, b), &g) in weights.iter_mut().zip(buffer).zip(gradient) {
                    (*w, *b) = formula(*w, *b, g);
                }
            }
            None => {
                for (w, &g) in weights.iter_mut().zip(gradient) {
                    *w = formula(*w, T::zero(), g).0;
                }
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn without_momentum<T: Real>(arrays: Arrays<'_, T>, rates: Rates<T>) {
    let Rates { lr, shrink, decay } = rates;
    each(arrays, |w, b, g| (shrink * w - lr * (g + decay * w), b));
}

/// `keep` and `enter` weigh the old momentum and the new d.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn with_momentum<T: Real>(arrays: Arrays<'_, T>, rates: Rates<T>, keep: T, enter: T) {
    let Rates { lr, shrink, decay } = rates;
    each(arrays, |w, b, g| {
        let next = keep * b + enter * (g + decay * w);
        (shrink * w - lr * next, next)
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn with_nesterov<T: Real>(arrays: Arrays<'_, T>, rates: Rates<T>, keep: T, enter: T, momentum: T) {
    let Rates { lr, shrink, decay } = rates;
    each(arrays, |w, b, g| {
        let d = g + decay * w;
        let next = keep * b + enter * d;
        (shrink * w - lr * (d + momentum * next), next)
    });
}
