//! The loss of a model over a data set, or a part of one: its value, its gradient and its Hessian times a vector, at the
//! weights that the network reads now. Evaluation mode; `.grad` is never touched.
//!
//! Logits become float64 before the loss: what is measured are small differences of it.

use flatmin_nn::{Model, Pass};
use flatmin_optim::Loss;
use flatmin_train::{EvaluationBatch, EvaluationBatches};
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

impl Objective<'_> {
    /// Images of all batches together.
    pub fn count(&self) -> usize {
        match self.images {
            Images::Set(set) => set.images(),
            Images::Group(parts) => parts.iter().map(|part| part.labels.len()).sum(),
        }
    }

    pub fn value(&self, model: &Model) -> Result<Outcome> {
        self.each(|batch, _, outcome| no_grad(|| self.add(model, batch, outcome)).map(drop))
    }

    /// The loss and its gradient, an arena.
    pub fn gradient(&self, model: &Model) -> Result<(Outcome, Tensor)> {
        let parameters = model.parameters();
        let sum = parameters.like()?;
        let outcome = self.each(|batch, share, outcome| {
            let loss = self.add(model, batch, outcome)?;
            let gradients = Tensor::f_run_backward(&[loss], parameters.leaves(), false, false)?;
            Ok(parameters.add_to(&sum, &gradients, share)?)
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
        self.each(|batch, share, outcome| {
            let loss = self.add(model, batch, outcome)?;
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
            let Some(inner) = inner else { return Ok(()) };
            let second = Tensor::f_run_backward(&[inner], leaves, false, false)?;
            Ok(parameters.add_to(&product, &second, share)?)
        })?;
        Ok(product)
    }

    /// Visits the batches; `body` gets each with its share of all images.
    fn each(&self, mut body: impl FnMut(&EvaluationBatch, f64, &mut Outcome) -> Result<()>) -> Result<Outcome> {
        let count = self.count();
        let mut outcome = Outcome { count, ..Outcome::default() };
        let mut visit = |batch: &EvaluationBatch| {
            body(batch, batch.labels.len() as f64 / count as f64, &mut outcome)?;
            self.monitor.batch_done()
        };
        match self.images {
            Images::Set(set) => set.iter().try_for_each(|batch| visit(&batch?))?,
            Images::Group(parts) => parts.iter().try_for_each(visit)?,
        }
        Ok(outcome)
    }

    /// The mean loss of a batch, added to the outcome.
    fn add(&self, model: &Model, batch: &EvaluationBatch, outcome: &mut Outcome) -> Result<Tensor> {
        let logits = model.forward(&batch.images, Pass::Eval)?.f_to_kind(Kind::Double)?;
        let loss = self.loss.apply(&logits, &batch.target)?;
        let value = loss.f_double_value(&[])?;
        let size = batch.labels.len();
        let right = logits.f_argmax(1, false)?.f_eq_tensor(&batch.target.classes()?)?.f_sum(Kind::Int64)?;
        outcome.loss += value * size as f64 / outcome.count as f64;
        outcome.accuracy += right.f_int64_value(&[])? as f64 / outcome.count as f64;
        outcome.batches.push((value, size));
        Ok(loss)
    }
}

impl Outcome {
    /// # Errors
    /// `ERR_FLATMIN_NON_FINITE` for a loss that is not.
    pub fn require_finite(&self, what: &str) -> Result<()> {
        if self.loss.is_finite() {
            return Ok(());
        }
        Err(Error::NonFinite { what: format!("the loss {what}"), hint: "check weights and images" })
    }
}
