//! The Hessian of the loss, in the coordinates of T_w if asked for (T_w H T_w, whose largest eigenvalue bounds adaptive
//! sharpness at a minimum): extreme eigenvalues, trace and spectral density, from products with vectors alone.

use flatmin_data::Dataset;
use flatmin_nn::Model;
use flatmin_optim::{BallConfig, Neighbourhood, Noise, PNorm};
use flatmin_torch_ext::cpu::split_mix;
use flatmin_train::{EvaluateOptions, EvaluationBatches};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::{Error, Result};
use crate::excursion::Excursion;
use crate::lanczos::{Lanczos, Operator, Ritz};
use crate::monitor::Monitor;
use crate::objective::{Images, Objective};
use crate::trace::{Trace, trace};

/// What is computed of the Hessian. In JSON all names are camelCase.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CurvatureOptions {
    /// Largest eigenvalues. Default 1; 0: none.
    pub top_k: usize,
    /// At most so many Lanczos steps for them. Default 100.
    pub iterations: usize,
    /// They are done when the residual of each, norm2(Hx - lambda x), is at most this share of the largest. Default 1e-4.
    pub tolerance: f64,
    /// Whether to give their eigenvectors, too. Default false.
    pub vectors: bool,
    /// Products with the Hessian that the trace may cost. Default 0: no trace.
    pub trace_probes: usize,
    /// Default: none.
    pub density: Option<DensityOptions>,
    /// T_w; its p is of no account.
    pub ball: BallConfig,
    /// Of all that is drawn. Default 0.
    pub seed: u64,
    pub data: EvaluateOptions,
}

/// Of stochastic Lanczos quadrature.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DensityOptions {
    /// Random starts. Default 4.
    pub probes: usize,
    /// Lanczos steps of each. Default 60.
    pub steps: usize,
    /// Points of the curve. Default 256.
    pub points: usize,
    /// Width of the Gaussians. Default: a hundredth of the range of eigenvalues.
    pub sigma: Option<f64>,
}

impl Default for DensityOptions {
    fn default() -> Self {
        Self { probes: 4, steps: 60, points: 256, sigma: None }
    }
}

impl Default for CurvatureOptions {
    fn default() -> Self {
        Self {
            top_k: 1,
            iterations: 100,
            tolerance: 1e-4,
            vectors: false,
            trace_probes: 0,
            density: None,
            ball: BallConfig::default(),
            seed: 0,
            data: EvaluateOptions::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Eigenvalue {
    pub value: f64,
    /// norm2(Hx - value x): the distance to a true eigenvalue is at most that.
    pub residual: f64,
}

/// The density of eigenvalues (Ghorbani 2019, algorithm 1): its integral is 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpectralDensity {
    pub eigenvalues: Vec<f64>,
    pub density: Vec<f64>,
    pub sigma: f64,
    /// The quadrature itself, before it is smoothed: nodes and weights of each probe.
    pub nodes: Vec<Vec<f64>>,
    pub weights: Vec<Vec<f64>>,
    /// Dimensions times the mean of weight times node.
    pub trace: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Curvature {
    /// Numbers with respect to which the loss is differentiated.
    pub dimensions: usize,
    pub count: usize,
    /// Largest first.
    pub eigenvalues: Vec<Eigenvalue>,
    /// The lowest one that the same steps have found: below 0 away from a minimum.
    pub smallest: Option<Eigenvalue>,
    /// Whether all of the largest are as exact as asked for.
    pub converged: bool,
    /// Lanczos steps made for them.
    pub steps: usize,
    pub trace: Option<Trace>,
    pub density: Option<SpectralDensity>,
    /// Of the largest eigenvalues, if asked for: arenas of norm2 1.
    #[serde(skip)]
    pub vectors: Vec<Tensor>,
}

impl CurvatureOptions {
    fn validate(&self) -> Result<()> {
        let density = self.density.unwrap_or_default();
        let counts = [
            ("iterations", self.iterations),
            ("density.probes", density.probes),
            ("density.steps", density.steps),
            ("density.points", density.points),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(Error::option(name, 0, "at least 1"));
        }
        for (name, value) in [("tolerance", self.tolerance), ("density.sigma", density.sigma.unwrap_or(1.0))] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::option(name, value, "a finite number above 0"));
            }
        }
        self.data.loss.validate().map_err(Error::from)
    }

    fn products(&self, dimensions: usize) -> usize {
        let eigenvalues = if self.top_k == 0 { 0 } else { self.iterations.min(dimensions) };
        let density = self.density.map_or(0, |density| density.probes * density.steps.min(dimensions));
        eigenvalues + self.trace_probes + density
    }
}

/// The curvature of `model`'s loss on `dataset`, with running statistics and without dropout.
///
/// # Errors
/// As [`crate::sharpness()`].
pub fn curvature(
    model: &mut Model,
    dataset: &Dataset,
    options: &CurvatureOptions,
    monitor: &Monitor<'_>,
) -> Result<Curvature> {
    options.validate()?;
    let ball = Neighbourhood::new(&BallConfig { p: PNorm::default(), ..options.ball.clone() }, model.parameters())?;
    let set = EvaluationBatches::new(model, dataset, &options.data)?;
    monitor.plan(set.images().div_ceil(options.data.batch_size) * options.products(ball.dimensions()));
    let excursion = Excursion::new(model)?;
    let model = excursion.model();
    let parameters = model.parameters();
    let objective = Objective { loss: &options.data.loss, images: Images::Set(&set), monitor };
    let hessian = |u: &Tensor| {
        let vector = ball.scaled(parameters, u)?;
        Ok(ball.scaled(parameters, &objective.hessian_times(model, &vector)?)?)
    };
    let space = |number| -> Result<Lanczos<'_>> {
        let start = ball.random(parameters, Noise::Normal, split_mix(options.seed, number))?;
        Ok(Lanczos::new(&hessian as &Operator<'_>, &ball, parameters, start))
    };
    let mut found = Curvature {
        dimensions: ball.dimensions(),
        count: set.images(),
        eigenvalues: Vec::new(),
        smallest: None,
        converged: true,
        steps: 0,
        trace: None,
        density: None,
        vectors: Vec::new(),
    };
    if options.top_k > 0 {
        extremes(space(0)?, options, &mut found)?;
    }
    if options.trace_probes > 0 {
        found.trace = Some(trace(&hessian, &ball, parameters, options.trace_probes, options.seed)?);
    }
    if let Some(density) = options.density {
        let spaces = (1..=density.probes as u64).map(space);
        found.density = Some(quadrature(spaces, density, found.dimensions)?);
    }
    Ok(found)
}

/// The largest eigenvalues, and the smallest on the way.
fn extremes(mut space: Lanczos<'_>, options: &CurvatureOptions, found: &mut Curvature) -> Result<()> {
    let wanted = options.top_k.min(found.dimensions);
    let mut ritz: Vec<Ritz> = Vec::new();
    found.converged = false;
    while space.steps() < options.iterations {
        if !space.step()? {
            // The space is invariant; if it is all of it, everything is known.
            space.restart(split_mix(options.seed, space.steps() as u64))?;
            if !space.step()? {
                break;
            }
        }
        ritz = space.ritz()?;
        let largest = ritz.iter().fold(0.0_f64, |max, pair| max.max(pair.value.abs()));
        let exact = |pair: &Ritz| pair.residual <= options.tolerance * largest;
        if ritz.len() >= wanted && ritz.iter().rev().take(wanted).all(exact) {
            found.converged = true;
            break;
        }
    }
    let top = || ritz.iter().rev().take(wanted);
    let eigenvalue = |pair: &Ritz| Eigenvalue { value: pair.value, residual: pair.residual };
    found.eigenvalues = top().map(eigenvalue).collect();
    found.smallest = ritz.first().map(eigenvalue);
    found.steps = space.steps();
    if options.vectors {
        found.vectors = top().map(|pair| space.vector(pair)).collect::<Result<_>>()?;
    }
    Ok(())
}

/// Density(t) = mean over probes of sum_j y_j[1]^2 N(t; theta_j, sigma^2), y_j the eigenvectors of the tridiagonal matrix.
fn quadrature<'a>(
    spaces: impl Iterator<Item = Result<Lanczos<'a>>>,
    options: DensityOptions,
    dimensions: usize,
) -> Result<SpectralDensity> {
    let (mut nodes, mut weights) = (Vec::new(), Vec::new());
    for space in spaces {
        let mut space = space?;
        while space.steps() < options.steps && space.step()? {}
        let ritz = space.ritz()?;
        weights.push(ritz.iter().map(|pair| pair.coordinates[0].powi(2)).collect::<Vec<f64>>());
        nodes.push(ritz.iter().map(|pair| pair.value).collect::<Vec<f64>>());
    }
    let pairs = || nodes.iter().flatten().zip(weights.iter().flatten());
    let low = pairs().map(|(node, _)| *node).fold(f64::INFINITY, f64::min);
    let high = pairs().map(|(node, _)| *node).fold(f64::NEG_INFINITY, f64::max);
    let range = if high > low { high - low } else { high.abs().max(1.0) };
    let sigma = options.sigma.unwrap_or(0.01 * range);
    let (start, end) = (low - 4.0 * sigma, high + 4.0 * sigma);
    let step = (end - start) / (options.points.max(2) - 1) as f64;
    let eigenvalues: Vec<f64> = (0..options.points).map(|point| start + step * point as f64).collect();
    let unit = 1.0 / (sigma * std::f64::consts::TAU.sqrt() * nodes.len() as f64);
    let at = |t: &f64| {
        pairs().map(|(node, weight)| weight * unit * (-0.5 * ((t - node) / sigma).powi(2)).exp()).sum::<f64>()
    };
    let density = eigenvalues.iter().map(at).collect();
    let trace = dimensions as f64 * pairs().map(|(node, weight)| node * weight).sum::<f64>() / nodes.len() as f64;
    Ok(SpectralDensity { eigenvalues, density, sigma, trace, nodes, weights })
}
