//! The ball norm_p(u) <= rho around the weights of a model, in the coordinates u of eps = T_w u: where measures of
//! sharpness move. T_w stays that of w, and in these coordinates the ball is a plain one.
//!
//! Points and directions are arenas with the model's offsets; what is not perturbed is 0 in them.

use flatmin_nn::{Model, ParameterArena};
use flatmin_torch_ext::Generator;
use flatmin_torch_ext::cpu::{GradientNorms, Layout, Origin, Shape, split_mix};
use tch::{Device, Tensor, no_grad};

use crate::ascent::{Ball, worst};
use crate::config::{BallConfig, PNorm};
use crate::error::{Error, Result};
use crate::kernels::{self, Displacement, Metric};
use crate::mix::Mix;
use crate::sam::{Layouts, Place};

/// What random directions are made of, before they get norm 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// N(0, 1).
    Normal,
    /// -1 or 1, left as they are: probes of a trace.
    Signs,
}

/// Made for the weights that a model has now.
pub struct Neighbourhood {
    p: PNorm,
    eta: f64,
    layout: Layout,
    flat: Layout,
    filter_scales: Tensor,
}

impl Neighbourhood {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for an option out of range, or options that perturb no parameter; `ERR_FLATMIN_DTYPE` for a
    /// model that computes in 16 bits.
    pub fn new(config: &BallConfig, parameters: &ParameterArena) -> Result<Self> {
        config.validate()?;
        if parameters.dtype().is_half() {
            let (found, expected) = (
                parameters.dtype().name(),
                "float32 or float64, which its weights can be loaded in: 16 bits round small perturbations away",
            );
            return Err(flatmin_nn::Error::dtype("a model that is measured", found, expected).into());
        }
        let places = vec![Place { group: 0, perturbed: true }; parameters.segments().len()];
        let Layouts { layout, flat, filter_scales } = Layouts::new(config, parameters, &places)?;
        if layout.segments().iter().all(|segment| !segment.perturbed) {
            return Err(Error::Option {
                option: "perturb".into(),
                found: format!("{:?} for a model without such parameters", config.perturb).to_lowercase(),
                expected: "all".into(),
            });
        }
        let ball = Self { p: config.p, eta: config.eta, layout, flat, filter_scales };
        // The filters' norms come with those of any direction.
        kernels::norms(ball.metric(), parameters, &Mix::of_arena(parameters.master()))?;
        Ok(ball)
    }

    fn metric(&self) -> Metric<'_> {
        Metric { layout: &self.layout, eta: self.eta, filter_scales: &self.filter_scales }
    }

    fn flat_metric(&self) -> Metric<'_> {
        Metric { layout: &self.flat, eta: 0.0, filter_scales: &self.filter_scales }
    }

    /// Numbers that are perturbed.
    pub fn dimensions(&self) -> usize {
        self.layout.segments().iter().filter(|segment| segment.perturbed).map(|segment| segment.len).sum()
    }

    /// Lets the network read w + T_w u.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn enter(&self, model: &Model, u: &Tensor) -> Result<()> {
        let parameters = model.parameters();
        let displacement = Displacement {
            shape: Shape::Linear,
            coefficients: vec![1.0],
            origin: Origin::Master,
            mask: None,
            round_trip: false,
        };
        kernels::perturb(self.metric(), parameters, &Mix::of_arena(u), &displacement)?;
        parameters.bump_working_version();
        Ok(())
    }

    /// T_w x: a gradient with respect to u from one with respect to w.
    pub fn scaled(&self, parameters: &ParameterArena, x: &Tensor) -> Result<Tensor> {
        let scaled = parameters.like()?;
        kernels::displace(self.metric(), parameters, &Mix::of_arena(x), Shape::Linear, &[1.0], &scaled)?;
        Ok(scaled)
    }

    /// norm_p(u).
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn norm(&self, parameters: &ParameterArena, u: &Tensor) -> Result<f64> {
        self.norm_of(parameters, u, self.p)
    }

    /// norm2(x) over the perturbed parameters.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn norm2(&self, parameters: &ParameterArena, x: &Tensor) -> Result<f64> {
        Ok(self.plain_norms(parameters, x)?.scaled)
    }

    /// norm_q(h) of a gradient h with respect to u, 1/p + 1/q = 1: the rise of the loss to first order over a radius of 1.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn slope(&self, parameters: &ParameterArena, h: &Tensor) -> Result<f64> {
        let dual = match self.p {
            PNorm::Infinite(_) => PNorm::Finite(1.0),
            PNorm::Finite(p) => PNorm::Finite(p / (p - 1.0)),
        };
        self.norm_of(parameters, h, dual)
    }

    fn norm_of(&self, parameters: &ParameterArena, x: &Tensor, p: PNorm) -> Result<f64> {
        let norms = self.plain_norms(parameters, x)?;
        Ok(match p {
            PNorm::Finite(2.0) => norms.scaled,
            _ if !norms.is_finite() => f64::NAN,
            PNorm::Infinite(_) => kernels::dual_norm(self.flat_metric(), parameters, &Mix::of_arena(x), 1.0)?.largest,
            PNorm::Finite(p) => {
                let norm = kernels::dual_norm(self.flat_metric(), parameters, &Mix::of_arena(x), p)?;
                norm.largest * norm.relative
            }
        })
    }

    fn plain_norms(&self, parameters: &ParameterArena, x: &Tensor) -> Result<GradientNorms> {
        kernels::norms(self.flat_metric(), parameters, &Mix::of_arena(x))
    }

    /// u += the step of norm_p `length` that raises the loss most, to first order, where its gradient is h.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn climb(&self, parameters: &ParameterArena, u: &Tensor, h: &Tensor, length: f64) -> Result<()> {
        let (metric, direction) = (self.flat_metric(), Mix::of_arena(h));
        let ball = Ball { p: self.p, guard: 0.0, radii: &[length] };
        let (shape, coefficients) = worst(metric, parameters, &ball, &direction, self.plain_norms(parameters, h)?)?;
        kernels::displace(metric, parameters, &direction, shape, &coefficients, u)
    }

    /// Brings u back into the ball: to its nearest point for p = 2 and infinity, straight towards 0 for other norms.
    pub fn project(&self, parameters: &ParameterArena, u: &mut Tensor, rho: f64) -> Result<()> {
        if let PNorm::Infinite(_) = self.p {
            let _ = u.f_clamp_(-rho, rho)?;
            return Ok(());
        }
        let norm = self.norm(parameters, u)?;
        if norm > rho {
            let _ = u.f_mul_scalar_(rho / norm)?;
        }
        Ok(())
    }

    /// A direction drawn by seed, the same on any device; of norm_p 1 unless it is made of signs.
    pub fn random(&self, parameters: &ParameterArena, noise: Noise, seed: u64) -> Result<Tensor> {
        // Neighbouring seeds give unrelated streams.
        let generator = Generator::new(split_mix(seed, 0))?;
        let mut values = Tensor::f_empty([parameters.len() as i64], (parameters.master().kind(), Device::Cpu))?;
        match noise {
            Noise::Normal => generator.normal_(&mut values, 0.0, 1.0)?,
            Noise::Signs => {
                generator.bernoulli_(&mut values, 0.5)?;
                values = no_grad(|| values.f_mul_scalar(2.0)?.f_sub_scalar(1.0))?;
            }
        }
        let values = values.f_to_device(parameters.master().device())?;
        // Not all of it is perturbed, and an arena has gaps.
        let mut direction = parameters.like()?;
        kernels::displace(self.flat_metric(), parameters, &Mix::of_arena(&values), Shape::Linear, &[1.0], &direction)?;
        if noise == Noise::Normal {
            let _ = direction.f_mul_scalar_(1.0 / self.norm(parameters, &direction)?)?;
        }
        Ok(direction)
    }

    /// <a, b>.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn inner(&self, parameters: &ParameterArena, a: &Tensor, b: &Tensor) -> Result<f64> {
        Ok(kernels::products(&self.flat, parameters, &Mix::of_arena(a), &Mix::of_arena(b))?.ab)
    }
}
