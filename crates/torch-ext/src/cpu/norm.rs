//! norm2(g) and norm2(T_w g) over all perturbed parameters jointly, in one pass over weights and gradients.

use multiversion::multiversion;

use super::blend::Blend;
use super::layout::{Geometry, Layout};
use super::memory::{CHUNK, prefetch};
use super::reduce::reduce;
use super::slab::{Real, Slab};

/// Norms of one gradient. Not finite means that some gradient is not, or that T_w g overflows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientNorms {
    /// norm2(g) over every parameter that has a gradient.
    pub plain: f64,
    /// norm2(T_w g) over the perturbed ones.
    pub scaled: f64,
}

impl GradientNorms {
    pub fn is_finite(&self) -> bool {
        self.plain.is_finite() && self.scaled.is_finite()
    }
}

/// Sums of squares, each divided by the square of the given unit.
#[derive(Debug, Clone, Copy, Default)]
struct Squares {
    plain: f64,
    scaled: f64,
}

impl std::ops::Add for Squares {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { plain: self.plain + other.plain, scaled: self.scaled + other.scaled }
    }
}

/// Computes both norms; fills `filter_scales` (one for each filter of the layout) with norm2(filter) + eta on the way.
///
/// Squares are summed in T within a block and in f64 across blocks. Should that overflow or underflow, a second pass
/// divides by the largest magnitude first.
pub fn gradient_norms<T: Real>(
    layout: &Layout,
    weights: Slab<T>,
    gradient: &Blend<'_, T>,
    eta: f64,
    filter_scales: Slab<T>,
) -> GradientNorms {
    let sums = reduce(layout, |block| {
        let segment = layout.segment_of(block);
        let Some(gradient) = gradient.block(layout, block) else { return Squares::default() };
        // SAFETY: weights are only read, and each filter belongs to one block.
        let weights = unsafe { weights.read(block.global.clone()) };
        let (plain, scaled) = match segment.geometry {
            _ if !segment.perturbed => (squares(&gradient), 0.0),
            Geometry::Plain => {
                let sum = squares(&gradient);
                (sum, sum)
            }
            Geometry::Element => element_squares(weights, &gradient, T::of(eta)),
            Geometry::Filter { len } => {
                let first = block.first_filter;
                let slots = unsafe { filter_scales.write(first..first + gradient.len() / len) };
                filter_squares(weights, &gradient, len, T::of(eta), slots)
            }
        };
        Squares { plain, scaled }
    });
    if is_safe::<T>(sums.plain) && (is_safe::<T>(sums.scaled) || !layout.is_perturbed()) {
        return GradientNorms { plain: sums.plain.sqrt(), scaled: sums.scaled.sqrt() };
    }
    careful_norms(layout, weights, gradient, eta, filter_scales)
}

/// Far enough from where squares of T overflow or lose digits as denormals; zero is left to the careful pass, since a
/// sum of squares can vanish when the gradient does not.
fn is_safe<T: Real>(sum: f64) -> bool {
    sum > T::min_positive_value().wide() / T::epsilon().wide().powi(2)
        && sum < T::max_value().wide() * T::epsilon().wide()
}

#[inline(always)]
fn lane_sum<T: Real>(lanes: [T; CHUNK]) -> f64 {
    lanes.iter().map(|lane| lane.wide()).sum()
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn squares<T: Real>(values: &[T]) -> f64 {
    let mut lanes = [T::zero(); CHUNK];
    let chunks = values.chunks_exact(CHUNK);
    let tail = chunks.remainder();
    for chunk in chunks {
        prefetch(chunk);
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value * value;
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(tail) {
        *lane += value * value;
    }
    lane_sum(lanes)
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn element_squares<T: Real>(weights: &[T], gradient: &[T], eta: T) -> (f64, f64) {
    let mut plain = [T::zero(); CHUNK];
    let mut scaled = [T::zero(); CHUNK];
    let weight_chunks = weights.chunks_exact(CHUNK);
    let gradient_chunks = gradient.chunks_exact(CHUNK);
    let tail = weight_chunks.remainder().iter().zip(gradient_chunks.remainder());
    for (weights, gradient) in weight_chunks.zip(gradient_chunks) {
        prefetch(weights);
        prefetch(gradient);
        for lane in 0..CHUNK {
            let g = gradient[lane];
            let h = (weights[lane].abs() + eta) * g;
            plain[lane] += g * g;
            scaled[lane] += h * h;
        }
    }
    for (lane, (&w, &g)) in tail.enumerate() {
        let h = (w.abs() + eta) * g;
        plain[lane] += g * g;
        scaled[lane] += h * h;
    }
    (lane_sum(plain), lane_sum(scaled))
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn filter_squares<T: Real>(weights: &[T], gradient: &[T], len: usize, eta: T, scales: &mut [T]) -> (f64, f64) {
    let filters = weights.chunks_exact(len).zip(gradient.chunks_exact(len));
    let mut sums = (0.0, 0.0);
    for ((weights, gradient), scale) in filters.zip(scales) {
        let (weight_sum, plain) = both_squares(weights, gradient);
        *scale = if is_safe::<T>(weight_sum) { T::of(weight_sum.sqrt()) } else { careful_filter_norm(weights) } + eta;
        sums.0 += plain;
        sums.1 += plain * scale.wide() * scale.wide();
    }
    sums
}

/// Sums of squares of two arrays of one length, which for most filters is a few chunks.
#[inline(always)]
fn both_squares<T: Real>(a: &[T], b: &[T]) -> (f64, f64) {
    const LANES: usize = CHUNK / 4;
    let mut sums = [[T::zero(); LANES]; 2];
    let chunks = a.chunks_exact(LANES).zip(b.chunks_exact(LANES));
    let rests = [a, b].map(|values| values.chunks_exact(LANES).remainder());
    for (a, b) in chunks {
        prefetch(a);
        prefetch(b);
        for lane in 0..LANES {
            sums[0][lane] += a[lane] * a[lane];
            sums[1][lane] += b[lane] * b[lane];
        }
    }
    for (sums, rest) in sums.iter_mut().zip(rests) {
        for (sum, &value) in sums.iter_mut().zip(rest) {
            *sum += value * value;
        }
    }
    let [a, b] = sums.map(|lanes| lanes.iter().map(|lane| lane.wide()).sum());
    (a, b)
}

/// norm2 of a filter whose sum of squares overflows or vanishes: the largest magnitude is divided out.
#[cold]
fn careful_filter_norm<T: Real>(weights: &[T]) -> T {
    let unit = weights.iter().fold(T::zero(), |max, w| max.max(w.abs())).wide();
    if unit == 0.0 || !unit.is_finite() {
        return T::of(unit);
    }
    T::of(unit * weights.iter().map(|w| (w.wide() / unit).powi(2)).sum::<f64>().sqrt())
}

/// The rare second pass: largest magnitudes first, then sums of squares in units of them.
fn careful_norms<T: Real>(
    layout: &Layout,
    weights: Slab<T>,
    gradient: &Blend<'_, T>,
    eta: f64,
    filter_scales: Slab<T>,
) -> GradientNorms {
    // SAFETY: the norm pass that wrote the scales is over.
    let filter_scales = unsafe { filter_scales.all() };
    let visit = |visit: &mut dyn FnMut(f64, Option<f64>)| {
        for block in layout.blocks() {
            let segment = layout.segment_of(block);
            let Some(gradient) = gradient.block(layout, block) else { continue };
            let weights = unsafe { weights.read(block.global.clone()) };
            for (index, (&w, &g)) in weights.iter().zip(&*gradient).enumerate() {
                let scale = match segment.geometry {
                    Geometry::Plain => 1.0,
                    Geometry::Element => w.wide().abs() + eta,
                    Geometry::Filter { len } => filter_scales[block.first_filter + index / len].wide(),
                };
                let g = g.wide();
                visit(g, segment.perturbed.then_some(scale * g));
            }
        }
    };
    let (mut largest, mut largest_scaled) = (0.0_f64, 0.0_f64);
    visit(&mut |g, h| {
        // Not f64::max, which drops NaN.
        let keep = |max: f64, value: f64| if value.abs() > max || value.is_nan() { value.abs() } else { max };
        largest = keep(largest, g);
        largest_scaled = keep(largest_scaled, h.unwrap_or(0.0));
    });
    let (mut plain, mut scaled) = (0.0, 0.0);
    visit(&mut |g, h| {
        plain += (g / largest).powi(2);
        scaled += (h.unwrap_or(0.0) / largest_scaled).powi(2);
    });
    let norm = |largest: f64, sum: f64| match largest {
        0.0 => 0.0,
        largest if largest.is_finite() => largest * f64::sqrt(sum),
        largest => largest,
    };
    GradientNorms { plain: norm(largest, plain), scaled: norm(largest_scaled, scaled) }
}
