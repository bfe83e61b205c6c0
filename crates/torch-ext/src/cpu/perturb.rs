//! The ascent write: working = w + eps, the master arena left as it is.
//!
//! For the 2-norm ball eps = rho T_w^2 g / norm2(T_w g) (Kwon 2021, equation 10 with p = 2); for other balls, and for
//! displacements that are no gradient, see [`Shape`].

use multiversion::multiversion;

use super::blend::Blend;
use super::layout::{Block, Geometry, Layout};
use super::mask::Mask;
use super::memory::{CHUNK, fence, prefetch};
use super::power::raise;
use super::scratch::Scratch;
use super::slab::{Half, HalfSlab, Real, Slab};
use super::table::Source;
use super::working::{Out, Working};

/// How a displacement follows from x, a gradient or another direction, with c the group's coefficient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// c T_w^2 x.
    Quadratic,
    /// c T_w x.
    Linear,
    /// c T_w sign(h) (|h| / unit)^exponent with h = T_w x.
    Power { unit: f64, exponent: f64 },
    /// c T_w sign(x).
    Sign,
}

/// From where the displacement goes. T_w is that of w in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// w.
    Master,
    /// Where the network stands now: a further ascent step.
    Working,
}

/// What an ascent needs besides weights and gradients.
pub struct Perturbation<'a, T> {
    pub shape: Shape,
    /// rho / norm for each parameter group (for the 2-norm ball).
    pub coefficients: &'a [f64],
    pub eta: f64,
    /// norm2(filter) + eta, as the norm pass left them.
    pub filter_scales: Slab<T>,
    pub origin: Origin,
    /// Which elements take part; None: all.
    pub mask: Option<Mask>,
    /// Multiplies eps in the segments that the network reads in bfloat16, to make up for what rounding takes from it.
    pub half_factor: f64,
    /// Also sets the master to (w + eps) - eps, as implementations do that restore by subtraction.
    pub round_trip: bool,
}

/// T_w within a run of elements.
#[derive(Clone, Copy)]
enum Scale<T> {
    Constant(T),
    /// |w| + eta.
    Element(T),
}

/// Writes the perturbed weights of every segment that is perturbed and has a gradient. The others stay at their origin, where
/// those of 16 bits are already.
pub fn perturb<T: Real>(
    layout: &Layout,
    master: Slab<T>,
    gradient: &Blend<'_, T>,
    working: Working<T>,
    perturbation: &Perturbation<'_, T>,
) {
    layout.for_each_block(|block| {
        let segment = layout.segment_of(block);
        let Some(gradient) = segment.perturbed.then(|| gradient.block(layout, block)).flatten() else {
            if !segment.half && perturbation.origin == Origin::Master {
                // SAFETY: blocks are disjoint, master and working are different arenas.
                let (weights, mut out) = unsafe { (master.read(block.global.clone()), working.out(segment, block)) };
                out.copy_from(weights);
            }
            return;
        };
        let masked = perturbation.mask.map(|mask| mask.apply(&gradient, block));
        let gradient = masked.as_deref().unwrap_or(&gradient);
        let standing = match perturbation.origin {
            Origin::Master => None,
            Origin::Working => Some(copy(working.source(segment), block.local.clone())),
        };
        // SAFETY: blocks are disjoint, master and working are different arenas.
        let (weights, mut out) = unsafe { (master.read(block.global.clone()), working.out(segment, block)) };
        let lines = Displaced { weights, origin: standing.as_deref().unwrap_or(weights), gradient };
        let factor = if segment.half { perturbation.half_factor } else { 1.0 };
        let coefficient = T::of(perturbation.coefficients[segment.group] * factor);
        let displace = |lines: &Displaced<'_, T>, out: &mut Out<'_, T>| {
            block_of_geometry(segment.geometry, lines, out, coefficient, block.first_filter, perturbation);
        };
        displace(&lines, &mut out);
        fence();
        if perturbation.round_trip {
            let (zeros, mut eps) = (Scratch::zeros(weights.len()), Scratch::new(weights.len()));
            displace(&Displaced { origin: &zeros, ..lines }, &mut Out::Full { values: &mut eps, stream: false });
            // SAFETY: as above; `weights` is not used any more.
            let weights = unsafe { master.write(block.global.clone()) };
            for (w, &eps) in weights.iter_mut().zip(&*eps) {
                *w = (*w + eps) - eps;
            }
        }
    });
}

/// Calls `body` with the numbers of one block from which its displacement goes, and the displacement, nothing rounded.
pub(super) fn displacement<T: Real, R>(
    layout: &Layout,
    block: &Block,
    master: Slab<T>,
    gradient: &[T],
    working: Working<T>,
    perturbation: &Perturbation<'_, T>,
    body: impl FnOnce(&[T], &[T]) -> R,
) -> R {
    let segment = layout.segment_of(block);
    let masked = perturbation.mask.map(|mask| mask.apply(gradient, block));
    let gradient = masked.as_deref().unwrap_or(gradient);
    let standing = match perturbation.origin {
        Origin::Master => None,
        Origin::Working => Some(copy(working.source(segment), block.local.clone())),
    };
    // SAFETY: the master is only read.
    let weights = unsafe { master.read(block.global.clone()) };
    let (zeros, mut eps) = (Scratch::zeros(weights.len()), Scratch::new(weights.len()));
    let coefficient = T::of(perturbation.coefficients[segment.group]);
    let lines = Displaced { weights, origin: &zeros, gradient };
    let mut out = Out::Full { values: &mut eps, stream: false };
    block_of_geometry(segment.geometry, &lines, &mut out, coefficient, block.first_filter, perturbation);
    body(standing.as_deref().unwrap_or(weights), &eps)
}

/// One block of what is read: T_w comes from `weights`, the displacement goes from `origin`.
struct Displaced<'a, T> {
    weights: &'a [T],
    origin: &'a [T],
    gradient: &'a [T],
}

fn copy<T: Real>(source: Source<T>, range: std::ops::Range<usize>) -> Scratch<T> {
    let mut values = Scratch::new(range.len());
    // SAFETY: the block belongs to this thread.
    match source {
        Source::Full(slab) => values.copy_from_slice(unsafe { slab.read(range) }),
        Source::Half(HalfSlab::BFloat16(slab)) => widen(unsafe { slab.read(range) }, &mut values),
        Source::Half(HalfSlab::Float16(slab)) => widen(unsafe { slab.read(range) }, &mut values),
    }
    values
}

fn widen<T: Real, H: Half>(halves: &[H], values: &mut [T]) {
    for (value, half) in values.iter_mut().zip(halves) {
        *value = half.widen();
    }
}

fn block_of_geometry<T: Real>(
    geometry: Geometry,
    lines: &Displaced<'_, T>,
    out: &mut Out<'_, T>,
    coefficient: T,
    first_filter: usize,
    perturbation: &Perturbation<'_, T>,
) {
    let scaled = |lines: &Displaced<'_, T>, out: &mut Out<'_, T>, coefficient: T, shape: Shape| match geometry {
        Geometry::Plain => displace(lines, out, Scale::Constant(T::one()), coefficient, shape),
        Geometry::Element => displace(lines, out, Scale::Element(T::of(perturbation.eta)), coefficient, shape),
        Geometry::Filter { len } => {
            // SAFETY: the norm pass that wrote the scales is over.
            let scales = unsafe { perturbation.filter_scales.all() };
            for (filter, &scale) in (0..lines.weights.len() / len).zip(&scales[first_filter..]) {
                let range = filter * len..(filter + 1) * len;
                let lines = Displaced {
                    weights: &lines.weights[range.clone()],
                    origin: &lines.origin[range.clone()],
                    gradient: &lines.gradient[range.clone()],
                };
                displace(&lines, &mut out.part(range), Scale::Constant(scale), coefficient, shape);
            }
        }
    };
    let Shape::Power { unit, exponent } = perturbation.shape else {
        return scaled(lines, out, coefficient, perturbation.shape);
    };
    let (zeros, mut h) = (Scratch::zeros(lines.weights.len()), Scratch::new(lines.weights.len()));
    let (from_zero, place) = (Displaced { origin: &zeros, ..*lines }, &mut Out::Full { values: &mut h, stream: false });
    scaled(&from_zero, place, T::one(), Shape::Linear);
    h.iter_mut().for_each(|h| *h = h.abs() / T::of(unit));
    raise(&mut h, exponent);
    // T_w leaves the sign of x.
    for (power, &x) in h.iter_mut().zip(lines.gradient) {
        *power = if x < T::zero() { -*power } else { *power };
    }
    scaled(&Displaced { gradient: &h, ..*lines }, out, coefficient, Shape::Linear);
}

/// One chunk of each array at a time, so that results can be streamed.
#[inline(always)]
fn each<T: Real>(lines: &Displaced<'_, T>, out: &mut Out<'_, T>, displacement: impl Fn(T, T) -> T) {
    let inputs = lines.weights.chunks(CHUNK).zip(lines.origin.chunks(CHUNK)).zip(lines.gradient.chunks(CHUNK));
    for (index, ((weights, origin), gradient)) in inputs.enumerate() {
        prefetch(weights);
        prefetch(gradient);
        let mut values = [T::zero(); CHUNK];
        for (((value, &w), &from), &g) in values.iter_mut().zip(weights).zip(origin).zip(gradient) {
            *value = from + displacement(w, g);
        }
        out.put(index * CHUNK, &values, weights.len());
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn displace<T: Real>(lines: &Displaced<'_, T>, out: &mut Out<'_, T>, scale: Scale<T>, c: T, shape: Shape) {
    match (shape, scale) {
        (Shape::Quadratic, Scale::Constant(t)) => {
            let c = c * t * t;
            each(lines, out, |_, x| c * x);
        }
        (Shape::Quadratic, Scale::Element(eta)) => each(lines, out, |w, x| {
            let t = w.abs() + eta;
            c * t * t * x
        }),
        (Shape::Linear, Scale::Constant(t)) => each(lines, out, |_, x| c * t * x),
        (Shape::Linear, Scale::Element(eta)) => each(lines, out, |w, x| c * (w.abs() + eta) * x),
        (Shape::Sign, Scale::Constant(t)) => each(lines, out, |_, x| c * t * sign(x)),
        (Shape::Sign, Scale::Element(eta)) => each(lines, out, |w, x| c * (w.abs() + eta) * sign(x)),
        (Shape::Power { .. }, _) => unreachable!("a power is taken before"),
    }
}

/// -1, 0 or 1.
#[inline(always)]
fn sign<T: Real>(x: T) -> T {
    if x == T::zero() { T::zero() } else { x.signum() }
}
