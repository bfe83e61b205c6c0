//! The descent write of stochastic gradient descent, with PyTorch's meaning of every option, restoring the working
//! weights on the way.

use multiversion::multiversion;

use super::descent::{Descent, descend};
use super::layout::Layout;
use super::memory::{CHUNK, fence, prefetch, store};
use super::slab::{GradientTable, Real, Slab};

/// Options of one parameter group:
/// `d = g + weight_decay w; b = momentum b + (1 - dampening) d; w -= lr (nesterov ? d + momentum b : b)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    pub lr: f64,
    pub momentum: f64,
    pub dampening: f64,
    pub weight_decay: f64,
    pub nesterov: bool,
}

/// Steps every segment that has a gradient and sets working = master everywhere.
///
/// `steps` has one entry for each group; `first` says of each segment whether its momentum is still unset (it then starts
/// as d, not dampened, as in PyTorch). `momentum` may be absent when no group uses it.
pub fn sgd<T: Real>(
    layout: &Layout,
    master: Slab<T>,
    working: Slab<T>,
    momentum: Option<Slab<T>>,
    gradients: &GradientTable<'_, T>,
    steps: &[SgdStep],
    first: &[bool],
) {
    descend(layout, master, working, gradients, |descent| {
        let Descent { block, group, weights, working, gradient, stream } = descent;
        let step = &steps[group];
        let (lr, decay) = (T::of(step.lr), T::of(step.weight_decay));
        let buffer = match momentum {
            // SAFETY: blocks are disjoint; momentum is an arena of its own.
            Some(momentum) if step.momentum != 0.0 => unsafe { momentum.write(block.global.clone()) },
            _ => &mut [],
        };
        let arrays = Arrays { weights, working, buffer, gradient, stream };
        if arrays.buffer.is_empty() {
            return without_momentum(arrays, lr, decay);
        }
        // An unset momentum counts as zero, and the first d enters undamped.
        let (keep, enter) = match first[block.segment] {
            true => (T::zero(), T::one()),
            false => (T::of(step.momentum), T::of(1.0 - step.dampening)),
        };
        match step.nesterov {
            false => with_momentum(arrays, lr, decay, keep, enter),
            true => with_nesterov(arrays, lr, decay, keep, enter, T::of(step.momentum)),
        }
    });
}

/// What one element does: weight, momentum and gradient in, weight and momentum out.
#[inline(always)]
fn each<T: Real>(arrays: Arrays<'_, T>, formula: impl Fn(T, T, T) -> (T, T)) {
    let Arrays { weights, working, buffer, gradient, stream } = arrays;
    let chunks = weights.chunks_mut(CHUNK).zip(working.chunks_mut(CHUNK)).zip(gradient.chunks(CHUNK));
    let mut buffers = buffer.chunks_mut(CHUNK);
    for ((weights, working), gradient) in chunks {
        prefetch(weights);
        prefetch(gradient);
        let mut next = [T::zero(); CHUNK];
        match buffers.next() {
            Some(buffer) => {
                prefetch(buffer);
                for (((next, w), b), &g) in next.iter_mut().zip(&mut *weights).zip(buffer).zip(gradient) {
                    (*next, *b) = formula(*w, *b, g);
                    *w = *next;
                }
            }
            None => {
                for ((next, w), &g) in next.iter_mut().zip(&mut *weights).zip(gradient) {
                    *next = formula(*w, T::zero(), g).0;
                    *w = *next;
                }
            }
        }
        store(working, &next, stream);
    }
    fence();
}

/// One block of every arena; `buffer` is empty without momentum.
struct Arrays<'a, T> {
    weights: &'a mut [T],
    working: &'a mut [T],
    buffer: &'a mut [T],
    gradient: &'a [T],
    stream: bool,
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn without_momentum<T: Real>(arrays: Arrays<'_, T>, lr: T, decay: T) {
    each(arrays, |w, b, g| (w - lr * (g + decay * w), b));
}

/// `keep` and `enter` weigh the old momentum and the new d.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn with_momentum<T: Real>(arrays: Arrays<'_, T>, lr: T, decay: T, keep: T, enter: T) {
    each(arrays, |w, b, g| {
        let next = keep * b + enter * (g + decay * w);
        (w - lr * next, next)
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn with_nesterov<T: Real>(arrays: Arrays<'_, T>, lr: T, decay: T, keep: T, enter: T, momentum: T) {
    each(arrays, |w, b, g| {
        let d = g + decay * w;
        let next = keep * b + enter * d;
        (w - lr * (d + momentum * next), next)
    });
}
