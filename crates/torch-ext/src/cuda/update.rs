//! The update on a device: norms, ascent write, descent write, with no word to the host between them. Each is the twin of
//! a kernel of [`crate::cpu`], which says what it computes; decisions that the CPU's caller takes (skip, clip, radius over norm)
//! are taken on the device, from the record.

use std::ptr::null;

use tch::{Kind, Tensor};

use super::blend::Blend;
use super::cut::Cut;
use super::ffi;
use super::place::{Place, number};
use super::step::{Groups, StepRecord};
use crate::cpu::{MaskUnit, Origin};
use crate::error::Result;

/// Weights on a device: master, and the weights that the network reads.
#[derive(Clone, Copy)]
pub struct Arenas<'a> {
    pub master: &'a Tensor,
    pub working: &'a Tensor,
    pub working_half: Option<&'a Tensor>,
}

/// Which gradient of the step a norm pass sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPass {
    /// Begins a step, which proceeds if this gradient is finite.
    First,
    /// The step proceeds only if this one is finite, too. Only norm2(g) is taken; scales and coefficients stay.
    Second,
    /// The step does not depend on it.
    Measure,
}

/// norm_p(T_w^-1 eps) <= rho, rho by group; p from above 1 to infinity.
#[derive(Clone, Copy)]
pub struct Ball<'a> {
    pub groups: &'a Groups,
    pub p: f64,
    /// Added to the norm that is divided by.
    pub guard: f64,
    /// Gets the coefficients of [`Shape`], float64, one a group.
    pub coefficients: &'a Tensor,
}

/// How a displacement follows from x, with c the group's coefficient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// c T_w^2 x.
    Quadratic,
    /// c T_w x.
    Linear,
    /// c T_w sign(h) (|h| / largest)^exponent with h = T_w x and the record's largest.
    Power { exponent: f64 },
    /// c T_w sign(x).
    Sign,
}

/// Which elements of a displacement take part, drawn from a seed in device memory (int64, one number).
#[derive(Clone, Copy)]
pub struct Mask<'a> {
    pub seed: &'a Tensor,
    pub keep: f64,
    pub unit: MaskUnit,
}

/// What an ascent needs besides weights and gradients.
#[derive(Clone, Copy)]
pub struct Displacement<'a> {
    pub shape: Shape,
    /// Float64, one a group.
    pub coefficients: &'a Tensor,
    pub origin: Origin,
    pub mask: Option<Mask<'a>>,
    /// Also sets the master to (w + eps) - eps.
    pub round_trip: bool,
}

/// T_w: eta, and a tensor of one scale a filter, which the norm pass fills (the master's dtype; empty without filters).
#[derive(Clone, Copy)]
pub struct Metric<'a> {
    pub eta: f64,
    pub filter_scales: &'a Tensor,
}

/// The weights of one model with what its kernels share.
#[derive(Clone, Copy)]
pub struct Update<'a> {
    pub place: &'a Place,
    pub cut: &'a Cut,
    pub arenas: Arenas<'a>,
    pub record: &'a StepRecord,
}

impl Update<'_> {
    fn arenas(&self) -> Result<ffi::Arenas> {
        let Arenas { master, working, working_half } = self.arenas;
        let (kind, len) = (master.kind(), master.numel());
        let half = working_half.map(|half| self.place.address("bfloat16 weights", half, Kind::BFloat16, half.numel()));
        Ok(ffi::Arenas {
            master: self.place.address("master weights", master, kind, len)?,
            working: self.place.address("working weights", working, kind, len)?,
            working_half: half.transpose()?.map_or(std::ptr::null_mut(), <*mut _>::cast),
            number: number("master weights", kind)?,
        })
    }

    fn filter_scales(&self, metric: Metric<'_>) -> Result<*mut std::ffi::c_void> {
        let kind = self.arenas.master.kind();
        self.place.address("filter scales", metric.filter_scales, kind, self.cut.filters())
    }

    fn group_numbers(&self, what: &'static str, numbers: &Tensor) -> Result<*mut f64> {
        Ok(self.place.address(what, numbers, Kind::Double, numbers.numel())?.cast())
    }

    fn ball(&self, ball: &Ball<'_>) -> Result<ffi::Ball> {
        Ok(ffi::Ball {
            groups: ball.groups.raw(),
            coefficients: self.group_numbers("coefficients", ball.coefficients)?,
            p: ball.p,
            guard: ball.guard,
            group_count: ball.groups.len() as i32,
        })
    }

    fn displacement(&self, metric: Metric<'_>, displacement: &Displacement<'_>) -> Result<ffi::Displacement> {
        let (shape, exponent) = match displacement.shape {
            Shape::Quadratic => (0, 0.0),
            Shape::Linear => (1, 0.0),
            Shape::Power { exponent } => (2, exponent),
            Shape::Sign => (3, 0.0),
        };
        let mask = displacement.mask;
        let seed = mask.map(|mask| self.place.address("a mask's seed", mask.seed, Kind::Int64, 1)).transpose()?;
        Ok(ffi::Displacement {
            coefficients: self.group_numbers("coefficients", displacement.coefficients)?,
            filter_scales: self.filter_scales(metric)?,
            mask_seed: seed.map_or(null(), |seed| seed.cast()),
            eta: metric.eta,
            exponent,
            keep: mask.map_or(1.0, |mask| mask.keep),
            shape,
            origin: match displacement.origin {
                Origin::Master => 0,
                Origin::Working => 1,
            },
            mask: match mask.map(|mask| mask.unit) {
                None => 0,
                Some(MaskUnit::Element) => 1,
                Some(MaskUnit::Segment) => 2,
            },
            round_trip: displacement.round_trip.into(),
        })
    }

    /// norm2(g) and norm2(T_w g) into the record; the scales of filters; the ball's coefficients for p of 2 and infinity.
    pub fn norms(
        &self,
        gradient: &Blend<'_>,
        metric: Metric<'_>,
        pass: NormPass,
        ball: Option<&Ball<'_>>,
    ) -> Result<()> {
        let (arenas, blend, scales) = (self.arenas()?, gradient.raw()?, self.filter_scales(metric)?);
        let ball = ball.map(|ball| self.ball(ball)).transpose()?;
        let pass = match pass {
            NormPass::First => 0,
            NormPass::Second => 1,
            NormPass::Measure => 2,
        };
        let ball = ball.as_ref().map_or(null(), std::ptr::from_ref);
        self.place.check((self.place.kernels.norms)(
            self.place.stream()?,
            &self.cut.raw(),
            &arenas,
            &blend,
            metric.eta,
            scales,
            &self.cut.scratch(),
            self.record.raw(),
            pass,
            ball,
        ))
    }

    /// norm_q(T_w g) into the record and the ball's coefficients, for p neither 2 nor infinity. After [`Self::norms`].
    pub fn dual_norm(&self, gradient: &Blend<'_>, metric: Metric<'_>, ball: &Ball<'_>) -> Result<()> {
        self.place.check((self.place.kernels.dual_norm)(
            self.place.stream()?,
            &self.cut.raw(),
            &self.arenas()?,
            &gradient.raw()?,
            metric.eta,
            self.filter_scales(metric)?,
            &self.cut.scratch(),
            self.record.raw(),
            &self.ball(ball)?,
        ))
    }

    /// The factor that makes up for what rounding to bfloat16 takes from eps, from at most so many measurements; 0 sets it
    /// to 1. Call it before every [`Self::perturb`] of a model that has bfloat16 weights.
    pub fn correct_rounding(
        &self,
        gradient: &Blend<'_>,
        metric: Metric<'_>,
        displacement: &Displacement<'_>,
        passes: u32,
    ) -> Result<()> {
        self.place.check((self.place.kernels.correct_rounding)(
            self.place.stream()?,
            &self.cut.raw(),
            &self.arenas()?,
            &gradient.raw()?,
            &self.displacement(metric, displacement)?,
            &self.cut.scratch(),
            self.record.raw(),
            passes as i32,
        ))
    }

    /// working = from + eps on what is perturbed and has a gradient; working = master there if the step is skipped.
    pub fn perturb(&self, gradient: &Blend<'_>, metric: Metric<'_>, displacement: &Displacement<'_>) -> Result<()> {
        self.place.check((self.place.kernels.perturb)(
            self.place.stream()?,
            &self.cut.raw(),
            &self.arenas()?,
            &gradient.raw()?,
            &self.displacement(metric, displacement)?,
            self.record.raw(),
        ))
    }

    /// The descent of SGD, unless the step is skipped; working = master. `counts` (int64, one a segment) are the steps that
    /// each segment has taken.
    pub fn sgd(
        &self,
        gradient: &Blend<'_>,
        groups: &Groups,
        momentum: Option<&Tensor>,
        counts: &Tensor,
        decoupled: bool,
        nesterov: bool,
    ) -> Result<()> {
        let momentum = momentum.map(|momentum| self.like_master("momentum", momentum)).transpose()?;
        let sgd = ffi::Sgd {
            groups: groups.raw(),
            momentum: momentum.unwrap_or(std::ptr::null_mut()),
            counts: self.counts(counts)?,
            decoupled: decoupled.into(),
            nesterov: nesterov.into(),
        };
        self.place.check((self.place.kernels.sgd)(
            self.place.stream()?,
            &self.cut.raw(),
            &self.arenas()?,
            &gradient.raw()?,
            &sgd,
            &self.cut.scratch(),
            self.record.raw(),
        ))
    }

    /// The descent of Adam, or AdamW if decoupled; else as [`Self::sgd`].
    pub fn adam(
        &self,
        gradient: &Blend<'_>,
        groups: &Groups,
        moments: (&Tensor, &Tensor),
        counts: &Tensor,
        decoupled: bool,
    ) -> Result<()> {
        let adam = ffi::Adam {
            groups: groups.raw(),
            first_moment: self.like_master("first moments", moments.0)?,
            second_moment: self.like_master("second moments", moments.1)?,
            counts: self.counts(counts)?,
            decoupled: decoupled.into(),
        };
        self.place.check((self.place.kernels.adam)(
            self.place.stream()?,
            &self.cut.raw(),
            &self.arenas()?,
            &gradient.raw()?,
            &adam,
            &self.cut.scratch(),
            self.record.raw(),
        ))
    }

    fn like_master(&self, what: &'static str, arena: &Tensor) -> Result<*mut std::ffi::c_void> {
        self.place.address(what, arena, self.arenas.master.kind(), self.arenas.master.numel())
    }

    fn counts(&self, counts: &Tensor) -> Result<*mut i64> {
        Ok(self.place.address("step counts", counts, Kind::Int64, self.cut.segments().len())?.cast())
    }

    /// working = master.
    pub fn restore(&self) -> Result<()> {
        let status = (self.place.kernels.restore)(self.place.stream()?, &self.cut.raw(), &self.arenas()?);
        self.place.check(status)
    }

    /// arena = blend, where it is present. The arena may be among its terms.
    pub fn assign(&self, arena: &Tensor, blend: &Blend<'_>) -> Result<()> {
        let to = self.like_master("an arena", arena)?;
        let (arenas, blend) = (self.arenas()?, blend.raw()?);
        self.place.check((self.place.kernels.assign)(self.place.stream()?, &self.cut.raw(), &arenas, &blend, to))
    }

    /// master += blend, working = master.
    pub fn translate(&self, blend: &Blend<'_>) -> Result<()> {
        let (arenas, blend) = (self.arenas()?, blend.raw()?);
        self.place.check((self.place.kernels.translate)(self.place.stream()?, &self.cut.raw(), &arenas, &blend))
    }

    /// <a, a>, <a, b> and <b, b> over what both have, into `out` (float64, three numbers).
    pub fn products(&self, a: &Blend<'_>, b: &Blend<'_>, out: &Tensor) -> Result<()> {
        self.place.check((self.place.kernels.products)(
            self.place.stream()?,
            &self.cut.raw(),
            &self.arenas()?,
            &a.raw()?,
            &b.raw()?,
            &self.cut.scratch(),
            self.place.address("inner products", out, Kind::Double, 3)?.cast(),
        ))
    }

    /// What a gradient whose norm is the record's `plain` is multiplied by to be no longer than `norm`, for each group, into
    /// `out`: a term's `by_group`.
    pub fn clip(&self, norm: f64, guard: f64, out: &Tensor) -> Result<()> {
        let (numbers, groups) = (self.group_numbers("clip factors", out)?, out.numel() as i32);
        let stream = self.place.stream()?;
        self.place.check((self.place.kernels.clip)(stream, self.record.raw(), norm, guard, groups, numbers))
    }

    /// to = from if the step proceeds: staged running statistics become real.
    pub fn commit(&self, to: &Tensor, from: &Tensor) -> Result<()> {
        let (kind, len) = (from.kind(), from.numel());
        let to = self.place.address("statistics", to, kind, len)?;
        let from = self.place.address("statistics", from, kind, len)?;
        let (stream, number) = (self.place.stream()?, number("statistics", kind)?);
        self.place.check((self.place.kernels.commit)(stream, self.record.raw(), to, from, len as i64, number))
    }
}
