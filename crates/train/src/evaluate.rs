//! Measures a model on a data set: loss and metrics, with running statistics and no gradients.

use std::cell::RefCell;

use flatmin_data::{Batch, Dataset, Loader, LoaderOptions, Transform};
use flatmin_nn::{Model, Pass};
use flatmin_optim::{Loss, Target};
use serde::Deserialize;
use tch::{Device, Kind, Tensor, no_grad};

use crate::batch::class_tensor;
use crate::carrier::{Carrier, loader_for};
use crate::error::{Error, Result};
use crate::input::Input;
use crate::metrics::{Accumulator, Evaluation, Metric};
use crate::normalize::{Normalization, for_data, input_normalization};
use crate::resident::Resident;

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

/// The images of a data set as a model reads them, in order and never changed, as often as they are asked for.
pub struct EvaluationBatches {
    loader: Loader,
    /// Reads the images in place of the loader.
    resident: Option<RefCell<Resident>>,
    carrier: Carrier,
    input: (Kind, Device),
}

/// Images `[batch, channels, height, width]` with their classes.
#[derive(Debug)]
pub struct EvaluationBatch {
    pub images: Tensor,
    pub target: Target,
    pub labels: Vec<i64>,
}

impl EvaluationBatches {
    /// Reads batch size, limit, normalization and loader threads of the options.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn new(model: &Model, dataset: &Dataset, options: &EvaluateOptions) -> Result<Self> {
        check_fit(model.spec(), dataset)?;
        let normalization = match &options.normalization {
            Some(normalization) => for_data(normalization),
            None => input_normalization(model.spec(), dataset),
        };
        let dataset = match options.limit {
            Some(limit) => dataset.take(limit)?,
            None => dataset.clone(),
        };
        let threads = options.loader_threads.unwrap_or_else(|| dataset.suggested_threads());
        let loader = Loader::new(
            dataset,
            LoaderOptions {
                batch_size: options.batch_size,
                threads,
                ..LoaderOptions::new(Transform::plain(normalization))
            },
        )?;
        let engine = model.engine();
        let resident = Resident::new(engine, &loader)?.map(RefCell::new);
        let loader = loader_for(engine, loader)?;
        Ok(Self { resident, carrier: Carrier::new(engine, &loader)?, loader, input: model.input_options() })
    }

    /// Whether the images lie on the model's device.
    pub fn is_resident(&self) -> bool {
        self.resident.is_some()
    }

    /// Images of all batches together.
    pub fn images(&self) -> usize {
        self.loader.dataset().len()
    }

    pub fn iter(&self) -> Box<dyn Iterator<Item = Result<EvaluationBatch>> + '_> {
        match &self.resident {
            Some(resident) => Box::new((0..self.loader.len()).map(|number| self.of_resident(resident, number))),
            None => Box::new(self.loader.epoch(0, 0).map(|batch| self.of_loader(batch?))),
        }
    }

    fn of_resident(&self, resident: &RefCell<Resident>, number: usize) -> Result<EvaluationBatch> {
        let Input { images, target, count } = resident.borrow_mut().batch(&self.loader, (0, number as u64))?;
        let labels = self.loader.dataset().labels().iter().skip(number * self.loader.batch_size());
        let labels = labels.take(count as usize).map(|&label| i64::from(label)).collect();
        Ok(EvaluationBatch { images: images.f_to_kind(self.input.0)?, target, labels })
    }

    fn of_loader(&self, mut batch: Batch) -> Result<EvaluationBatch> {
        let images = self.carrier.bring(&batch.images, self.loader.dataset().shape())?.f_to_kind(self.input.0)?;
        let target = Target::Classes(class_tensor(&batch)?).on(self.input.1)?;
        let labels = std::mem::take(&mut batch.labels);
        self.loader.recycle(batch);
        Ok(EvaluationBatch { images, target, labels })
    }
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
