//! The loss of a model over a data set, or a part of one: its value, its gradient and its Hessian times a vector, at the
//! weights that the network reads now. Evaluation mode; `.grad` is never touched.
//!
//! Logits become float64 before the loss: what is measured are small differences of it.

use flatmin_nn::{Model, Pass};
use flatmin_optim::Loss;
use flatmin_train::{EvaluationBatch, EvaluationBatches, Unread};
use tch::{Kind, Tensor, no_grad};

use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Where the images come from.
pub(crate) enum Images<'a> {
    /// A whole set, batch by batch.
    Set(&'a EvaluationBatches),
    /// A group of m images, in parts of at most a batch.
    Group(&'a [EvaluationBatch]),
}

pub(crate) struct Objective<'a> {
    pub loss: &'a Loss,
    pub images: Images<'a>,
    pub monitor: &'a Monitor<'a>,
}

/// The loss at one point.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Mean over the images.
    pub loss: f64,
    /// Share of images whose largest logit is their class.
    pub accuracy: f64,
    pub count: usize,
    /// Mean loss and images of each batch.
    pub batches: Vec<(f64, usize)>,
}

/// What a pass over a batch found, where the model lives.
struct Found {
    loss: Tensor,
    right: Tensor,
    size: usize,
}

impl Objective<'_> {
    /// Images of all batches together.
    pub fn count(&self) -> usize {
        match self.images {
            Images::Set(set) => set.images(),
            Images::Group(parts) => parts.iter().map(|part| part.labels.len()).sum(),
        }
    }

    pub fn value(&self, model: &Model) -> Result<Outcome> {
        self.each(model, |batch, _| no_grad(|| self.pass(model, batch)).map(|(_, found)| found))
    }

    /// The loss and its gradient, an arena.
    pub fn gradient(&self, model: &Model) -> Result<(Outcome, Tensor)> {
        let parameters = model.parameters();
        let sum = parameters.like()?;
        let outcome = self.each(model, |batch, share| {
            let (loss, found) = self.pass(model, batch)?;
            let gradients = Tensor::f_run_backward(&[loss], parameters.leaves(), false, false)?;
            parameters.add_to(&sum, &gradients, share)?;
            Ok(found)
        })?;
        Ok((outcome, sum))
    }

    /// The Hessian times `vector`, both arenas, by differentiating twice (Pearlmutter 1994).
    pub fn hessian_times(&self, model: &Model, vector: &Tensor) -> Result<Tensor> {
        let parameters = model.parameters();
        let leaves = parameters.leaves();
        let product = parameters.like()?;
        let parts: Vec<Tensor> =
            (0..leaves.len()).map(|position| parameters.view(vector, position)).collect::<Result<_, _>>()?;
        self.each(model, |batch, share| {
            let (loss, found) = self.pass(model, batch)?;
            let gradients = Tensor::f_run_backward(&[loss], leaves, true, true)?;
            let mut inner: Option<Tensor> = None;
            // A parameter whose gradient is a constant has no second derivative.
            let curved = |(gradient, _): &(&Tensor, &Tensor)| gradient.defined() && gradient.requires_grad();
            for (gradient, part) in gradients.iter().zip(&parts).filter(curved) {
                let term = gradient.f_mul(part)?.f_sum(Kind::Double)?;
                inner = Some(match inner {
                    Some(sum) => sum.f_add(&term)?,
                    None => term,
                });
            }
            if let Some(inner) = inner {
                let second = Tensor::f_run_backward(&[inner], leaves, false, false)?;
                parameters.add_to(&product, &second, share)?;
            }
            Ok(found)
        })?;
        Ok(product)
    }

    /// Visits the batches; `body` gets each with its share of all images.
    fn each(&self, model: &Model, mut body: impl FnMut(&EvaluationBatch, f64) -> Result<Found>) -> Result<Outcome> {
        let count = self.count();
        let mut outcome = Outcome { count, ..Outcome::default() };
        let mut unread = Unread::new(model.engine());
        let mut visit = |batch: &EvaluationBatch| {
            let found = body(batch, batch.labels.len() as f64 / count as f64)?;
            unread.add(found, |found| outcome.add(found))?;
            self.monitor.batch_done()
        };
        match self.images {
            Images::Set(set) => set.iter().try_for_each(|batch| visit(&batch?))?,
            Images::Group(parts) => parts.iter().try_for_each(visit)?,
        }
        unread.read(|found| outcome.add(found))?;
        Ok(outcome)
    }

    /// The mean loss of a batch, which can be differentiated, and what was found.
    fn pass(&self, model: &Model, batch: &EvaluationBatch) -> Result<(Tensor, Found)> {
        let logits = model.forward(&batch.images, Pass::Eval)?.f_to_kind(Kind::Double)?;
        let loss = self.loss.apply(&logits, &batch.target)?;
        let right = logits.f_argmax(1, false)?.f_eq_tensor(&batch.target.classes()?)?.f_sum(Kind::Int64)?;
        let found = Found { loss: loss.f_detach()?, right, size: batch.labels.len() };
        Ok((loss, found))
    }
}

impl Outcome {
    /// Waits for what was found of a batch.
    fn add(&mut self, Found { loss, right, size }: Found) -> Result<()> {
        let (value, count) = (loss.f_double_value(&[])?, self.count as f64);
        self.loss += value * size as f64 / count;
        self.accuracy += right.f_int64_value(&[])? as f64 / count;
        self.batches.push((value, size));
        Ok(())
    }

    /// # Errors
    /// `ERR_FLATMIN_NON_FINITE` for a loss that is not.
    pub fn require_finite(&self, what: &str) -> Result<()> {
        if self.loss.is_finite() {
            return Ok(());
        }
        Err(Error::NonFinite { what: format!("the loss {what}"), hint: "check weights and images" })
    }
}
