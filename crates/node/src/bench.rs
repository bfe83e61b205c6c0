//! `BindingBench`: the loops that `flatmin bench` times, a block of steps at a time.

use std::sync::Arc;

use flatmin_data::{DataBench, DataBenchOptions};
use flatmin_train::{LoopBench, StepBench, StepBenchOptions, TrainBench, TrainBenchOptions};
use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use parking_lot::Mutex;
use serde_json::Value;

use crate::compute;
use crate::disposable::Disposable;
use crate::errors::{OrThrow, wrong_option};
use crate::json::{options, to_json};

/// A bench is built on the compute thread, before its first block.
enum Bench {
    NewStep(StepBenchOptions),
    NewTrain(TrainBenchOptions),
    NewLoop(TrainBenchOptions),
    NewData(DataBenchOptions),
    Step(Box<StepBench>),
    Train(Box<TrainBench>),
    Loop(Box<LoopBench>),
    Data(Box<DataBench>),
}

#[napi]
pub struct BindingBench {
    bench: Disposable<Arc<Mutex<Bench>>>,
}

#[napi]
impl BindingBench {
    /// `step`: { optimizer, seed? }, the update alone on ResNet-50's parameters. `train`: { model, batch, optimizer,
    /// dtype?, seed? }, whole steps of a zoo model. `loop`: the same options, whole runs with loader and events.
    /// `data`: { folder, size, batch, threads, seed? }, batches of random resized crops.
    #[napi(ts_args_type = "kind: 'step' | 'train' | 'loop' | 'data', options: object")]
    pub fn create(kind: String, options: Value) -> napi::Result<Self> {
        let bench = match kind.as_str() {
            "step" => Bench::NewStep(self::options("bench step", options)?),
            "train" => Bench::NewTrain(self::options("bench train", options)?),
            "loop" => Bench::NewLoop(self::options("bench loop", options)?),
            "data" => Bench::NewData(self::options("bench data", options)?),
            other => return Err(wrong_option("kind", format!("'{other}'"), "'step', 'train', 'loop' or 'data'")),
        };
        Ok(Self { bench: Disposable::new("bench", Arc::new(Mutex::new(bench))) })
    }

    /// Milliseconds of each step: `ascentMs` and `descentMs`, or `stepMs` and the last `loss`.
    #[napi(ts_return_type = "Promise<{ ascentMs?: number[], descentMs?: number[], stepMs?: number[], loss?: number }>")]
    pub fn run<'env>(&self, env: &'env Env, steps: u32) -> napi::Result<PromiseRaw<'env, Value>> {
        let bench = self.bench.get()?;
        compute::promise(env, move || run(&mut bench.lock(), steps as usize))
    }

    #[napi]
    pub fn dispose(&self) {
        self.bench.dispose();
    }
}

fn run(bench: &mut Bench, steps: usize) -> napi::Result<Value> {
    match bench {
        Bench::NewStep(options) => {
            *bench = Bench::Step(Box::new(StepBench::new(options.clone()).or_throw()?));
            run(bench, steps)
        }
        Bench::NewTrain(options) => {
            *bench = Bench::Train(Box::new(TrainBench::new(options.clone()).or_throw()?));
            run(bench, steps)
        }
        Bench::NewLoop(options) => {
            *bench = Bench::Loop(Box::new(LoopBench::new(options.clone()).or_throw()?));
            run(bench, steps)
        }
        Bench::NewData(options) => {
            *bench = Bench::Data(Box::new(DataBench::new(options).or_throw()?));
            run(bench, steps)
        }
        Bench::Step(bench) => to_json(&bench.run(steps).or_throw()?),
        Bench::Train(bench) => to_json(&bench.run(steps).or_throw()?),
        Bench::Loop(bench) => to_json(&bench.run(steps).or_throw()?),
        Bench::Data(bench) => to_json(&bench.run(steps).or_throw()?),
    }
}
