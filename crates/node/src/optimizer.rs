//! `BindingOptimizer`: the steps of a loop that the caller writes, and the knobs of the groups.

use std::sync::Arc;

use flatmin_nn::Model;
use flatmin_optim::{Loss, Optimizer, OptimizerConfig, Phase, StepInfo, StepOptions, train_step};
use flatmin_train::{ModelSlot, OptimizerSlot, model_images};
use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;

use crate::compute;
use crate::disposable::Disposable;
use crate::errors::{OrThrow, wrong_option};
use crate::json::{options, options_or_default, to_json};
use crate::model::BindingModel;
use crate::model_compute::target;
use crate::tensor::BindingTensor;

/// An optimizer and the model that it steps.
#[derive(Clone)]
pub struct Pair {
    pub model: Arc<ModelSlot>,
    pub optimizer: Arc<OptimizerSlot>,
}

#[napi]
pub struct BindingOptimizer {
    pair: Disposable<Pair>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WholeStepOptions {
    loss: Loss,
    seed: u64,
    accumulate: Option<u64>,
}

type Half = fn(&mut Optimizer, &mut Model) -> flatmin_optim::Result<StepInfo>;

impl BindingOptimizer {
    pub fn pair(&self) -> napi::Result<Pair> {
        self.pair.get()
    }

    fn half<'env>(&self, env: &'env Env, half: Half) -> napi::Result<PromiseRaw<'env, Value>> {
        let pair = self.pair()?;
        compute::promise(env, move || {
            let mut model = pair.model.lock_for_change().or_throw()?;
            to_json(&half(&mut pair.optimizer.lock(), &mut model).or_throw()?)
        })
    }
}

#[napi]
impl BindingOptimizer {
    #[napi(catch_unwind, ts_args_type = "model: BindingModel, config: object")]
    pub fn create(model: &BindingModel, config: Value) -> napi::Result<Self> {
        let config: OptimizerConfig = options("optimizer", config)?;
        let slot = model.slot()?;
        let optimizer = Optimizer::new(&mut *slot.try_lock_for_change().or_throw()?, config).or_throw()?;
        let pair = Pair { model: slot, optimizer: OptimizerSlot::new(optimizer) };
        Ok(Self { pair: Disposable::new("optimizer", pair) })
    }

    /// Goes to w + eps with the gradients at w.
    #[napi(
        ts_return_type = "Promise<{ gradientNorm: number | null, finite: boolean, rounding: { ratio: number, cosine: number, factor: number } | null, secondPass: boolean }>"
    )]
    pub fn ascent_step<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Value>> {
        self.half(env, Optimizer::ascent_step)
    }

    /// Returns to w and steps with the gradients at w + eps.
    #[napi(
        ts_return_type = "Promise<{ gradientNorm: number | null, finite: boolean, rounding: { ratio: number, cosine: number, factor: number } | null, secondPass: boolean }>"
    )]
    pub fn descent_step<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Value>> {
        self.half(env, Optimizer::descent_step)
    }

    /// Steps with the gradients at w: plain training.
    #[napi(
        ts_return_type = "Promise<{ gradientNorm: number | null, finite: boolean, rounding: { ratio: number, cosine: number, factor: number } | null, secondPass: boolean }>"
    )]
    pub fn base_step<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Value>> {
        self.half(env, Optimizer::base_step)
    }

    /// All passes and the update, on one batch.
    #[napi(
        ts_args_type = "images: BindingTensor, labels: BindingTensor, options?: { loss?: object, seed?: number, accumulate?: number }",
        ts_return_type = "Promise<{ loss: number, perturbedLoss: number | null, sharpness: number | null, \
                          correct: number, count: number, gradientNorm: number | null, finite: boolean, \
                          rounding: { ratio: number, cosine: number, factor: number } | null, lossScale: number | null }>"
    )]
    pub fn step<'env>(
        &self,
        env: &'env Env,
        images: &BindingTensor,
        labels: &BindingTensor,
        options: Option<Value>,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let WholeStepOptions { loss, seed, accumulate } = options_or_default("step", options)?;
        let (pair, images, labels) = (self.pair()?, images.handle()?, labels.handle()?);
        compute::promise(env, move || {
            loss.validate().or_throw()?;
            let mut model = pair.model.lock_for_change().or_throw()?;
            let images = model_images(&images, &model).or_throw()?;
            let mut optimizer = pair.optimizer.lock();
            let step = StepOptions { mask_seed: seed, accumulate };
            let outcome = train_step(&mut model, &mut optimizer, &images, &target(labels)?, &loss, step);
            to_json(&outcome.or_throw()?)
        })
    }

    /// Forgets the gradients that have added up.
    #[napi]
    pub fn clear_gradients(&self) -> napi::Result<()> {
        self.pair()?.model.try_lock_for_change().or_throw()?.parameters().clear_gradients();
        Ok(())
    }

    #[napi(getter)]
    pub fn group_count(&self) -> napi::Result<u32> {
        Ok(self.pair()?.optimizer.view().groups.len() as u32)
    }

    /// The hyper-parameters of a group.
    #[napi(ts_return_type = "{ lr: number, weightDecay: number, momentum?: number, rho?: number }")]
    pub fn group(&self, index: u32) -> napi::Result<Value> {
        let groups = self.pair()?.optimizer.view().groups;
        match groups.get(index as usize) {
            Some(group) => to_json(group),
            None => Err(wrong_option("group", index, &format!("an index below {}", groups.len()))),
        }
    }

    /// Sets a hyper-parameter of a group, also during a run, from the next step on.
    #[napi]
    pub fn set_group(&self, index: u32, key: String, value: f64) -> napi::Result<()> {
        self.pair()?.optimizer.set_group(index as usize, &key, value).or_throw()
    }

    /// `perturbed` between an ascent and its descent; `ready` there if the step has no second pass.
    #[napi(getter, ts_return_type = "'clean' | 'perturbed' | 'ready'")]
    pub fn phase(&self) -> napi::Result<String> {
        let phase = match self.pair()?.optimizer.view().phase {
            Phase::Clean => "clean",
            Phase::Perturbed => "perturbed",
            Phase::Ready | Phase::Skipping => "ready",
        };
        Ok(phase.to_owned())
    }

    /// Steps taken, skipped ones not counted.
    #[napi(getter)]
    pub fn steps(&self) -> napi::Result<i64> {
        Ok(self.pair()?.optimizer.view().steps as i64)
    }

    /// Steps given up because a gradient was not finite.
    #[napi(getter)]
    pub fn skipped(&self) -> napi::Result<i64> {
        Ok(self.pair()?.optimizer.view().skipped as i64)
    }

    /// What the loss of the next step is multiplied by before backward passes; null if it is not scaled.
    #[napi(getter)]
    pub fn loss_scale(&self) -> napi::Result<Option<f64>> {
        Ok(self.pair()?.optimizer.view().loss_scale)
    }

    #[napi]
    pub fn dispose(&self) {
        self.pair.dispose();
    }
}
