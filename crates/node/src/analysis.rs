//! `BindingAnalysis`: one measurement of a model, told about while it goes and stopped from outside.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flatmin_analysis::{
    CurvatureOptions, LineEnd, LineOptions, Monitor, Progress, TrajectoryOptions, all_layer_margins, curvature,
    interpolation, sharpness, surface, trajectory,
};
use flatmin_data::Dataset;
use flatmin_nn::Model;
use napi::bindgen_prelude::{Object, PromiseRaw, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::compute;
use crate::dataset::BindingDataset;
use crate::errors::OrThrow;
use crate::json::{options, to_json};
use crate::lifecycle;
use crate::model::BindingModel;
use crate::tensor::BindingTensor;

/// Progress comes at most once in so much time.
const PACE: Duration = Duration::from_millis(50);

/// Calls back with `{ done, total }`; weak, so that it does not keep the process alive.
type Report = ThreadsafeFunction<Value, Unknown<'static>, Value, Status, false, true>;

#[napi]
pub struct BindingAnalysis {
    stopped: Arc<AtomicBool>,
    report: Arc<Report>,
}

/// What a measurement takes with it to the compute thread.
struct Watch {
    stopped: Arc<AtomicBool>,
    report: Arc<Report>,
}

impl Watch {
    fn observe<T>(
        &self,
        measure: impl FnOnce(&Monitor<'_>) -> flatmin_analysis::Result<T>,
    ) -> flatmin_analysis::Result<T> {
        let last = Cell::new(None::<Instant>);
        let report = |progress: Progress| {
            if last.get().is_none_or(|last| last.elapsed() >= PACE) {
                last.set(Some(Instant::now()));
                let value = serde_json::to_value(progress).unwrap_or_default();
                // A full queue or a process that ends loses a report, no more.
                let _ = self.report.call(value, ThreadsafeFunctionCallMode::NonBlocking);
            }
        };
        let interrupted = || self.stopped.load(Ordering::Relaxed) || lifecycle::ending();
        measure(&Monitor::new(&report, &interrupted))
    }
}

/// The model away from its own weights for a time, so nothing else may look at it.
fn measured<'env, O, T>(
    env: &'env Env,
    analysis: &BindingAnalysis,
    (model, dataset): (&BindingModel, &BindingDataset),
    (what, value): (&str, Value),
    measure: impl FnOnce(&mut Model, &Dataset, &O, &Monitor<'_>) -> flatmin_analysis::Result<T> + Send + 'static,
) -> napi::Result<PromiseRaw<'env, Value>>
where
    O: DeserializeOwned + Send + 'static,
    T: Serialize,
{
    let options: O = options(what, value)?;
    let (watch, slot, set) = (analysis.watch(), model.slot()?, dataset.set()?);
    compute::promise(env, move || {
        let mut model = slot.lock_for_change().or_throw()?;
        to_json(&watch.observe(|monitor| measure(&mut model, &set, &options, monitor)).or_throw()?)
    })
}

impl BindingAnalysis {
    fn watch(&self) -> Watch {
        Watch { stopped: self.stopped.clone(), report: self.report.clone() }
    }
}

#[napi]
impl BindingAnalysis {
    #[napi(constructor, ts_args_type = "report: (progress: { done: number, total: number }) => void")]
    pub fn new(report: Report) -> Self {
        Self { stopped: Arc::default(), report: Arc::new(report) }
    }

    /// Ends the measurement after the batch it is in; its promise then rejects.
    #[napi]
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    #[napi(
        ts_args_type = "model: BindingModel, dataset: BindingDataset, options: object",
        ts_return_type = "Promise<object>"
    )]
    pub fn sharpness<'env>(
        &self,
        env: &'env Env,
        model: &BindingModel,
        dataset: &BindingDataset,
        options: Value,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        measured(env, self, (model, dataset), ("sharpness", options), sharpness)
    }

    /// `vectors` has an entry for each eigenvalue if they are asked for.
    #[napi(
        ts_args_type = "model: BindingModel, dataset: BindingDataset, options: object",
        ts_return_type = "Promise<{ report: object, vectors: Record<string, BindingTensor>[] }>"
    )]
    pub fn hessian<'env>(
        &self,
        env: &'env Env,
        model: &BindingModel,
        dataset: &BindingDataset,
        options: Value,
    ) -> napi::Result<PromiseRaw<'env, Object<'env>>> {
        let options: CurvatureOptions = crate::json::options("hessian", options)?;
        let (watch, slot, set) = (self.watch(), model.slot()?, dataset.set()?);
        let job = move || {
            let mut model = slot.lock_for_change().or_throw()?;
            let found = watch.observe(|monitor| curvature(&mut model, &set, &options, monitor)).or_throw()?;
            let parameters = model.parameters();
            let named = |vector| {
                let segments = parameters.segments().iter().enumerate();
                segments
                    .map(|(at, segment)| Ok((segment.name.clone(), parameters.read_from(vector, at).or_throw()?)))
                    .collect::<napi::Result<Vec<_>>>()
            };
            let vectors = found.vectors.iter().map(named).collect::<napi::Result<Vec<_>>>()?;
            Ok((to_json(&found)?, vectors))
        };
        compute::promise_with(env, job, |env, (report, vectors)| {
            let records = vectors.into_iter().map(|entries| {
                let mut record = Object::new(env)?;
                for (name, tensor) in entries {
                    record.set(&name, BindingTensor::new(env, tensor)?)?;
                }
                Ok(record)
            });
            let mut answer = Object::new(env)?;
            answer.set("vectors", records.collect::<napi::Result<Vec<_>>>()?)?;
            answer.set("report", report)?;
            Ok(answer)
        })
    }

    #[napi(
        ts_args_type = "model: BindingModel, other: BindingModel, dataset: BindingDataset, options: object",
        ts_return_type = "Promise<object>"
    )]
    pub fn interpolation<'env>(
        &self,
        env: &'env Env,
        model: &BindingModel,
        other: &BindingModel,
        dataset: &BindingDataset,
        options: Value,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let options: LineOptions = crate::json::options("interpolation", options)?;
        let (watch, slot, other, set) = (self.watch(), model.slot()?, other.slot()?, dataset.set()?);
        compute::promise(env, move || {
            // Copied first: a model may be both ends.
            let end = LineEnd::of(&other.lock()).or_throw()?;
            let mut model = slot.lock_for_change().or_throw()?;
            let measure = |monitor: &Monitor<'_>| interpolation(&mut model, &end, &set, &options, monitor);
            to_json(&watch.observe(measure).or_throw()?)
        })
    }

    #[napi(
        ts_args_type = "model: BindingModel, dataset: BindingDataset, options: object",
        ts_return_type = "Promise<object>"
    )]
    pub fn surface<'env>(
        &self,
        env: &'env Env,
        model: &BindingModel,
        dataset: &BindingDataset,
        options: Value,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        measured(env, self, (model, dataset), ("surface", options), surface)
    }

    /// `files` hold the weights of the run's checkpoints, in order.
    #[napi(
        ts_args_type = "model: BindingModel, files: string[], dataset: BindingDataset, options: object",
        ts_return_type = "Promise<object>"
    )]
    pub fn trajectory<'env>(
        &self,
        env: &'env Env,
        model: &BindingModel,
        files: Vec<String>,
        dataset: &BindingDataset,
        options: Value,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let files: Vec<PathBuf> = files.into_iter().map(PathBuf::from).collect();
        let measure = move |model: &mut Model, set: &Dataset, options: &TrajectoryOptions, monitor: &Monitor<'_>| {
            trajectory(model, &files, set, options, monitor)
        };
        measured(env, self, (model, dataset), ("trajectory", options), measure)
    }

    #[napi(
        ts_args_type = "model: BindingModel, dataset: BindingDataset, options: object",
        ts_return_type = "Promise<object>"
    )]
    pub fn margins<'env>(
        &self,
        env: &'env Env,
        model: &BindingModel,
        dataset: &BindingDataset,
        options: Value,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        measured(env, self, (model, dataset), ("allLayerMargin", options), all_layer_margins)
    }
}
