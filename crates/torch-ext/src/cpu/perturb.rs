//! The ascent write: working = w + eps with eps = rho * T_w^2 g / norm2(T_w g) (Kwon 2021, equation 10 with p = 2), the
//! master arena left as it is.

use multiversion::multiversion;

use super::layout::{Geometry, Layout};
use super::memory::{CHUNK, fence, prefetch, should_stream, store};
use super::slab::{GradientTable, Real, Slab};
use crate::parallel_for;

/// What an ascent needs besides weights and gradients.
pub struct Perturbation<'a, T> {
    /// rho / norm for each parameter group.
    pub coefficients: &'a [f64],
    pub eta: f64,
    /// norm2(filter) + eta, as the norm pass left them.
    pub filter_scales: Slab<T>,
    /// Also sets the master to (w + eps) - eps, as implementations do that restore by subtraction.
    pub round_trip: bool,
}

/// Writes the perturbed weights of every segment that is perturbed and has a gradient; other segments stay.
pub fn perturb<T: Real>(
    layout: &Layout,
    master: Slab<T>,
    gradients: &GradientTable<'_, T>,
    working: Slab<T>,
    perturbation: &Perturbation<'_, T>,
) {
    // SAFETY: the norm pass that wrote the scales is over.
    let filter_scales = unsafe { perturbation.filter_scales.all() };
    let blocks = layout.blocks();
    parallel_for(blocks.len(), |index| {
        let block = &blocks[index];
        let segment = layout.segment_of(block);
        if !segment.perturbed {
            return;
        }
        let Some(gradient) = gradients.block(block.segment, block.local.clone()) else { return };
        let coefficient = T::of(perturbation.coefficients[segment.group]);
        // SAFETY: blocks are disjoint, master and working are different arenas.
        let (weights, out) = unsafe { (master.read(block.global.clone()), working.write(block.global.clone())) };
        let stream = should_stream(out, working.len());
        match segment.geometry {
            Geometry::Plain => plain(weights, gradient, out, coefficient, stream),
            Geometry::Element => element(weights, gradient, out, coefficient, T::of(perturbation.eta), stream),
            Geometry::Filter { len } => {
                let filters = out.chunks_exact_mut(len).zip(weights.chunks_exact(len)).zip(gradient.chunks_exact(len));
                for (((out, weights), gradient), &scale) in filters.zip(&filter_scales[block.first_filter..]) {
                    plain(weights, gradient, out, coefficient * scale * scale, false);
                }
            }
        }
        if perturbation.round_trip {
            // SAFETY: as above; `weights` is not used any more.
            let master = unsafe { master.write(block.global.clone()) };
            let eta = T::of(perturbation.eta);
            for (index, ((w, &moved), &g)) in master.iter_mut().zip(&*out).zip(gradient).enumerate() {
                let scale = match segment.geometry {
                    Geometry::Plain => T::one(),
                    Geometry::Element => w.abs() + eta,
                    Geometry::Filter { len } => filter_scales[block.first_filter + index / len],
                };
                *w = moved - coefficient * scale * scale * g;
            }
        }
    });
}

/// One chunk of each array at a time, so that results can be streamed.
#[inline(always)]
fn each<T: Real>(weights: &[T], gradient: &[T], out: &mut [T], stream: bool, formula: impl Fn(T, T) -> T) {
    let inputs = weights.chunks(CHUNK).zip(gradient.chunks(CHUNK));
    for (out, (weights, gradient)) in out.chunks_mut(CHUNK).zip(inputs) {
        prefetch(weights);
        prefetch(gradient);
        let mut values = [T::zero(); CHUNK];
        for ((value, &w), &g) in values.iter_mut().zip(weights).zip(gradient) {
            *value = formula(w, g);
        }
        store(out, &values, stream);
    }
    fence();
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn plain<T: Real>(weights: &[T], gradient: &[T], out: &mut [T], coefficient: T, stream: bool) {
    each(weights, gradient, out, stream, |w, g| w + coefficient * g);
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn element<T: Real>(weights: &[T], gradient: &[T], out: &mut [T], coefficient: T, eta: T, stream: bool) {
    each(weights, gradient, out, stream, |w, g| {
        let scale = w.abs() + eta;
        w + coefficient * scale * scale * g
    });
}
