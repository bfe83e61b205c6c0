//! Measures a model on a data set: loss and metrics, with running statistics and no gradients.

use flatmin_data::{Dataset, ImageShape};
use flatmin_nn::{Engine, Model, Pass};
use flatmin_optim::Loss;
use serde::Deserialize;
use tch::{Kind, Tensor, no_grad};

use crate::error::{Error, Result};
use crate::evaluation_batches::{EvaluationBatch, EvaluationBatches};
use crate::metrics::{Accumulator, Evaluation, Metric};
use crate::normalize::Normalization;
use crate::unread::Unread;

/// Images of a large batch. Fewer, if small, leave most of a GPU idle.
const LARGE_BATCH: usize = 1000;

/// Numbers in a large batch, at most.
const LARGE_INPUT: usize = 1 << 22;

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

impl EvaluateOptions {
    /// With large batches of such images, for a set that lies on the device. Not with class weights, where the mean over a batch
    /// depends on what else is in it.
    pub(crate) fn with_large_batches(self, shape: ImageShape) -> Self {
        if self.loss.has_class_weights() {
            return self;
        }
        let large = LARGE_BATCH.min(LARGE_INPUT / shape.elements());
        Self { batch_size: self.batch_size.max(large), ..self }
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
    let mut unread = Unread::new(model.engine());
    for batch in batches.iter() {
        if interrupted() {
            return Ok(None);
        }
        let found = no_grad(|| Found::queue(model, batch?, options))?;
        unread.add(found, |found| found.read(&mut sums))?;
    }
    unread.read(|found| found.read(&mut sums))?;
    Ok(Some(sums.finish()))
}

/// What was found of a batch, where the model lives.
struct Found {
    /// `[batch * classes]`, float64.
    logits: Tensor,
    /// Mean over the batch.
    loss: Tensor,
    labels: Vec<i64>,
}

impl Found {
    fn queue(model: &Model, batch: EvaluationBatch, options: &EvaluateOptions) -> Result<Self> {
        let EvaluationBatch { images, target, labels } = batch;
        let logits = logits_of(model, &images, options.mirror)?;
        let losses = options.loss.of_samples(&logits, &target)?;
        let losses = match model.engine() {
            Engine::Cpu => losses,
            // So that the mean is no coarser for a large batch.
            Engine::Torch(_) | Engine::Cuda(_) => losses.f_to_kind(Kind::Double)?,
        };
        let loss = options.loss.mean(&losses, &target)?;
        Ok(Self { logits: logits.f_to_kind(Kind::Double)?.f_contiguous()?.f_view([-1])?, loss, labels })
    }

    /// Waits for it.
    fn read(self, sums: &mut Accumulator) -> Result<()> {
        sums.add(&Vec::<f64>::try_from(self.logits)?, &self.labels, self.loss.f_double_value(&[])?);
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn large_batches_are_of_small_images_whose_mean_loss_does_not_depend_on_them() {
        let options = |batch_size: usize, loss| EvaluateOptions {
            batch_size,
            loss: serde_json::from_value(loss).unwrap(),
            ..EvaluateOptions::default()
        };
        let large = |options: EvaluateOptions, side: usize| {
            let shape = ImageShape { height: side, width: side, channels: 3 };
            options.with_large_batches(shape).batch_size
        };
        let plain = json!({ "type": "crossEntropy", "labelSmoothing": 0.1 });
        assert_eq!([8, 128, 2000].map(|size| large(options(size, plain.clone()), 32)), [1000, 1000, 2000]);
        assert_eq!([16, 128].map(|size| large(options(size, plain.clone()), 224)), [27, 128]);
        assert_eq!(large(options(16, plain), 10_000), 16);
        assert_eq!(large(options(16, json!({ "type": "crossEntropy", "classWeights": [1.0, 2.0] })), 32), 16);
    }
}
