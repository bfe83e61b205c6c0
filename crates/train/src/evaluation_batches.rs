//! The images of a data set as a model reads them, for evaluations and measures: a set that lies on the device, or the batches of
//! a loader, each of which is copied to a GPU while it computes on the one before.

use std::cell::RefCell;

use flatmin_data::{Batch, Dataset, Loader, LoaderOptions, Transform};
use flatmin_nn::{Engine, Model};
use flatmin_optim::Target;
use flatmin_torch_ext::cuda::Upload;
use tch::{Kind, Tensor};

use crate::carrier::{Carrier, loader_for};
use crate::error::Result;
use crate::evaluate::{EvaluateOptions, check_fit};
use crate::input::Input;
use crate::normalize::{for_data, input_normalization};
use crate::resident::Resident;

/// The images of a data set as a model reads them, in order and never changed, as often as they are asked for.
pub struct EvaluationBatches {
    loader: Loader,
    /// Reads the images in place of the loader.
    resident: Option<RefCell<Resident>>,
    carrier: Carrier,
    /// Whether the batch after the one that is handed out is already sent.
    looks_ahead: bool,
    kind: Kind,
}

/// A batch on its way to the device.
struct Sent {
    images: Upload,
    target: Upload,
    labels: Vec<i64>,
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
    /// As [`crate::evaluate()`].
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
        let carrier = Carrier::new(engine, &loader)?;
        let (kind, _) = model.input_options();
        Ok(Self { resident, carrier, loader, looks_ahead: matches!(engine, Engine::Cuda(_)), kind })
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
            None => Box::new(self.of_loader()),
        }
    }

    fn of_resident(&self, resident: &RefCell<Resident>, number: usize) -> Result<EvaluationBatch> {
        let Input { images, target, count } = resident.borrow_mut().batch(&self.loader, (0, number as u64))?;
        let labels = self.loader.dataset().labels().iter().skip(number * self.loader.batch_size());
        let labels = labels.take(count as usize).map(|&label| i64::from(label)).collect();
        Ok(EvaluationBatch { images: images.f_to_kind(self.kind)?, target, labels })
    }

    fn of_loader(&self) -> impl Iterator<Item = Result<EvaluationBatch>> {
        let mut sent = self.loader.epoch(0, 0).map(|batch| self.send(batch?)).peekable();
        std::iter::from_fn(move || {
            let next = sent.next()?;
            if self.looks_ahead && next.is_ok() {
                // An error waits there until its turn has come.
                sent.peek();
            }
            Some(next.and_then(|next| self.receive(next)))
        })
    }

    fn send(&self, mut batch: Batch) -> Result<Sent> {
        let (images, target) = (self.carrier.begin(&batch.images)?, self.carrier.begin_labels(&batch.labels)?);
        let labels = std::mem::take(&mut batch.labels);
        self.loader.recycle(batch);
        Ok(Sent { images, target, labels })
    }

    fn receive(&self, Sent { images, target, labels }: Sent) -> Result<EvaluationBatch> {
        let images = self.carrier.end(images, self.loader.dataset().shape())?.f_to_kind(self.kind)?;
        Ok(EvaluationBatch { images, target: self.carrier.end_labels(target)?, labels })
    }
}
