//! One training step on one batch: the first pass, and for SAM and ASAM the ascent, the second pass and the descent.

use flatmin_nn::{Model, Pass};
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

use crate::error::Result;
use crate::loss::{Loss, Target};
use crate::optimizer::Optimizer;

/// One forward and backward pass. Its gradients were added to those already there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassOutcome {
    /// Mean over the batch.
    pub loss: f64,
    /// Samples whose largest logit is their class.
    pub correct: i64,
    pub count: i64,
}

/// A whole step. `sharpness` is the loss at w + eps minus the loss at w on this batch: it costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepOutcome {
    #[serde(flatten)]
    pub first: PassOutcome,
    pub perturbed_loss: Option<f64>,
    pub sharpness: Option<f64>,
    /// norm2 of the gradient at w.
    pub gradient_norm: f64,
    /// False if the step was skipped.
    pub finite: bool,
}

/// Forward and backward at the weights the model reads now. Masks of dropout follow `mask_seed`; batch-norm statistics
/// are staged or ignored as the optimizer's phase demands.
///
/// # Errors
/// Shapes, dtypes or labels that do not fit the model.
pub fn backward(model: &Model, images: &Tensor, target: &Target, loss: &Loss, mask_seed: u64) -> Result<PassOutcome> {
    // Before the forward pass, which stages statistics.
    let classes = model.spec().num_classes;
    target.check_shape(&[images.size().first().copied().unwrap_or(0), classes])?;
    target.check_range(classes)?;
    let logits = model.forward(images, Pass::Train { statistics: model.statistics(), mask_seed })?;
    let value = loss.apply(&logits, target)?;
    value.f_backward()?;
    let hits = no_grad(|| -> Result<i64> {
        let hits = logits.f_argmax(1, false)?.f_eq_tensor(&target.classes()?)?;
        Ok(hits.f_sum(Kind::Int64)?.f_int64_value(&[])?)
    })?;
    Ok(PassOutcome { loss: value.f_double_value(&[])?, correct: hits, count: logits.size()[0] })
}

/// One step of training. Both passes see the same batch and the same masks.
///
/// # Errors
/// Shapes, dtypes or labels that do not fit; the model is then at w, with no gradients.
pub fn train_step(
    model: &mut Model,
    optimizer: &mut Optimizer,
    images: &Tensor,
    target: &Target,
    loss: &Loss,
    mask_seed: u64,
) -> Result<StepOutcome> {
    let outcome = both_passes(model, optimizer, images, target, loss, mask_seed);
    if outcome.is_err() {
        optimizer.abandon_step(model);
    }
    outcome
}

fn both_passes(
    model: &mut Model,
    optimizer: &mut Optimizer,
    images: &Tensor,
    target: &Target,
    loss: &Loss,
    mask_seed: u64,
) -> Result<StepOutcome> {
    let first = backward(model, images, target, loss, mask_seed)?;
    let outcome = |gradient_norm, finite, perturbed_loss: Option<f64>| StepOutcome {
        first,
        perturbed_loss,
        sharpness: perturbed_loss.map(|loss| loss - first.loss),
        gradient_norm,
        finite,
    };
    if optimizer.sharpness().is_none() {
        let info = optimizer.base_step(model)?;
        return Ok(outcome(info.gradient_norm, info.finite, None));
    }
    let ascent = optimizer.ascent_step(model)?;
    if !ascent.finite {
        optimizer.abandon_step(model);
        return Ok(outcome(ascent.gradient_norm, false, None));
    }
    let second = backward(model, images, target, loss, mask_seed)?;
    let descent = optimizer.descent_step(model)?;
    Ok(outcome(ascent.gradient_norm, descent.finite, Some(second.loss)))
}
