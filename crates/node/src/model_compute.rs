//! What a `BindingModel` computes: passes, evaluations and predictions, all on the compute thread.

use flatmin_nn::{Pass, Statistics};
use flatmin_optim::{Loss, Target, backward};
use flatmin_train::{EvaluateOptions, evaluate, model_images, predict, predict_files};
use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor, no_grad};

use crate::compute;
use crate::dataset::BindingDataset;
use crate::errors::{OrThrow, failure};
use crate::json::{options_or_default, to_json};
use crate::lifecycle;
use crate::model::BindingModel;
use crate::tensor::BindingTensor;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ForwardOptions {
    train: bool,
}

/// Options of one training pass or step.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PassOptions {
    pub loss: Loss,
    /// Of the dropout masks.
    pub seed: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PredictOptions {
    top_k: usize,
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self { top_k: 1 }
    }
}

/// Class numbers `[batch]` of an integer dtype, or values for each class `[batch, classes]`.
pub fn target(labels: Tensor) -> napi::Result<Target> {
    match labels.kind() {
        Kind::Float | Kind::Double => Ok(Target::Dense(labels)),
        _ => Ok(Target::Classes(labels.f_to_kind(Kind::Int64).or_throw()?)),
    }
}

#[napi]
impl BindingModel {
    /// Logits [batch, classes] of normalised images [batch, channels, height, width]. With `train`, batch norm uses the
    /// batch's own statistics and leaves the running ones alone.
    #[napi(
        ts_args_type = "images: BindingTensor, options?: { train?: boolean }",
        ts_return_type = "Promise<BindingTensor>"
    )]
    pub fn forward<'env>(
        &self,
        env: &'env Env,
        images: &BindingTensor,
        options: Option<Value>,
    ) -> napi::Result<PromiseRaw<'env, BindingTensor>> {
        let ForwardOptions { train } = options_or_default("forward", options)?;
        let (slot, images) = (self.slot()?, images.handle()?);
        let pass = if train { Pass::Train { statistics: Statistics::Ignore, mask_seed: 0 } } else { Pass::Eval };
        let job = move || {
            let model = slot.lock();
            let images = model_images(&images, &model).or_throw()?;
            no_grad(|| model.forward(&images, pass)).or_throw()
        };
        compute::promise_with(env, job, BindingTensor::new)
    }

    /// Adds the gradients of the mean loss to those that are there.
    #[napi(
        ts_args_type = "images: BindingTensor, labels: BindingTensor, options?: { loss?: object, seed?: number }",
        ts_return_type = "Promise<{ loss: number, correct: number, count: number }>"
    )]
    pub fn backward<'env>(
        &self,
        env: &'env Env,
        images: &BindingTensor,
        labels: &BindingTensor,
        options: Option<Value>,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let PassOptions { loss, seed } = options_or_default("backward", options)?;
        let (slot, images, labels) = (self.slot()?, images.handle()?, labels.handle()?);
        compute::promise(env, move || {
            loss.validate().or_throw()?;
            let model = slot.lock_for_change().or_throw()?;
            let images = model_images(&images, &model).or_throw()?;
            to_json(&backward(&model, &images, &target(labels)?, &loss, seed).or_throw()?)
        })
    }

    #[napi(
        ts_args_type = "dataset: BindingDataset, options?: { batchSize?: number, loss?: object, metrics?: string[], \
                        limit?: number, mirror?: boolean, normalization?: { mean: number[], std: number[] }, \
                        loaderThreads?: number }",
        ts_return_type = "Promise<{ count: number, loss: number, accuracy: number, top5: number, ece?: number, \
                          confusionMatrix?: number[][] }>"
    )]
    pub fn evaluate<'env>(
        &self,
        env: &'env Env,
        dataset: &BindingDataset,
        options: Option<Value>,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let options: EvaluateOptions = options_or_default("evaluate", options)?;
        let (slot, set) = (self.slot()?, dataset.set()?);
        compute::promise(env, move || {
            let scores = evaluate(&slot.lock(), &set, &options, &lifecycle::ending).or_throw()?;
            scores.map_or_else(
                || Err(failure("ERR_FLATMIN_INTERNAL", "the process is ending")),
                |scores| to_json(&scores),
            )
        })
    }

    /// The likeliest classes of images [batch, channels, height, width]: pixels in [0, 1], or uint8. The model's
    /// normalisation is applied.
    #[napi(
        ts_args_type = "images: BindingTensor, options?: { topK?: number }",
        ts_return_type = "Promise<{ label: number, name: string, probability: number }[][]>"
    )]
    pub fn predict<'env>(
        &self,
        env: &'env Env,
        images: &BindingTensor,
        options: Option<Value>,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let PredictOptions { top_k } = options_or_default("predict", options)?;
        let (slot, images) = (self.slot()?, images.handle()?);
        compute::promise(env, move || to_json(&predict(&slot.lock(), &images, top_k).or_throw()?))
    }

    /// As `predict`, for PNG, JPEG and WebP files.
    #[napi(
        ts_args_type = "paths: string[], options?: { topK?: number }",
        ts_return_type = "Promise<{ label: number, name: string, probability: number }[][]>"
    )]
    pub fn predict_files<'env>(
        &self,
        env: &'env Env,
        paths: Vec<String>,
        options: Option<Value>,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let PredictOptions { top_k } = options_or_default("predict", options)?;
        let slot = self.slot()?;
        compute::promise(env, move || to_json(&predict_files(&slot.lock(), &paths, top_k).or_throw()?))
    }
}
