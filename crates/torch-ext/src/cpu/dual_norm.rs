//! norm_q(T_w g) over all perturbed parameters jointly, for balls of other norms than the 2-norm: 1/p + 1/q = 1.

use multiversion::multiversion;

use super::blend::Blend;
use super::layout::{Block, Geometry, Layout};
use super::power::raise;
use super::reduce::reduce;
use super::scratch::Scratch;
use super::slab::{Real, Slab};

/// A norm in units of the largest magnitude, so that powers neither overflow nor vanish.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DualNorm {
    /// max |h|.
    pub largest: f64,
    /// norm_q(h) / max |h|; 0 for h = 0.
    pub relative: f64,
}

#[derive(Clone, Copy, Default)]
struct Largest(f64);

impl std::ops::Add for Largest {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }
}

/// Two passes: the largest magnitude, then the sum of powers. Gradients must be finite, and `filter_scales` filled by
/// [`super::gradient_norms`].
pub fn dual_norm<T: Real>(
    layout: &Layout,
    weights: Slab<T>,
    gradient: &Blend<'_, T>,
    eta: f64,
    filter_scales: Slab<T>,
    q: f64,
) -> DualNorm {
    let of = |block: &Block| {
        let segment = layout.segment_of(block);
        let gradient = segment.perturbed.then(|| gradient.block(layout, block)).flatten()?;
        // SAFETY: weights are only read, and the norm pass that wrote the scales is over.
        let (weights, scales) = unsafe { (weights.read(block.global.clone()), filter_scales.all()) };
        let mut h = Scratch::<f64>::new(weights.len());
        match segment.geometry {
            Geometry::Plain => magnitudes(&mut h, &gradient, 1.0),
            Geometry::Element => magnitudes_by_element(&mut h, &gradient, weights, eta),
            Geometry::Filter { len } => {
                let filters = h.chunks_mut(len).zip(gradient.chunks(len)).zip(&scales[block.first_filter..]);
                filters.for_each(|((h, gradient), scale)| magnitudes(h, gradient, scale.wide()));
            }
        }
        Some(h)
    };
    let Largest(largest) = reduce(layout, |block| Largest(of(block).map_or(0.0, |h| maximum(&h))));
    if largest == 0.0 {
        return DualNorm { largest, relative: 0.0 };
    }
    let sum = reduce(layout, |block| {
        let Some(mut h) = of(block) else { return 0.0 };
        h.iter_mut().for_each(|h| *h /= largest);
        raise(&mut h, q);
        h.iter().sum::<f64>()
    });
    DualNorm { largest, relative: sum.powf(1.0 / q) }
}

/// |t g|.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn magnitudes<T: Real>(h: &mut [f64], gradient: &[T], scale: f64) {
    for (h, g) in h.iter_mut().zip(gradient) {
        *h = (scale * g.wide()).abs();
    }
}

/// |(|w| + eta) g|.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn magnitudes_by_element<T: Real>(h: &mut [f64], gradient: &[T], weights: &[T], eta: f64) {
    for ((h, g), w) in h.iter_mut().zip(gradient).zip(weights) {
        *h = ((w.wide().abs() + eta) * g.wide()).abs();
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn maximum(values: &[f64]) -> f64 {
    let mut lanes = [0.0_f64; 16];
    for values in values.chunks(lanes.len()) {
        for (lane, &value) in lanes.iter_mut().zip(values) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.into_iter().fold(0.0, f64::max)
}
