//! Weights of a `BindingModel`: to files and back, and as tensors by name.

use flatmin_nn::{LoadOptions, Model};
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, JsObjectValue, Object, PromiseRaw};
use napi_derive::napi;
use serde_json::Value;

use crate::compute;
use crate::errors::OrThrow;
use crate::json::{options_or_default, to_json};
use crate::model::BindingModel;
use crate::tensor::BindingTensor;

#[napi]
impl BindingModel {
    /// Writes a file with all that `load` needs, complete or not at all: PyTorch's `.pt` or `.pth` by its name, else
    /// safetensors.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn save<'env>(&self, env: &'env Env, path: String) -> napi::Result<PromiseRaw<'env, ()>> {
        let slot = self.slot()?;
        compute::promise(env, move || slot.lock().save(path.as_ref()).or_throw())
    }

    /// Writes an ONNX file of the model in evaluation, complete or not at all.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn export_onnx<'env>(&self, env: &'env Env, path: String) -> napi::Result<PromiseRaw<'env, ()>> {
        let slot = self.slot()?;
        compute::promise(env, move || slot.lock().export_onnx(path.as_ref()).or_throw())
    }

    /// The spec in a file that `save` wrote; null in files of other programs.
    #[napi(catch_unwind, ts_return_type = "object | null")]
    pub fn spec_in(path: String) -> napi::Result<Option<Value>> {
        Model::spec_in(path.as_ref()).or_throw()?.map(|spec| to_json(&spec)).transpose()
    }

    /// Reads weights by PyTorch's names. Nothing changes when they do not fit.
    #[napi(
        ts_args_type = "path: string, options?: { strict?: boolean, prefix?: string, key?: string, \
                        map?: Record<string, string | null> }",
        ts_return_type = "Promise<{ missing: string[], unexpected: string[], \
                          mismatched: { name: string, found: number[], expected: number[] }[] }>"
    )]
    pub fn load_weights<'env>(
        &self,
        env: &'env Env,
        path: String,
        options: Option<Value>,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let options: LoadOptions = options_or_default("loadWeights", options)?;
        let slot = self.slot()?;
        compute::promise(env, move || {
            let mut model = slot.lock_for_change().or_throw()?;
            to_json(&model.load_weights_with(path.as_ref(), &options).or_throw()?)
        })
    }

    /// Copies of parameters and running statistics, by PyTorch's names.
    #[napi(ts_return_type = "Promise<Record<string, BindingTensor>>")]
    pub fn state_dict<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Object<'env>>> {
        let slot = self.slot()?;
        let job = move || slot.lock().state_dict().or_throw();
        compute::promise_with(env, job, |env, entries| {
            let mut record = Object::new(env)?;
            for (name, tensor) in entries {
                record.set(&name, BindingTensor::new(env, tensor)?)?;
            }
            Ok(record)
        })
    }

    /// Copies parameters and statistics in. Nothing changes when they do not fit.
    #[napi(
        ts_args_type = "record: Record<string, BindingTensor>, options?: { strict?: boolean, prefix?: string, \
                        map?: Record<string, string | null> }",
        ts_return_type = "Promise<{ missing: string[], unexpected: string[], \
                          mismatched: { name: string, found: number[], expected: number[] }[] }>"
    )]
    pub fn load_state_dict<'env>(
        &self,
        env: &'env Env,
        record: Object,
        options: Option<Value>,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let options: LoadOptions = options_or_default("loadStateDict", options)?;
        let mut state = Vec::new();
        for name in Object::keys(&record)? {
            let tensor: ClassInstance<BindingTensor> = record.get_named_property(&name)?;
            state.push((name, tensor.handle()?));
        }
        let slot = self.slot()?;
        compute::promise(env, move || {
            let mut model = slot.lock_for_change().or_throw()?;
            to_json(&model.load_state_dict_with(state, &options).or_throw()?)
        })
    }
}
