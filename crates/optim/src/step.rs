//! One training step on one batch: the passes that the optimizer's plan asks for, its ascent and its descent.

use flatmin_nn::{Engine, Gradients, Model, Pass, Statistics};
use flatmin_torch_ext::{Seed, set_grad};
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

use crate::config::{Masks, MetricsFrom, Reduction, SharpnessConfig, Variant};
use crate::device_step::Job;
use crate::error::{Error, Result};
use crate::loss::{Loss, Target};
use crate::optimizer::{Optimizer, StepInfo};
use crate::rounding::Rounding;
use crate::sam::Plan;

/// Forward and backward passes over a batch. Their gradients were added to those already there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassOutcome {
    /// Mean over the batch.
    pub loss: f64,
    /// Samples whose largest logit is their class.
    pub correct: i64,
    pub count: i64,
}

impl PassOutcome {
    /// Waits for the mean loss and the number of right answers.
    fn read(loss: &Tensor, correct: &Tensor, count: i64) -> Result<Self> {
        Ok(Self { loss: loss.f_double_value(&[])?, correct: correct.f_int64_value(&[])?, count })
    }
}

/// A whole step. `sharpness` is the loss at w + eps minus the loss at w on the same samples: it costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepOutcome {
    /// Of the pass at w; of the one at w + eps if the options say so or if only that one saw the whole batch.
    #[serde(flatten)]
    pub reported: PassOutcome,
    pub perturbed_loss: Option<f64>,
    pub sharpness: Option<f64>,
    /// norm2 of the gradient at w, or of the only gradient there was.
    pub gradient_norm: f64,
    /// False if the step was skipped.
    pub finite: bool,
    /// What rounding made of eps; None unless the model computes in 16 bits.
    pub rounding: Option<Rounding>,
    /// What the loss was multiplied by before backward passes; None if it was not.
    pub loss_scale: Option<f64>,
}

/// What a step needs besides batch and loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepOptions {
    /// Fixes the masks of dropout.
    pub mask_seed: u64,
    /// Samples of one forward and backward pass: larger batches are taken in parts, and their gradients accumulated.
    pub accumulate: Option<u64>,
}

impl StepOptions {
    pub fn new(mask_seed: u64) -> Self {
        Self { mask_seed, accumulate: None }
    }
}

/// Forward and backward at the weights the model reads now; the gradients are those of the loss times
/// [`Model::loss_scale`]. Masks of dropout follow `mask_seed`; batch-norm statistics
/// are staged or ignored as the optimizer's phase demands.
///
/// # Errors
/// Shapes, dtypes or labels that do not fit the model.
pub fn backward(model: &Model, images: &Tensor, target: &Target, loss: &Loss, mask_seed: u64) -> Result<PassOutcome> {
    check_labels(model, images, target)?;
    one_pass(model, images, &target.on(model.engine())?, loss, mask_seed, WHOLE)
}

/// One step of training. Both passes see the same batch, and the same masks unless the options say otherwise.
///
/// # Errors
/// Shapes, dtypes or labels that do not fit; the model is then at w, with no gradients.
pub fn train_step(
    model: &mut Model,
    optimizer: &mut Optimizer,
    images: &Tensor,
    target: &Target,
    loss: &Loss,
    options: StepOptions,
) -> Result<StepOutcome> {
    train_step_while(model, optimizer, images, target, loss, options, &mut || {})
}

/// As [`train_step`], with something that the host does meanwhile, once: where a GPU takes the whole step by itself, after the step
/// was queued and before it is waited for; else before the step.
pub fn train_step_while(
    model: &mut Model,
    optimizer: &mut Optimizer,
    images: &Tensor,
    target: &Target,
    loss: &Loss,
    options: StepOptions,
    meanwhile: &mut dyn FnMut(),
) -> Result<StepOutcome> {
    let loss_scale = optimizer.loss_scale();
    let mut step = || {
        check_labels(model, images, target)?;
        let target = &target.on(model.engine())?;
        if let Some(outcome) = optimizer.step_on_device(model, &Job { images, target, loss, options }, meanwhile)? {
            return Ok(outcome);
        }
        meanwhile();
        let outcome = Batch { images, target, loss, options }.step(model, optimizer)?;
        Ok(StepOutcome { loss_scale, ..outcome })
    };
    step().inspect_err(|_| {
        // Should the way back fail, too, its cause is this error.
        let _ = optimizer.abandon_step(model);
    })
}

/// Before any forward pass, which stages statistics, and before labels of a caller leave the CPU.
fn check_labels(model: &Model, images: &Tensor, target: &Target) -> Result<()> {
    let classes = model.spec().num_classes;
    target.check_shape(&[images.size().first().copied().unwrap_or(0), classes])?;
    target.check_range(classes)
}

/// Which masks a pass draws: those of the step, or some of its own.
#[derive(Clone, Copy)]
pub(crate) struct PassNumber(pub u64);

const AT_W: PassNumber = PassNumber(0);

struct Batch<'a> {
    images: &'a Tensor,
    target: &'a Target,
    loss: &'a Loss,
    options: StepOptions,
}

impl Batch<'_> {
    fn step(&self, model: &mut Model, optimizer: &mut Optimizer) -> Result<StepOutcome> {
        let Some(sharpness) = optimizer.sharpness().cloned() else {
            let first = self.pass(model, self.len(), AT_W, None)?;
            let info = optimizer.base_step(model)?;
            return Ok(one_pass_outcome(first, info));
        };
        match (optimizer.plan(), sharpness.micro_batch) {
            (Some(Plan::Ahead), _) => {
                let rounding = optimizer.ascent_step(model)?.rounding;
                let only = self.pass(model, self.len(), AT_W, None)?;
                Ok(StepOutcome { rounding, ..one_pass_outcome(only, optimizer.descent_step(model)?) })
            }
            (Some(Plan::Both), Some(size)) => self.micro_batches(model, optimizer, &sharpness, size as i64),
            (Some(Plan::Both), None) => self.both_passes(model, optimizer, &sharpness),
            _ => {
                let first = self.pass(model, self.len(), AT_W, None)?;
                optimizer.ascent_step(model)?;
                Ok(one_pass_outcome(first, optimizer.descent_step(model)?))
            }
        }
    }

    fn both_passes(
        &self,
        model: &mut Model,
        optimizer: &mut Optimizer,
        sharpness: &SharpnessConfig,
    ) -> Result<StepOutcome> {
        let part = ((sharpness.ascent_fraction * self.len() as f64).ceil() as i64).clamp(1, self.len());
        let selects = matches!(sharpness.variant, Variant::Esam { gamma, .. } if gamma < 1.0);
        let inputs = optimizer.first_pass_inputs(model.parameters());
        let (first, losses) = match selects {
            true => self.pass_with_losses(model)?,
            false => (self.pass(model, part, AT_W, inputs.as_deref())?, None),
        };
        let mut ascent = optimizer.ascent_step(model)?;
        for inner in 1..sharpness.inner_steps {
            if ascent.finite {
                self.pass(model, part, PassNumber(masks(sharpness, inner)), inputs.as_deref())?;
                ascent = StepInfo { gradient_norm: ascent.gradient_norm, ..optimizer.ascent_step(model)? };
            }
        }
        if !ascent.finite {
            optimizer.descent_step(model)?;
            return Ok(StepOutcome::new(first, None, None, ascent.gradient_norm, false));
        }
        let number = PassNumber(masks(sharpness, sharpness.inner_steps));
        let second = match (&losses, sharpness.variant) {
            (Some(losses), Variant::Esam { gamma, .. }) => self.sharpest_samples(model, losses, gamma, number)?,
            _ => self.pass(model, self.len(), number, None)?,
        };
        let descent = optimizer.descent_step(model)?;
        let same_samples = part == self.len() && sharpness.inner_steps == 1 && !selects;
        let rise = same_samples.then_some(second.loss - first.loss);
        let whole = part == self.len();
        let reported = if sharpness.metrics == MetricsFrom::Second || !whole { second } else { first };
        let outcome = StepOutcome::new(reported, Some(second.loss), rise, ascent.gradient_norm, descent.finite);
        Ok(StepOutcome { rounding: ascent.rounding, ..outcome })
    }

    /// m-sharpness (Foret 2021, section 4): a perturbation for each micro-batch, and the mean of their gradients.
    fn micro_batches(
        &self,
        model: &mut Model,
        optimizer: &mut Optimizer,
        sharpness: &SharpnessConfig,
        size: i64,
    ) -> Result<StepOutcome> {
        if self.options.accumulate.is_some() {
            return Err(Error::Option {
                option: "accumulate".into(),
                found: "with microBatch".into(),
                expected: "one of them: micro-batches are passes of their own".into(),
            });
        }
        let mut sum: Option<Gradients> = None;
        let (mut first, mut second) = (Mean::default(), Mean::default());
        let mut square = 0.0;
        let parts: Vec<(i64, i64)> = parts(self.len(), size).collect();
        for (index, &(start, len)) in parts.iter().enumerate() {
            let share = match sharpness.micro_batch_reduction {
                Reduction::Mean => len as f64 / self.len() as f64,
                Reduction::Sum => 1.0,
            };
            let (images, target) = (self.images.f_narrow(0, start, len)?, self.target.narrow(start, len)?);
            let seed = |number| part_seed(pass_seed(self.options.mask_seed, number), index as u64);
            first.add(one_pass(model, &images, &target, self.loss, seed(AT_W), WHOLE)?);
            let ascent = optimizer.ascent_step(model)?;
            square += len as f64 / self.len() as f64 * ascent.gradient_norm.powi(2);
            if !ascent.finite {
                optimizer.descent_step(model)?;
                return Ok(StepOutcome::new(first.outcome(), None, None, square.sqrt(), false));
            }
            if let Some(sum) = &sum {
                model.parameters().set_gradients(sum);
            }
            let number = PassNumber(masks(sharpness, 1));
            let share = Share { weight: share, ..WHOLE };
            second.add(one_pass(model, &images, &target, self.loss, seed(number), share)?);
            if index + 1 < parts.len() {
                sum = Some(model.parameters().gradients()?);
                optimizer.next_micro_batch(model)?;
            }
        }
        let descent = optimizer.descent_step(model)?;
        let (first, second) = (first.outcome(), second.outcome());
        let reported = if sharpness.metrics == MetricsFrom::Second { second } else { first };
        let rise = Some(second.loss - first.loss);
        Ok(StepOutcome::new(reported, Some(second.loss), rise, square.sqrt(), descent.finite))
    }

    /// ESAM's second pass: over the share gamma of the samples whose loss has risen most (Du 2022, section 4.2).
    fn sharpest_samples(
        &self,
        model: &mut Model,
        losses: &Tensor,
        gamma: f64,
        number: PassNumber,
    ) -> Result<PassOutcome> {
        let mask_seed = pass_seed(self.options.mask_seed, number);
        // The pass that only looks leaves running statistics alone.
        let statistics = match model.statistics() {
            Statistics::Frozen => Statistics::Frozen,
            _ => Statistics::Ignore,
        };
        let rises = no_grad(|| -> Result<Tensor> {
            let logits = model.forward(self.images, Pass::Train { statistics, mask_seed })?;
            Ok(self.loss.of_samples(&logits, self.target)?.f_sub(losses)?)
        })?;
        let count = ((gamma * self.len() as f64).round() as i64).clamp(1, self.len());
        let (_, indices) = rises.f_topk(count, 0, true, false)?;
        let images = self.images.f_index_select(0, &indices)?;
        one_pass(model, &images, &self.target.select(&indices)?, self.loss, mask_seed, WHOLE)
    }

    fn len(&self) -> i64 {
        self.images.size()[0]
    }

    /// One pass over the first samples, in parts if gradients are accumulated; `inputs` as for [`one_pass`].
    fn pass(&self, model: &Model, samples: i64, number: PassNumber, inputs: Option<&[usize]>) -> Result<PassOutcome> {
        let seed = pass_seed(self.options.mask_seed, number);
        let size = self.options.accumulate.map_or(samples, |size| size as i64);
        if size >= samples && samples == self.len() {
            return one_pass(model, self.images, self.target, self.loss, seed, Share { weight: 1.0, inputs });
        }
        let mut mean = Mean::default();
        for (index, (start, len)) in parts(samples, size).enumerate() {
            let (images, target) = (self.images.f_narrow(0, start, len)?, self.target.narrow(start, len)?);
            let seed = part_seed(seed, index as u64);
            let share = Share { weight: len as f64 / samples as f64, inputs };
            mean.add(one_pass(model, &images, &target, self.loss, seed, share)?);
        }
        Ok(mean.outcome())
    }

    /// The first pass, and the loss of each sample.
    fn pass_with_losses(&self, model: &Model) -> Result<(PassOutcome, Option<Tensor>)> {
        if self.options.accumulate.is_some() {
            return Err(Error::Option {
                option: "accumulate".into(),
                found: "with ESAM's choice of samples".into(),
                expected: "gamma 1, or no accumulation: losses of the whole batch are compared".into(),
            });
        }
        let seed = pass_seed(self.options.mask_seed, AT_W);
        let logits = model.forward(self.images, Pass::Train { statistics: model.statistics(), mask_seed: seed })?;
        let losses = self.loss.of_samples(&logits, self.target)?;
        let mean = self.loss.mean(&losses, self.target)?;
        scaled(&mean, model.loss_scale())?.f_backward()?;
        let outcome = PassOutcome::read(&mean, &hits(&logits, self.target)?, self.len())?;
        Ok((outcome, Some(losses.f_detach()?)))
    }
}

impl StepOutcome {
    pub(crate) fn new(
        reported: PassOutcome,
        perturbed_loss: Option<f64>,
        sharpness: Option<f64>,
        gradient_norm: f64,
        finite: bool,
    ) -> Self {
        let (rounding, loss_scale) = (None, None);
        Self { reported, perturbed_loss, sharpness, gradient_norm, finite, rounding, loss_scale }
    }
}

fn one_pass_outcome(only: PassOutcome, info: StepInfo) -> StepOutcome {
    StepOutcome::new(only, None, None, info.gradient_norm, info.finite)
}

/// What a backward pass leaves behind.
#[derive(Clone, Copy)]
pub(crate) struct Share<'a> {
    /// Multiplies the gradients.
    pub weight: f64,
    /// The parameters that get one, by position; None: all.
    pub inputs: Option<&'a [usize]>,
}

const WHOLE: Share<'static> = Share { weight: 1.0, inputs: None };

fn one_pass(
    model: &Model,
    images: &Tensor,
    target: &Target,
    loss: &Loss,
    mask_seed: u64,
    share: Share<'_>,
) -> Result<PassOutcome> {
    let (loss, correct) = queue_pass(model, images, target, loss, Seed::Value(mask_seed), share)?;
    PassOutcome::read(&loss, &correct, images.size()[0])
}

/// A pass whose mean loss and number of right answers are not waited for.
pub(crate) fn queue_pass(
    model: &Model,
    images: &Tensor,
    target: &Target,
    loss: &Loss,
    mask_seed: Seed<'_>,
    share: Share<'_>,
) -> Result<(Tensor, Tensor)> {
    let logits = model.forward_train(images, model.statistics(), mask_seed)?;
    let (value, correct) = loss_and_hits(model.engine(), loss, &logits, target)?;
    let weighted = scaled(&value, share.weight * model.loss_scale())?;
    match share.inputs {
        None => weighted.f_backward()?,
        Some(positions) => {
            let leaves = model.parameters().leaves();
            let inputs: Vec<&Tensor> = positions.iter().map(|&position| &leaves[position]).collect();
            let gradients = Tensor::f_run_backward(&[weighted], &inputs, false, false)?;
            for (leaf, gradient) in inputs.iter().zip(gradients) {
                if gradient.defined() {
                    accumulate(leaf, &gradient)?;
                }
            }
        }
    }
    Ok((value.f_detach()?, correct))
}

/// The mean loss, which can be differentiated, and the number of right answers.
fn loss_and_hits(engine: Engine, loss: &Loss, logits: &Tensor, target: &Target) -> Result<(Tensor, Tensor)> {
    match (engine, loss, target) {
        (
            Engine::Cuda(place),
            &Loss::CrossEntropy { label_smoothing, class_weights: None },
            Target::Classes(labels),
        ) => {
            let correct = Tensor::f_empty(&[] as &[i64], (Kind::Int64, place.device()))?;
            Ok((place.cross_entropy(logits, labels, label_smoothing, Some(&correct))?, correct))
        }
        _ => Ok((loss.apply(logits, target)?, hits(logits, target)?)),
    }
}

fn scaled(loss: &Tensor, factor: f64) -> Result<Tensor> {
    Ok(if factor == 1.0 { loss.shallow_clone() } else { loss.f_mul_scalar(factor)? })
}

/// What a backward pass over all leaves does with each gradient.
fn accumulate(leaf: &Tensor, gradient: &Tensor) -> Result<()> {
    let sum = leaf.f_grad()?;
    match sum.defined() {
        true => no_grad(|| sum.shallow_clone().f_add_(gradient).map(drop))?,
        false => set_grad(leaf, gradient),
    }
    Ok(())
}

/// Rows whose largest logit is their class: int64, one number.
fn hits(logits: &Tensor, target: &Target) -> Result<Tensor> {
    no_grad(|| Ok(logits.f_argmax(1, false)?.f_eq_tensor(&target.classes()?)?.f_sum(Kind::Int64)?))
}

/// Parts of a batch: start and length.
fn parts(len: i64, size: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..len).step_by(size as usize).map(move |start| (start, size.min(len - start)))
}

/// Which masks the pass after so many ascents draws.
pub(crate) fn masks(sharpness: &SharpnessConfig, ascents: u64) -> u64 {
    match sharpness.masks {
        Masks::Shared => 0,
        Masks::Fresh => ascents,
    }
}

pub(crate) fn pass_seed(step: u64, PassNumber(number): PassNumber) -> u64 {
    if number == 0 { step } else { flatmin_torch_ext::cpu::split_mix(step, number) }
}

/// Parts of a pass draw masks of their own; the first those of the whole.
fn part_seed(pass: u64, index: u64) -> u64 {
    if index == 0 { pass } else { flatmin_torch_ext::cpu::split_mix(!pass, index) }
}

/// A mean over parts of a batch, each weighted by its samples.
#[derive(Default)]
struct Mean {
    loss: f64,
    correct: i64,
    count: i64,
}

impl Mean {
    fn add(&mut self, part: PassOutcome) {
        self.loss += part.loss * part.count as f64;
        self.correct += part.correct;
        self.count += part.count;
    }

    fn outcome(self) -> PassOutcome {
        PassOutcome { loss: self.loss / self.count as f64, correct: self.correct, count: self.count }
    }
}
