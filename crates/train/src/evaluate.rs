//! Measures a model on a data set: loss and metrics, with running statistics and no gradients.

use flatmin_data::Dataset;
use flatmin_nn::{Model, Pass};
use flatmin_optim::Loss;
use serde::Deserialize;
use tch::{Kind, Tensor, no_grad};

use crate::error::{Error, Result};
use crate::evaluation_batches::{EvaluationBatch, EvaluationBatches};
use crate::metrics::{Accumulator, Evaluation, Metric};
use crate::normalize::Normalization;

/// How to evaluate. All fields have a default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EvaluateOptions {
    /// Default 128.
    pub batch_size: usize,
    /// Default: cross entropy.
    pub loss: Loss,
    /// What to report beside loss, accuracy and top-5.
    pub metrics: Vec<Metric>,
    /// Only the first so many images. Default: all.
    pub limit: Option<usize>,
    /// Whether the logits of an image are the mean of its own and of its mirror's, left to right. Default false.
    pub mirror: bool,
    /// Default: the model's, or, if it has none, the data set's.
    pub normalization: Option<Normalization>,
    /// Default: 1 for images in memory, one a core for files.
    pub loader_threads: Option<usize>,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            batch_size: 128,
            loss: Loss::default(),
            metrics: Vec::new(),
            limit: None,
            mirror: false,
            normalization: None,
            loader_threads: None,
        }
    }
}

/// The scores of `model` on `dataset`, or None if `interrupted` said so between two batches.
///
/// # Errors
/// `ERR_FLATMIN_SHAPE` if the images do not fit the model, `ERR_FLATMIN_DATA` if there are more classes than it has.
pub fn evaluate(
    model: &Model,
    dataset: &Dataset,
    options: &EvaluateOptions,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Evaluation>> {
    evaluate_batches(model, &EvaluationBatches::new(model, dataset, options)?, options, interrupted)
}

/// As [`evaluate`], on batches that were made with these options for this model or one like it.
///
/// # Errors
/// If libtorch fails, or images cannot be read.
pub fn evaluate_batches(
    model: &Model,
    batches: &EvaluationBatches,
    options: &EvaluateOptions,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Evaluation>> {
    let classes = model.spec().num_classes as usize;
    let mut sums = Accumulator::new(classes, &options.metrics);
    for batch in batches.iter() {
        if interrupted() {
            return Ok(None);
        }
        let EvaluationBatch { images, target, labels } = batch?;
        let (logits, loss) = no_grad(|| -> Result<(Tensor, Tensor)> {
            let logits = logits_of(model, &images, options.mirror)?;
            let loss = options.loss.apply(&logits, &target)?;
            Ok((logits, loss))
        })?;
        let logits = Vec::<f64>::try_from(logits.f_to_kind(Kind::Double)?.f_contiguous()?.f_view([-1])?)?;
        sums.add(&logits, &labels, loss.f_double_value(&[])?);
    }
    Ok(Some(sums.finish()))
}

fn logits_of(model: &Model, images: &Tensor, mirror: bool) -> Result<Tensor> {
    let logits = model.forward(images, Pass::Eval)?;
    if !mirror {
        return Ok(logits);
    }
    let mirrored = model.forward(&images.f_flip([3])?, Pass::Eval)?;
    Ok(logits.f_add(&mirrored)?.f_mul_scalar(0.5)?)
}

/// # Errors
/// `ERR_FLATMIN_SHAPE` for images of a size that the model does not read, `ERR_FLATMIN_DATA` if there are more classes than
/// it has.
pub fn check_fit(spec: &flatmin_nn::ModelSpec, dataset: &Dataset) -> Result<()> {
    let shape = dataset.shape();
    let found = [shape.channels, shape.height, shape.width].map(|size| size as i64);
    if let Some(obstacle) = spec.obstacle(&found) {
        let expected =
            format!("{:?} (channels, height, width), the input of {}{obstacle}", spec.input_shape, spec.name);
        return Err(Error::shape(format!("an image of {}", dataset.name()), &found, expected));
    }
    if dataset.num_classes() as i64 > spec.num_classes {
        let what = format!("the data set {}", dataset.name());
        let expected = format!("at most {}, which {} distinguishes", spec.num_classes, spec.name);
        return Err(Error::data(what, format!("it has {} classes", dataset.num_classes()), expected));
    }
    Ok(())
}
