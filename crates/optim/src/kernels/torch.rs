//! The kernels as libtorch's operations, segment by segment, on whatever device the arenas lie: for devices that ours are
//! not made for, and the measure of those that are. [`super`] says what each computes.

use flatmin_nn::ParameterArena;
use flatmin_torch_ext::cpu::{
    AdamStep, DualNorm, Geometry, GradientNorms, Layout, Mask, MaskUnit, Origin, Products, SegmentLayout, SgdStep,
    Shape,
};
use tch::{Kind, Tensor, no_grad};

use super::{Displacement, Metric, Moments};
use crate::error::Result;
use crate::mix::Mix;
use crate::rounding::Rounding;

/// A segment of an arena, `[len]`.
pub fn part(arena: &Tensor, segment: &SegmentLayout) -> Result<Tensor> {
    Ok(arena.f_narrow(0, segment.offset as i64, segment.len as i64)?)
}

/// A segment of the weights that the network reads, `[len]`.
pub fn part_of_standing(parameters: &ParameterArena, segment: &SegmentLayout) -> Result<Tensor> {
    let half = parameters.working_half().filter(|_| segment.half);
    part(half.unwrap_or(parameters.standing()), segment)
}

/// A segment with the numbers that a mix has for it, and T_w there.
struct Piece<'a> {
    segment: &'a SegmentLayout,
    position: usize,
    /// `[len]`.
    numbers: Tensor,
    weights: Tensor,
    /// As [`Piece::rows`] takes it: `[filters, 1]` or `[1, len]`; None: 1.
    scale: Option<Tensor>,
}

impl Piece<'_> {
    /// `[filters, numbers a filter]`; one row where T_w does not go by filter.
    fn rows(&self, flat: &Tensor) -> Result<Tensor> {
        let width = match self.segment.geometry {
            Geometry::Filter { len } => len,
            _ => self.segment.len,
        };
        Ok(flat.f_view([-1, width as i64])?)
    }

    /// T_w x, `[len]`.
    fn scaled(&self, x: &Tensor) -> Result<Tensor> {
        match &self.scale {
            None => Ok(x.shallow_clone()),
            Some(scale) => Ok(self.rows(x)?.f_mul(scale)?.f_flatten(0, -1)?),
        }
    }

    /// The displacement without its coefficient.
    fn shaped(&self, x: &Tensor, shape: Shape) -> Result<Tensor> {
        match shape {
            Shape::Quadratic => self.scaled(&self.scaled(x)?),
            Shape::Linear => self.scaled(x),
            Shape::Sign => self.scaled(&x.f_sign()?),
            Shape::Power { unit, exponent } => {
                let size = self.scaled(x)?.f_abs()?.f_div_scalar(unit)?.f_pow_tensor_scalar(exponent)?;
                self.scaled(&x.f_sign()?.f_mul(&size)?)
            }
        }
    }
}

/// Whether T_w's norms of filters are computed or were left by an earlier pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filters {
    Measure,
    Known,
}

/// The segments that the mix has.
fn pieces<'a>(
    metric: Metric<'a>,
    parameters: &ParameterArena,
    mix: &Mix<'_>,
    filters: Filters,
) -> Result<Vec<Piece<'a>>> {
    let mut first_filter = 0;
    let mut pieces = Vec::new();
    let numbers = mix.tensors(metric.layout, parameters)?;
    for (position, (segment, numbers)) in metric.layout.segments().iter().zip(numbers).enumerate() {
        let count = match segment.geometry {
            Geometry::Filter { len } => segment.len / len,
            _ => 0,
        } as i64;
        let slots = metric.filter_scales.f_narrow(0, first_filter, count)?;
        first_filter += count;
        let Some(numbers) = numbers else { continue };
        let weights = part(parameters.master(), segment)?;
        let mut piece = Piece { segment, position, numbers, weights, scale: None };
        piece.scale = match segment.geometry {
            _ if !segment.perturbed => None,
            Geometry::Plain => None,
            Geometry::Element => Some(piece.rows(&piece.weights.f_abs()?.f_add_scalar(metric.eta)?)?),
            Geometry::Filter { .. } => {
                if filters == Filters::Measure {
                    let norms = piece.rows(&piece.weights)?.f_linalg_norm(2, 1i64, false, Kind::Double)?;
                    slots.shallow_clone().f_copy_(&norms.f_to_kind(slots.kind())?.f_add_scalar(metric.eta)?)?;
                }
                Some(slots.f_unsqueeze(1)?)
            }
        };
        pieces.push(piece);
    }
    Ok(pieces)
}

fn norm2(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_linalg_norm(2, None::<i64>, false, Kind::Double)?)
}

/// Scalars brought to the CPU together.
fn read(scalars: &[Tensor]) -> Result<Vec<f64>> {
    Ok(Vec::try_from(Tensor::f_stack(scalars, 0)?)?)
}

/// A reduction of scalars; 0 if there are none.
fn joint(scalars: &[Tensor], like: &Tensor, reduce: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if scalars.is_empty() {
        return Ok(Tensor::f_zeros([] as [i64; 0], (Kind::Double, like.device()))?);
    }
    reduce(&Tensor::f_stack(scalars, 0)?)
}

pub fn norms(metric: Metric<'_>, parameters: &ParameterArena, gradient: &Mix<'_>) -> Result<GradientNorms> {
    no_grad(|| {
        let (mut plain, mut scaled) = (Vec::new(), Vec::new());
        for piece in pieces(metric, parameters, gradient, Filters::Measure)? {
            let norm = norm2(&piece.numbers)?;
            if piece.segment.perturbed {
                scaled.push(match &piece.scale {
                    None => norm.shallow_clone(),
                    Some(_) => norm2(&piece.scaled(&piece.numbers)?)?,
                });
            }
            plain.push(norm);
        }
        let like = parameters.master();
        let both = read(&[joint(&plain, like, norm2)?, joint(&scaled, like, norm2)?])?;
        Ok(GradientNorms { plain: both[0], scaled: both[1] })
    })
}

pub fn dual_norm(metric: Metric<'_>, parameters: &ParameterArena, gradient: &Mix<'_>, q: f64) -> Result<DualNorm> {
    no_grad(|| {
        let mut sizes = Vec::new();
        for piece in pieces(metric, parameters, gradient, Filters::Known)? {
            if piece.segment.perturbed {
                sizes.push(piece.scaled(&piece.numbers)?.f_to_kind(Kind::Double)?.f_abs()?);
            }
        }
        let like = parameters.master();
        let maxima = sizes.iter().map(|h| Ok(h.f_max()?)).collect::<Result<Vec<_>>>()?;
        let largest = joint(&maxima, like, |all| Ok(all.f_max()?))?.f_double_value(&[])?;
        if largest == 0.0 {
            return Ok(DualNorm { largest, relative: 0.0 });
        }
        let power = |h: &Tensor| Ok(h.f_div_scalar(largest)?.f_pow_tensor_scalar(q)?.f_sum(Kind::Double)?);
        let sums = sizes.iter().map(power).collect::<Result<Vec<_>>>()?;
        let sum = joint(&sums, like, |all| Ok(all.f_sum(Kind::Double)?))?.f_double_value(&[])?;
        Ok(DualNorm { largest, relative: sum.powf(1.0 / q) })
    })
}

pub fn perturb(
    metric: Metric<'_>,
    parameters: &ParameterArena,
    direction: &Mix<'_>,
    displacement: &Displacement,
) -> Result<Option<Rounding>> {
    no_grad(|| {
        let mut moves = Vec::new();
        for mut piece in pieces(metric, parameters, direction, Filters::Known)? {
            if !piece.segment.perturbed {
                continue;
            }
            if let Some(mask) = displacement.mask {
                piece.numbers = masked(&piece, mask)?;
            }
            let coefficient = displacement.coefficients[piece.segment.group];
            let eps = piece.shaped(&piece.numbers, displacement.shape)?.f_mul_scalar(coefficient)?;
            let working = part_of_standing(parameters, piece.segment)?;
            let from = match displacement.origin {
                Origin::Master => piece.weights.shallow_clone(),
                Origin::Working => working.f_to_kind(eps.kind())?,
            };
            moves.push(Move { half: piece.segment.half, master: piece.weights, working, from, eps });
        }
        let rounding = match parameters.working_half() {
            Some(_) => Rounding::corrected(|factor| rounded(&moves, factor))?,
            None => None,
        };
        for mut step in moves {
            let factor = if step.half { rounding.map_or(1.0, |rounding| rounding.factor) } else { 1.0 };
            let eps = step.eps.f_mul_scalar(factor)?;
            step.working.f_copy_(&step.from.f_add(&eps)?)?;
            if displacement.round_trip {
                let _ = step.master.f_add_(&eps)?.f_sub_(&eps)?;
            }
        }
        Ok(rounding)
    })
}

pub fn displace(
    metric: Metric<'_>,
    parameters: &ParameterArena,
    direction: &Mix<'_>,
    shape: Shape,
    coefficients: &[f64],
    arena: &Tensor,
) -> Result<()> {
    no_grad(|| {
        let pieces = pieces(metric, parameters, direction, Filters::Known)?;
        for piece in pieces.iter().filter(|piece| piece.segment.perturbed) {
            let eps = piece.shaped(&piece.numbers, shape)?.f_mul_scalar(coefficients[piece.segment.group])?;
            let _ = part(arena, piece.segment)?.f_add_(&eps)?;
        }
        Ok(())
    })
}

/// A displacement to be written.
struct Move {
    half: bool,
    master: Tensor,
    working: Tensor,
    from: Tensor,
    eps: Tensor,
}

/// What rounding to bfloat16 makes of displacements: <d, d>, <d, eps>, <eps, eps>.
fn rounded(moves: &[Move], factor: f64) -> Result<Products> {
    let mut sums = Vec::new();
    for Move { working, from, eps, .. } in moves.iter().filter(|step| step.half) {
        let there = from.f_add(&eps.f_mul_scalar(factor)?)?;
        let round = |x: &Tensor| x.f_to_kind(working.kind())?.f_to_kind(Kind::Double);
        sums.push(inner(&round(&there)?.f_sub(&round(from)?)?, &eps.f_to_kind(Kind::Double)?)?);
    }
    total(&sums)
}

/// <a, a>, <a, b>, <b, b> of float64 numbers, `[3]`.
fn inner(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_stack(&[a.f_dot(a)?, a.f_dot(b)?, b.f_dot(b)?], 0)?)
}

fn total(sums: &[Tensor]) -> Result<Products> {
    if sums.is_empty() {
        return Ok(Products::default());
    }
    let all: Vec<f64> = Vec::try_from(Tensor::f_stack(sums, 0)?.f_sum_dim_intlist(0i64, false, Kind::Double)?)?;
    Ok(Products { aa: all[0], ab: all[1], bb: all[2] })
}

/// The numbers with zeros where the mask drops: the same that [`Mask::keeps`] drops.
fn masked(piece: &Piece<'_>, mask: Mask) -> Result<Tensor> {
    if mask.unit == MaskUnit::Segment {
        let kept = if mask.keeps(piece.position) { 1.0 } else { 0.0 };
        return Ok(piece.numbers.f_mul_scalar(kept)?);
    }
    let first = piece.segment.offset as i64 + 1;
    let indices =
        Tensor::f_arange_start(first, first + piece.segment.len as i64, (Kind::Int64, piece.numbers.device()))?;
    let drawn = split_mix(mask.seed, &indices)?.f_to_kind(Kind::Double)?;
    let keep = drawn.f_lt(mask.keep * (1u64 << 53) as f64)?;
    Ok(piece.numbers.f_mul(&keep.f_to_kind(piece.numbers.kind())?)?)
}

/// The upper 53 bits of SplitMix64 (Steele 2014) of a seed and numbers counted from 1: what
/// [`flatmin_torch_ext::cpu::uniform`] divides by 2^53. int64 wraps around as uint64 does.
fn split_mix(seed: u64, indices: &Tensor) -> Result<Tensor> {
    let shifted = |bits: &Tensor, by: i64| -> Result<Tensor> {
        // The shift of int64 copies the sign.
        Ok(bits.f_bitwise_right_shift_tensor_scalar(by)?.f_bitwise_and(i64::MAX >> (by - 1))?)
    };
    let mix = |bits: &Tensor, by: i64, factor: u64| -> Result<Tensor> {
        Ok(bits.f_bitwise_xor_tensor(&shifted(bits, by)?)?.f_mul_scalar(factor as i64)?)
    };
    let bits = indices.f_mul_scalar(0x9E37_79B9_7F4A_7C15_u64 as i64)?.f_add_scalar(seed as i64)?;
    let bits = mix(&mix(&bits, 30, 0xBF58_476D_1CE4_E5B9)?, 27, 0x94D0_49BB_1331_11EB)?;
    shifted(&bits.f_bitwise_xor_tensor(&shifted(&bits, 31)?)?, 11)
}

pub fn restore(layout: &Layout, parameters: &ParameterArena) -> Result<()> {
    no_grad(|| {
        layout.segments().iter().try_for_each(|segment| {
            Ok(part_of_standing(parameters, segment)?.f_copy_(&part(parameters.master(), segment)?)?)
        })
    })
}

pub fn products(layout: &Layout, parameters: &ParameterArena, a: &Mix<'_>, b: &Mix<'_>) -> Result<Products> {
    no_grad(|| {
        let mut sums = Vec::new();
        for pair in a.tensors(layout, parameters)?.iter().zip(&b.tensors(layout, parameters)?) {
            if let (Some(a), Some(b)) = pair {
                sums.push(inner(&a.f_to_kind(Kind::Double)?, &b.f_to_kind(Kind::Double)?)?);
            }
        }
        total(&sums)
    })
}

pub fn assign(layout: &Layout, parameters: &ParameterArena, arena: &Tensor, mix: &Mix<'_>) -> Result<()> {
    no_grad(|| {
        for (segment, numbers) in layout.segments().iter().zip(mix.tensors(layout, parameters)?) {
            if let Some(numbers) = numbers {
                part(arena, segment)?.f_copy_(&numbers)?;
            }
        }
        Ok(())
    })
}

/// Calls `formula` with the weights of each segment that has a gradient, `[len]` both, and its place among the segments;
/// then sets working = master.
fn descend(
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    mut formula: impl FnMut(usize, &SegmentLayout, &mut Tensor, Tensor) -> Result<()>,
) -> Result<()> {
    no_grad(|| {
        let gradients = gradient.tensors(layout, parameters)?;
        for (position, (segment, gradient)) in layout.segments().iter().zip(gradients).enumerate() {
            let mut weights = part(parameters.master(), segment)?;
            if let Some(gradient) = gradient {
                formula(position, segment, &mut weights, gradient)?;
            }
        }
        restore(layout, parameters)
    })
}

pub fn translate(layout: &Layout, parameters: &ParameterArena, mix: &Mix<'_>) -> Result<()> {
    descend(layout, parameters, mix, |_, _, weights, by| {
        let _ = weights.f_add_(&by)?;
        Ok(())
    })
}

pub fn sgd(
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    momentum: Option<&Tensor>,
    steps: &[SgdStep],
    first: &[bool],
) -> Result<()> {
    descend(layout, parameters, gradient, |position, segment, weights, gradient| {
        let step = &steps[segment.group];
        let d = with_decay(&gradient, weights, step.weight_decay, step.decoupled)?;
        let direction = match momentum.filter(|_| step.momentum != 0.0) {
            None => d,
            Some(momentum) => {
                let (keep, enter) = if first[position] { (0.0, 1.0) } else { (step.momentum, 1.0 - step.dampening) };
                let buffer = part(momentum, segment)?.f_mul_scalar_(keep)?.f_add_(&d.f_mul_scalar(enter)?)?;
                if step.nesterov { d.f_add(&buffer.f_mul_scalar(step.momentum)?)? } else { buffer }
            }
        };
        shrink(weights, step.lr, step.weight_decay, step.decoupled)?;
        let _ = weights.f_sub_(&direction.f_mul_scalar(step.lr)?)?;
        Ok(())
    })
}

pub fn adam(
    layout: &Layout,
    parameters: &ParameterArena,
    gradient: &Mix<'_>,
    moments: Moments<'_>,
    steps: &[AdamStep],
    counts: &[u64],
) -> Result<()> {
    descend(layout, parameters, gradient, |position, segment, weights, gradient| {
        let step = &steps[segment.group];
        let (mut m, mut v) = (part(moments.first, segment)?, part(moments.second, segment)?);
        let d = with_decay(&gradient, weights, step.weight_decay, step.decoupled)?;
        let _ = m.f_lerp_(&d, 1.0 - step.beta1)?;
        let _ = v.f_mul_scalar_(step.beta2)?.f_add_(&d.f_square()?.f_mul_scalar(1.0 - step.beta2)?)?;
        let count = counts[position] as f64;
        let (correction1, correction2) = (1.0 - step.beta1.powf(count), 1.0 - step.beta2.powf(count));
        let size = v.f_sqrt()?.f_div_scalar(correction2.sqrt())?.f_add_scalar(step.eps)?;
        shrink(weights, step.lr, step.weight_decay, step.decoupled)?;
        let _ = weights.f_sub_(&m.f_div(&size)?.f_mul_scalar(step.lr / correction1)?)?;
        Ok(())
    })
}

/// g + wd w, unless the decay is decoupled.
fn with_decay(gradient: &Tensor, weights: &Tensor, decay: f64, decoupled: bool) -> Result<Tensor> {
    if decoupled || decay == 0.0 {
        return Ok(gradient.shallow_clone());
    }
    Ok(gradient.f_add(&weights.f_mul_scalar(decay)?)?)
}

/// w -= lr wd w, if the decay is decoupled.
fn shrink(weights: &mut Tensor, lr: f64, decay: f64, decoupled: bool) -> Result<()> {
    if decoupled && decay != 0.0 {
        let _ = weights.f_mul_scalar_(1.0 - lr * decay)?;
    }
    Ok(())
}
