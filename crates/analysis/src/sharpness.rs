//! Sharpness: how much the loss rises within the ball norm_p(T_w^-1 eps) <= rho around w (Foret 2021, equation 1; with
//! T_w, Kwon 2021, definition 2), by its first-order solution, by projected gradient ascent, or on average over the sphere.

use flatmin_data::Dataset;
use flatmin_nn::Model;
use flatmin_optim::{BallConfig, Neighbourhood};
use flatmin_train::{EvaluateOptions, EvaluationBatch, EvaluationBatches};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::ascent::{Reached, Search};
use crate::error::{Error, Result};
use crate::excursion::Excursion;
use crate::monitor::Monitor;
use crate::objective::{Images, Objective, Outcome};

/// How the ball is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Method {
    /// The point that is worst to first order, SAM's: one gradient whatever the number of radii.
    OneStep,
    /// Projected gradient ascent from there and from random points; the best point of all is kept.
    #[default]
    Ascent,
    /// The mean over random points of norm_p rho.
    Random,
}

/// What is measured. In JSON all names are camelCase.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SharpnessOptions {
    pub method: Method,
    /// Radii of the ball. Default: 0.05.
    pub rho: Vec<f64>,
    pub ball: BallConfig,
    /// Steps of each ascent. Default 20.
    pub steps: usize,
    /// Length of a step as a share of the radius. Default 0.5.
    pub step_size: f64,
    /// Ascents from random points beside the one from w. Where the gradient is 0 only these leave w. Default 1.
    pub restarts: usize,
    /// Points that `random` draws. Default 20.
    pub draws: usize,
    /// m of m-sharpness: the mean over groups of m images, each with a worst point of its own. Default: all images
    /// together.
    pub m: Option<usize>,
    /// Of all that is drawn. Default 0.
    pub seed: u64,
    pub data: EvaluateOptions,
}

impl Default for SharpnessOptions {
    fn default() -> Self {
        Self {
            method: Method::default(),
            rho: vec![0.05],
            ball: BallConfig::default(),
            steps: 20,
            step_size: 0.5,
            restarts: 1,
            draws: 20,
            m: None,
            seed: 0,
            data: EvaluateOptions::default(),
        }
    }
}

/// The sharpness of a model at each radius.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sharpness {
    /// At w, mean over the images.
    pub loss: f64,
    /// At w.
    pub accuracy: f64,
    pub count: usize,
    /// norm_q(T_w g) at w, 1/p + 1/q = 1: the first-order sharpness over a radius of 1. None for groups.
    pub slope: Option<f64>,
    /// Numbers that are perturbed, and norm2 of them.
    pub parameters: usize,
    pub weight_norm: f64,
    pub points: Vec<Point>,
}

/// The sharpness at one radius.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    pub rho: f64,
    /// Loss at the point that was found minus loss at w; mean over groups or draws if there are several.
    pub sharpness: f64,
    /// At that point.
    pub loss: f64,
    pub accuracy: f64,
    /// norm_p(u) of it.
    pub norm: f64,
    /// Loss minus loss at w along the ascent that found it, its start included; mean over groups.
    pub curve: Vec<f64>,
    pub spread: Spread,
}

/// How the rise of the loss differs between parts of the measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// What the parts are: `batches`, `groups` or `draws`.
    pub over: &'static str,
    pub count: usize,
    /// Sample standard deviation; None for a single part.
    pub sd: Option<f64>,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub(crate) fn new(over: &'static str, values: &[f64]) -> Self {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count.max(1) as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        let fold = |start: f64, pick: fn(f64, f64) -> f64| values.iter().copied().fold(start, pick);
        Self { over, count, sd, min: fold(f64::INFINITY, f64::min), max: fold(f64::NEG_INFINITY, f64::max) }
    }
}

impl SharpnessOptions {
    fn validate(&self) -> Result<()> {
        if self.rho.is_empty() || self.rho.iter().any(|rho| !(rho.is_finite() && *rho > 0.0)) {
            return Err(Error::option("rho", format!("{:?}", self.rho), "one or more finite numbers above 0"));
        }
        let counts = [
            ("steps", self.steps),
            ("draws", self.draws),
            ("m", self.m.unwrap_or(1)),
            ("batchSize", self.data.batch_size),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(Error::option(name, 0, "at least 1"));
        }
        if !(self.step_size.is_finite() && self.step_size > 0.0) {
            return Err(Error::option("stepSize", self.step_size, "a finite number above 0"));
        }
        self.data.loss.validate().map_err(Error::from)
    }

    /// Passes over the images that are planned, for the progress.
    fn passes(&self) -> usize {
        let radii = self.rho.len();
        match self.method {
            Method::OneStep => 1 + radii,
            Method::Ascent => 1 + radii * (self.steps + self.restarts * (self.steps + 1)),
            Method::Random => 1 + radii * self.draws,
        }
    }
}

/// Measures `model` on `dataset`, with running statistics and without dropout.
///
/// # Errors
/// `ERR_FLATMIN_OPTION`, `_SHAPE` or `_DATA` for what does not fit, `_DTYPE` for a bfloat16 model, `_STEP_ORDER` between an
/// ascent and its descent, `_NON_FINITE` if the loss at w or at all points of a radius is not finite;
/// [`Error::Stopped`].
pub fn sharpness(
    model: &mut Model,
    dataset: &Dataset,
    options: &SharpnessOptions,
    monitor: &Monitor<'_>,
) -> Result<Sharpness> {
    options.validate()?;
    let ball = Neighbourhood::new(&options.ball, model.parameters())?;
    let data = EvaluateOptions {
        // Groups arrive as batches, and go through the model in parts.
        batch_size: options.m.unwrap_or(options.data.batch_size),
        ..options.data.clone()
    };
    let set = EvaluationBatches::new(model, dataset, &data)?;
    let batches = match options.m {
        Some(m) => {
            (set.images() / m) * m.div_ceil(options.data.batch_size)
                + (set.images() % m).div_ceil(options.data.batch_size)
        }
        None => set.images().div_ceil(options.data.batch_size),
    };
    monitor.plan(batches * options.passes());
    let excursion = Excursion::new(model)?;
    let measure = Measure { excursion: &excursion, ball: &ball, options, monitor };
    match options.m {
        None => measure.whole(&set),
        Some(_) => measure.groups(&set),
    }
}

struct Measure<'a> {
    excursion: &'a Excursion<'a>,
    ball: &'a Neighbourhood,
    options: &'a SharpnessOptions,
    monitor: &'a Monitor<'a>,
}

impl Measure<'_> {
    fn whole(&self, set: &EvaluationBatches) -> Result<Sharpness> {
        let found = self.search(Images::Set(set))?;
        let clean = &found.clean;
        let points = self.options.rho.iter().zip(&found.reached).map(|(&rho, reached)| {
            let last = &reached.outcome;
            let rises = last.batches.iter().zip(&clean.batches).map(|(there, here)| there.0 - here.0);
            let spread = match self.options.method {
                Method::Random => Spread::new("draws", &reached.curve),
                _ => Spread::new("batches", &rises.collect::<Vec<_>>()),
            };
            Point {
                rho,
                sharpness: last.loss - clean.loss,
                loss: last.loss,
                accuracy: last.accuracy,
                norm: reached.norm,
                curve: reached.curve.clone(),
                spread,
            }
        });
        self.result(clean.loss, clean.accuracy, clean.count, Some(found.slope), points.collect())
    }

    fn groups(&self, set: &EvaluationBatches) -> Result<Sharpness> {
        let mut groups = Vec::new();
        for batch in set.iter() {
            let parts = parts(&batch?, self.options.data.batch_size)?;
            groups.push(self.search(Images::Group(&parts))?);
        }
        let count: usize = groups.iter().map(|group| group.clean.count).sum();
        let mean = |value: &dyn Fn(&Found) -> f64| {
            groups.iter().map(|group| group.clean.count as f64 / count as f64 * value(group)).sum::<f64>()
        };
        let loss = mean(&|group| group.clean.loss);
        let points = self.options.rho.iter().enumerate().map(|(at, &rho)| {
            let rise = |group: &Found| group.reached[at].outcome.loss - group.clean.loss;
            let rises: Vec<f64> = groups.iter().map(rise).collect();
            let longest = groups.iter().map(|group| group.reached[at].curve.len()).max().unwrap_or(0);
            // An ascent that ended early stays where it was.
            let along = |step: usize| {
                mean(&|group| {
                    let curve = &group.reached[at].curve;
                    curve.get(step).or(curve.last()).copied().unwrap_or(0.0)
                })
            };
            Point {
                rho,
                sharpness: mean(&rise),
                loss: loss + mean(&rise),
                accuracy: mean(&|group| group.reached[at].outcome.accuracy),
                norm: mean(&|group| group.reached[at].norm),
                curve: (0..longest).map(along).collect(),
                spread: Spread::new("groups", &rises),
            }
        });
        self.result(loss, mean(&|group| group.clean.accuracy), count, None, points.collect())
    }

    fn result(
        &self,
        loss: f64,
        accuracy: f64,
        count: usize,
        slope: Option<f64>,
        points: Vec<Point>,
    ) -> Result<Sharpness> {
        let parameters = self.excursion.model().parameters();
        let norm = self.ball.norm2(parameters, parameters.master())?;
        let dimensions = self.ball.dimensions();
        Ok(Sharpness { loss, accuracy, count, slope, parameters: dimensions, weight_norm: norm, points })
    }

    /// The points found for one set of images, one a radius.
    fn search(&self, images: Images<'_>) -> Result<Found> {
        let model = self.excursion.model();
        let objective = Objective { loss: &self.options.data.loss, images, monitor: self.monitor };
        self.ball.enter(model, &model.parameters().like()?)?;
        let search = Search { model, ball: self.ball, objective: &objective, options: self.options };
        if self.options.method == Method::Random {
            let clean = objective.value(model)?;
            clean.require_finite("at the model's own weights")?;
            let reached = self.options.rho.iter().map(|&rho| search.average(&clean, rho)).collect::<Result<_>>()?;
            return Ok(Found { clean, slope: f64::NAN, reached });
        }
        let (clean, gradient) = objective.gradient(model)?;
        clean.require_finite("at the model's own weights")?;
        let h = self.ball.scaled(model.parameters(), &gradient)?;
        let slope = self.ball.slope(model.parameters(), &h)?;
        let reach = |&rho: &f64| search.worst(&clean, &h, rho);
        Ok(Found { slope, reached: self.options.rho.iter().map(reach).collect::<Result<_>>()?, clean })
    }
}

struct Found {
    clean: Outcome,
    slope: f64,
    reached: Vec<Reached>,
}

/// A group in parts of at most `size` images.
fn parts(group: &EvaluationBatch, size: usize) -> Result<Vec<EvaluationBatch>> {
    let count = group.labels.len();
    let part = |start: usize| -> Result<EvaluationBatch> {
        let len = size.min(count - start);
        let narrow = |tensor: &Tensor| tensor.f_narrow(0, start as i64, len as i64);
        Ok(EvaluationBatch {
            images: narrow(&group.images)?,
            target: group.target.narrow(start as i64, len as i64)?,
            labels: group.labels[start..start + len].to_vec(),
        })
    };
    (0..count).step_by(size).map(part).collect()
}
