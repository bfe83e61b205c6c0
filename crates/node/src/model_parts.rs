//! Parts of a `BindingModel`: freezing them, and putting another layer in the place of one.

use flatmin_nn::spec::Layer;
use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;

use crate::compute;
use crate::errors::OrThrow;
use crate::json::{options, options_or_default};
use crate::model::BindingModel;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReplaceOptions {
    seed: u64,
}

#[napi]
impl BindingModel {
    /// Freezes the parameters and statistics that the patterns name.
    #[napi]
    pub fn freeze(&self, patterns: Vec<String>) -> napi::Result<()> {
        self.slot()?.try_lock_for_change().or_throw()?.freeze(&patterns).or_throw()
    }

    #[napi]
    pub fn unfreeze(&self, patterns: Vec<String>) -> napi::Result<()> {
        self.slot()?.try_lock_for_change().or_throw()?.unfreeze(&patterns).or_throw()
    }

    /// Names of the state dict that are frozen. Waits for the step in progress.
    #[napi(getter)]
    pub fn frozen(&self) -> napi::Result<Vec<String>> {
        Ok(self.slot()?.lock().frozen())
    }

    /// A copy with another layer in place of the one of this name.
    #[napi(
        ts_args_type = "name: string, layer: object, options?: { seed?: number }",
        ts_return_type = "Promise<BindingModel>"
    )]
    pub fn replace<'env>(
        &self,
        env: &'env Env,
        name: String,
        layer: Value,
        options: Option<Value>,
    ) -> napi::Result<PromiseRaw<'env, Self>> {
        let layer: Layer = self::options("layer", layer)?;
        let ReplaceOptions { seed } = options_or_default("replace", options)?;
        let slot = self.slot()?;
        compute::promise(env, move || Self::new(slot.lock().with_layer(&name, &layer, seed).or_throw()?))
    }
}
