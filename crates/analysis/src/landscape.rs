//! The loss along the straight line between two models (Goodfellow 2015), and over a plane of two random directions that are
//! normalised filter by filter (Li 2018).

use flatmin_data::Dataset;
use flatmin_nn::Model;
use flatmin_optim::{BallConfig, Neighbourhood, Noise};
use flatmin_torch_ext::cpu::split_mix;
use flatmin_train::{EvaluateOptions, EvaluationBatches};
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use crate::arena::copy;
use crate::error::{Error, Result};
use crate::excursion::Excursion;
use crate::monitor::Monitor;
use crate::objective::{Images, Objective};
use crate::plane::{Axis, Surface, filter_normalised, surface_over};

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LineOptions {
    /// Of t. Default: 25 points from -0.5 to 1.5.
    pub t: Axis,
    pub data: EvaluateOptions,
}

impl Default for LineOptions {
    fn default() -> Self {
        Self { t: Axis { from: -0.5, to: 1.5, points: 25 }, data: EvaluateOptions::default() }
    }
}

/// Loss and accuracy at (1 - t) a + t b, running statistics included. Losses that are not finite are null in JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub t: Vec<f64>,
    pub loss: Vec<f64>,
    pub accuracy: Vec<f64>,
    /// norm2(b - a) over all parameters.
    pub distance: f64,
    pub count: usize,
}

/// Where a line ends: the weights and running statistics of a model.
pub struct LineEnd {
    weights: Tensor,
    statistics: Tensor,
    spec: String,
}

impl LineEnd {
    /// # Errors
    /// If there is no memory for a copy.
    pub fn of(model: &Model) -> Result<Self> {
        let (weights, statistics) = (copy(model.parameters().master())?, copy(model.buffers().arena())?);
        Ok(Self { weights, statistics, spec: layers_of(model)? })
    }
}

/// Two models have a line between them if they have the same layers; names of classes do not matter.
fn layers_of(model: &Model) -> Result<String> {
    let mut spec = model.spec().clone();
    (spec.name, spec.class_names, spec.normalization) = (String::new(), None, None);
    Ok(format!("{:?} {}", model.dtype(), spec.to_json()?))
}

/// The loss on `dataset` along the line from `model` to `end`.
///
/// # Errors
/// `ERR_FLATMIN_OPTION` for a model of other layers or dtype; as [`crate::sharpness()`].
pub fn interpolation(
    model: &mut Model,
    end: &LineEnd,
    dataset: &Dataset,
    options: &LineOptions,
    monitor: &Monitor<'_>,
) -> Result<Line> {
    options.t.validate("t")?;
    if layers_of(model)? != end.spec {
        return Err(Error::option("the other model", "one of other layers or dtype", "the same layers and dtype"));
    }
    let set = EvaluationBatches::new(model, dataset, &options.data)?;
    monitor.plan(set.images().div_ceil(options.data.batch_size) * options.t.points);
    let mut excursion = Excursion::new(model)?;
    let objective = Objective { loss: &options.data.loss, images: Images::Set(&set), monitor };
    let start = copy(excursion.model().buffers().arena())?;
    let (step, drift) = no_grad(|| -> Result<_> {
        let master = excursion.model().parameters().master();
        // The other model may live elsewhere.
        let there = |arena: &Tensor| arena.f_to_device(master.device());
        Ok((there(&end.weights)?.f_sub(master)?, there(&end.statistics)?.f_sub(&start)?))
    })?;
    let distance = step.f_norm()?.f_double_value(&[])?;
    let t = options.t.values();
    let mut line = Line { loss: Vec::new(), accuracy: Vec::new(), distance, count: set.images(), t };
    for &t in &line.t {
        let along = |from: &Tensor, way: &Tensor| no_grad(|| Ok::<_, Error>(from.f_add(&way.f_mul_scalar(t)?)?));
        excursion.go_to(&no_grad(|| step.f_mul_scalar(t))?)?;
        excursion.set_statistics(&along(&start, &drift)?)?;
        let outcome = objective.value(excursion.model())?;
        line.loss.push(outcome.loss);
        line.accuracy.push(outcome.accuracy);
    }
    Ok(line)
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SurfaceOptions {
    /// Default: 21 points from -1 to 1.
    pub x: Axis,
    /// Default: 21 points from -1 to 1.
    pub y: Axis,
    /// Of the directions. Default 0.
    pub seed: u64,
    pub data: EvaluateOptions,
}

impl Default for SurfaceOptions {
    fn default() -> Self {
        let axis = Axis { from: -1.0, to: 1.0, points: 21 };
        Self { x: axis, y: axis, seed: 0, data: EvaluateOptions::default() }
    }
}

/// The loss on `dataset` over two random, filter-normalised directions.
///
/// # Errors
/// As [`crate::sharpness()`].
pub fn surface(
    model: &mut Model,
    dataset: &Dataset,
    options: &SurfaceOptions,
    monitor: &Monitor<'_>,
) -> Result<Surface> {
    options.x.validate("x")?;
    options.y.validate("y")?;
    let ball = Neighbourhood::new(&BallConfig::default(), model.parameters())?;
    let set = EvaluationBatches::new(model, dataset, &options.data)?;
    monitor.plan(set.images().div_ceil(options.data.batch_size) * options.x.points * options.y.points);
    let excursion = Excursion::new(model)?;
    let objective = Objective { loss: &options.data.loss, images: Images::Set(&set), monitor };
    let direction = |number| {
        let model = excursion.model();
        let noise = ball.random(model.parameters(), Noise::Normal, split_mix(options.seed, number))?;
        filter_normalised(model, &noise)
    };
    surface_over(&excursion, &objective, [&direction(0)?, &direction(1)?], [options.x, options.y])
}
