//! `BindingModel`: making, describing and freeing a model. What it computes is in `model_compute`, its weights' ways in
//! and out in `model_state`, freezing and replacing in `model_parts`.

use std::sync::Arc;

use flatmin_nn::{Dtype, Engine, Model, ModelSpec, Normalization, ScriptOptions, device_name};
use flatmin_train::ModelSlot;
use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;
use tch::{Tensor, no_grad};

use crate::compute;
use crate::disposable::Disposable;
use crate::errors::{OrThrow, failure};
use crate::json::{options, options_or_default, to_json};
use crate::tensor::BindingTensor;

#[napi]
pub struct BindingModel {
    slot: Disposable<Arc<ModelSlot>>,
    summary: Value,
    parameter_count: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CreateOptions {
    dtype: Dtype,
    seed: u64,
    device: Engine,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LoadOptions {
    dtype: Option<Dtype>,
    device: Engine,
}

impl BindingModel {
    pub(crate) fn new(model: Model) -> napi::Result<Self> {
        let summary = to_json(&model.summary())?;
        let parameter_count = model.parameters().parameter_count() as i64;
        Ok(Self { slot: Disposable::new("model", ModelSlot::new(model)), summary, parameter_count })
    }

    pub fn slot(&self) -> napi::Result<Arc<ModelSlot>> {
        self.slot.get()
    }
}

#[napi]
impl BindingModel {
    /// A model with fresh weights. The same seed gives the same weights.
    #[napi(catch_unwind, ts_args_type = "spec: object, options?: { dtype?: string, seed?: number, device?: string }")]
    pub fn create(spec: Value, options: Option<Value>) -> napi::Result<Self> {
        let spec: ModelSpec = self::options("model spec", spec)?;
        let CreateOptions { dtype, seed, device } = options_or_default("model", options)?;
        Self::new(Model::new(spec, dtype, seed).and_then(|model| model.moved(device)).or_throw()?)
    }

    /// A model that `save` wrote. Default dtype: the file's.
    #[napi(
        ts_args_type = "path: string, options?: { dtype?: string, device?: string }",
        ts_return_type = "Promise<BindingModel>"
    )]
    pub fn load(env: &Env, path: String, options: Option<Value>) -> napi::Result<PromiseRaw<'_, Self>> {
        let LoadOptions { dtype, device } = options_or_default("model", options)?;
        compute::promise(env, move || {
            Self::new(Model::load(path.as_ref(), dtype).and_then(|model| model.moved(device)).or_throw()?)
        })
    }

    /// A TorchScript module as a model.
    #[napi(
        ts_args_type = "path: string, options: { inputShape: [number, number, number], numClasses?: number, \
                        name?: string, classNames?: string[], normalization?: { mean: number[], std: number[] } }, \
                        place: { dtype: string, device: string }",
        ts_return_type = "Promise<BindingModel>"
    )]
    pub fn from_torch_script(
        env: &Env,
        path: String,
        options: Value,
        place: Value,
    ) -> napi::Result<PromiseRaw<'_, Self>> {
        let options: ScriptOptions = self::options("fromTorchScript", options)?;
        let LoadOptions { dtype, device } = self::options("fromTorchScript", place)?;
        compute::promise(env, move || {
            let model = Model::from_torch_script(path.as_ref(), options, dtype.unwrap_or_default());
            Self::new(model.and_then(|model| model.moved(device)).or_throw()?)
        })
    }

    #[napi(getter, ts_return_type = "object")]
    pub fn spec(&self) -> napi::Result<Value> {
        to_json(&*self.slot()?.spec())
    }

    #[napi(getter)]
    pub fn dtype(&self) -> napi::Result<String> {
        Ok(self.slot()?.dtype().name().to_owned())
    }

    /// `cpu` or `cuda:N`.
    #[napi(getter)]
    pub fn device(&self) -> napi::Result<String> {
        Ok(device_name(self.slot()?.engine().device()))
    }

    /// Moves weights and statistics to another device; gradients go.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn to<'env>(&self, env: &'env Env, device: String) -> napi::Result<PromiseRaw<'env, ()>> {
        let (slot, engine) = (self.slot()?, device.parse().or_throw()?);
        compute::promise(env, move || slot.move_to(engine).or_throw())
    }

    #[napi(getter)]
    pub fn parameter_count(&self) -> i64 {
        self.parameter_count
    }

    /// Layers with output shapes and parameters.
    #[napi(ts_return_type = "object")]
    pub fn summary(&self) -> Value {
        self.summary.clone()
    }

    /// A copy of one parameter's gradient; null while it has none.
    #[napi]
    pub fn gradient(&self, env: &Env, name: String) -> napi::Result<Option<BindingTensor>> {
        let slot = self.slot()?;
        let model = slot.try_lock_for_change().or_throw()?;
        let parameters = model.parameters();
        let Some(position) = parameters.position(&name) else {
            let names: Vec<&str> = parameters.segments().iter().map(|segment| segment.name.as_str()).collect();
            let message = format!("there is no parameter named '{name}'; there are {}", names.join(", "));
            return Err(failure("ERR_FLATMIN_NAME", message));
        };
        let gradient = parameters.leaves()[position].f_grad().or_throw()?;
        if !gradient.defined() {
            return Ok(None);
        }
        let mut copy = Tensor::f_empty(gradient.size(), (gradient.kind(), gradient.device())).or_throw()?;
        no_grad(|| copy.f_copy_(&gradient)).or_throw()?;
        BindingTensor::new(env, copy).map(Some)
    }

    #[napi]
    pub fn set_class_names(&self, names: Vec<String>) -> napi::Result<()> {
        let slot = self.slot()?;
        let mut model = slot.try_lock_for_change().or_throw()?;
        slot.describe(&mut model, |model| model.set_class_names(Some(names))).or_throw()
    }

    /// Applied to pixels in [0, 1] by `predict`, `evaluate` and training.
    #[napi(ts_args_type = "normalization: { mean: number[], std: number[] }")]
    pub fn set_normalization(&self, normalization: Value) -> napi::Result<()> {
        let normalization: Normalization = options("normalization", normalization)?;
        let slot = self.slot()?;
        let mut model = slot.try_lock_for_change().or_throw()?;
        slot.describe(&mut model, |model| model.set_normalization(Some(normalization))).or_throw()
    }

    #[napi]
    pub fn dispose(&self) {
        self.slot.dispose();
    }
}
