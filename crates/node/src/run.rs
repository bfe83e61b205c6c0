//! `BindingRun`: a training run on its own thread, read event by event.

use std::path::PathBuf;
use std::sync::Arc;

use flatmin_train::{Datasets, Run};
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, JsObjectValue, Object, PromiseRaw};
use napi_derive::napi;
use serde_json::Value;

use crate::dataset::BindingDataset;
use crate::errors::{OrThrow, wrong_option};
use crate::json::{options, to_json};
use crate::lifecycle;
use crate::model::BindingModel;
use crate::optimizer::BindingOptimizer;

#[napi]
pub struct BindingRun {
    run: Arc<Run>,
}

/// A run whose JavaScript object is gone can be neither read nor stopped, so it ends.
impl Drop for BindingRun {
    fn drop(&mut self) {
        self.run.abort();
    }
}

#[napi]
impl BindingRun {
    #[napi(ts_args_type = "model: BindingModel, optimizer: BindingOptimizer, \
                           datasets: { train: BindingDataset, validation?: BindingDataset, test?: BindingDataset }, \
                           config: object, resume?: string")]
    pub fn start(
        model: &BindingModel,
        optimizer: &BindingOptimizer,
        datasets: Object,
        config: Value,
        resume: Option<String>,
    ) -> napi::Result<Self> {
        let (slot, pair) = (model.slot()?, optimizer.pair()?);
        if !Arc::ptr_eq(&slot, &pair.model) {
            return Err(wrong_option("optimizer", "one of another model", "an optimizer made for this model"));
        }
        let set = |name: &str| -> napi::Result<_> {
            let set: Option<ClassInstance<BindingDataset>> = datasets.get_named_property(name)?;
            set.map(|set| set.set()).transpose()
        };
        let missing = || wrong_option("datasets.train", "missing", "a data set");
        let sets =
            Datasets { train: set("train")?.ok_or_else(missing)?, validation: set("validation")?, test: set("test")? };
        let config = options("training", config)?;
        let run = Run::start(slot, pair.optimizer, sets, config, resume.map(PathBuf::from)).or_throw()?;
        let run = Arc::new(run);
        lifecycle::register(&run);
        Ok(Self { run })
    }

    /// The next event; null after the last. Rejects once with what ended the run, after all events were read.
    #[napi(ts_return_type = "Promise<object | null>")]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Option<Value>>> {
        let events = self.run.events().clone();
        env.spawn_future(async move {
            let event = events.next().await.or_throw()?;
            event.as_ref().map(to_json).transpose()
        })
    }

    /// Answers an epoch event of a run with `awaitEpochEnd`.
    #[napi(ts_args_type = "control: { stop?: boolean, lr?: number }")]
    pub fn acknowledge(&self, control: Value) -> napi::Result<()> {
        self.run.acknowledge(options("acknowledge", control)?);
        Ok(())
    }

    /// Finishes the step, writes a checkpoint if there is a run folder, and ends with reason `stopped`.
    #[napi]
    pub fn stop(&self) {
        self.run.stop();
    }

    /// As `stop`, with reason `aborted`.
    #[napi]
    pub fn abort(&self) {
        self.run.abort();
    }

    /// Aborts the run if it is still going.
    #[napi]
    pub fn dispose(&self) {
        self.run.abort();
    }
}
