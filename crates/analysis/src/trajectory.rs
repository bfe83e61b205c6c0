//! The way of a training run through weight space, seen in the plane that shows most of it: the first two principal
//! components of the checkpoints' differences to the last one (Li 2018, section 7).

use std::path::PathBuf;

use flatmin_data::Dataset;
use flatmin_nn::Model;
use flatmin_train::{EvaluateOptions, EvaluationBatches};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::arena::{add, copy, symmetric_eigen};
use crate::error::{Error, Result};
use crate::excursion::Excursion;
use crate::monitor::Monitor;
use crate::objective::{Images, Objective};
use crate::plane::{Axis, Surface, surface_over, unit};

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrajectoryOptions {
    /// Points of each axis of the surface below the path. Default 21; 0: no surface.
    pub points: usize,
    /// How far the surface goes beyond the path, as a share of its extent. Default 0.2.
    pub margin: f64,
    pub data: EvaluateOptions,
}

impl Default for TrajectoryOptions {
    fn default() -> Self {
        Self { points: 21, margin: 0.2, data: EvaluateOptions::default() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trajectory {
    /// Coordinates of each checkpoint; the last is the origin. Directions have norm2 1, so these are distances in weights.
    pub path: Vec<[f64; 2]>,
    /// Shares of the variance that both components explain.
    pub explained: [f64; 2],
    /// Over the plane through the last checkpoint, with its running statistics.
    pub surface: Option<Surface>,
}

/// The path of the weights in `files`, in order, that ends where `model` is. `model` gives the layers.
///
/// # Errors
/// `ERR_FLATMIN_OPTION` for fewer than two files, `_PATH`, `_FORMAT` or `_NAME` for one that does not fit the model; as
/// [`crate::sharpness()`].
pub fn trajectory(
    model: &mut Model,
    files: &[PathBuf],
    dataset: &Dataset,
    options: &TrajectoryOptions,
    monitor: &Monitor<'_>,
) -> Result<Trajectory> {
    if files.len() < 2 {
        return Err(Error::option(
            "files",
            format!("{} of them", files.len()),
            "two or more, in the order of training",
        ));
    }
    if !(options.margin.is_finite() && options.margin >= 0.0) {
        return Err(Error::option("margin", options.margin, "a finite number of at least 0"));
    }
    if options.points == 1 {
        return Err(Error::option("points", 1, "0, or at least 2"));
    }
    let set = EvaluationBatches::new(model, dataset, &options.data)?;
    monitor.plan(set.images().div_ceil(options.data.batch_size) * options.points * options.points);
    let excursion = Excursion::new(model)?;
    let steps = differences(excursion.model(), files)?;
    let Components { directions, path, explained } = principal(excursion.model(), &steps)?;
    let surface = match options.points {
        0 => None,
        points => {
            let axis = |along: usize| around(path.iter().map(|point| point[along]), options.margin, points);
            let objective = Objective { loss: &options.data.loss, images: Images::Set(&set), monitor };
            let [a, b] = &directions;
            Some(surface_over(&excursion, &objective, [a, b], [axis(0), axis(1)])?)
        }
    };
    Ok(Trajectory { path, explained, surface })
}

/// Each file's weights minus the model's.
fn differences(model: &Model, files: &[PathBuf]) -> Result<Vec<Tensor>> {
    let mut reader = model.twin()?;
    let read = |file: &PathBuf| {
        reader.load_weights(file, true)?;
        let mut difference = copy(reader.parameters().master())?;
        add(&mut difference, -1.0, model.parameters().master())?;
        Ok(difference)
    };
    files.iter().map(read).collect()
}

struct Components {
    directions: [Tensor; 2],
    path: Vec<[f64; 2]>,
    explained: [f64; 2],
}

/// From the eigenvectors of the Gram matrix, which is small: there are few checkpoints and many weights.
fn principal(model: &Model, steps: &[Tensor]) -> Result<Components> {
    let inner = |a: &Tensor, b: &Tensor| -> Result<f64> {
        Ok(a.f_to_kind(Kind::Double)?.f_dot(&b.f_to_kind(Kind::Double)?)?.f_double_value(&[])?)
    };
    let size = steps.len();
    let mut gram = vec![0.0; size * size];
    for (row, a) in steps.iter().enumerate() {
        for (column, b) in steps.iter().enumerate().take(row + 1) {
            let product = inner(a, b)?;
            gram[row * size + column] = product;
            gram[column * size + row] = product;
        }
    }
    let (values, vectors) = symmetric_eigen(&gram, size)?;
    let total: f64 = values.iter().map(|value| value.max(0.0)).sum();
    let direction = |rank: usize| -> Result<Tensor> {
        let mut sum = model.parameters().like()?;
        for (&share, step) in vectors[size - 1 - rank].iter().zip(steps) {
            add(&mut sum, share, step)?;
        }
        unit(&mut sum)?;
        Ok(sum)
    };
    let directions = [direction(0)?, direction(1)?];
    let path = steps.iter().map(|step| Ok([inner(step, &directions[0])?, inner(step, &directions[1])?]));
    let share = |rank: usize| if total > 0.0 { values[size - 1 - rank].max(0.0) / total } else { 0.0 };
    Ok(Components { path: path.collect::<Result<_>>()?, explained: [share(0), share(1)], directions })
}

/// An axis that covers the values and a margin.
fn around(values: impl Iterator<Item = f64>, margin: f64, points: usize) -> Axis {
    let (low, high) = values.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    // A path that does not move along this axis still gets some width.
    let extent = if high > low { high - low } else { 1.0 };
    Axis { from: low - margin.max(0.01) * extent, to: high + margin.max(0.01) * extent, points }
}
