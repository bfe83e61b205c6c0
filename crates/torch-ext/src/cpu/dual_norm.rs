//! norm_q(T_w g) over all perturbed parameters jointly, for balls of other norms than the 2-norm: 1/p + 1/q = 1.

use super::blend::Blend;
use super::layout::{Block, Geometry, Layout};
use super::reduce::reduce;
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
    // SAFETY: the norm pass that wrote the scales is over.
    let filter_scales = unsafe { filter_scales.all() };
    let fold = |block: &Block, start: f64, step: &dyn Fn(f64, f64) -> f64| {
        let segment = layout.segment_of(block);
        let Some(gradient) = gradient.block(layout, block).filter(|_| segment.perturbed) else { return start };
        let weights = unsafe { weights.read(block.global.clone()) };
        let scaled = weights.iter().zip(&*gradient).enumerate().map(|(index, (&w, &g))| {
            let scale = match segment.geometry {
                Geometry::Plain => 1.0,
                Geometry::Element => w.wide().abs() + eta,
                Geometry::Filter { len } => filter_scales[block.first_filter + index / len].wide(),
            };
            (scale * g.wide()).abs()
        });
        scaled.fold(start, step)
    };
    let Largest(largest) = reduce(layout, |block| Largest(fold(block, 0.0, &f64::max)));
    if largest == 0.0 {
        return DualNorm { largest, relative: 0.0 };
    }
    let sum = reduce(layout, |block| fold(block, 0.0, &|sum, h| sum + (h / largest).powf(q)));
    DualNorm { largest, relative: sum.powf(1.0 / q) }
}
