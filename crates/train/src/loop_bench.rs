//! What `flatmin bench loop` compares training from Node with: the very same run, started and read from Rust.

use std::sync::Arc;

use flatmin_data::{ArrayOptions, Dataset, ImageShape, Pixels};
use flatmin_nn::{Dtype, Model, zoo};
use flatmin_optim::Optimizer;
use serde_json::json;

use crate::bench::{TrainBenchOptions, TrainTimes};
use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::optimizer_slot::OptimizerSlot;
use crate::run::Run;
use crate::slot::ModelSlot;
use crate::trainer::Datasets;

/// Training runs of one epoch on noise: loader, loop, metrics and events, without JavaScript.
pub struct LoopBench {
    slot: Arc<ModelSlot>,
    optimizer: Arc<OptimizerSlot>,
    batch: usize,
    seed: u64,
}

impl LoopBench {
    /// # Errors
    /// `ERR_FLATMIN_NAME` for an unknown model, `ERR_FLATMIN_OPTION` for wrong options.
    pub fn new(options: TrainBenchOptions) -> Result<Self> {
        let batch = usize::try_from(options.batch).unwrap_or(0);
        if batch == 0 {
            return Err(Error::option("batch", options.batch, "a whole number, 1 or more"));
        }
        let spec = zoo::spec(&options.model, &zoo::ZooOptions::default())?;
        let mut model = Model::new(spec, Dtype::Float32, options.seed)?.moved(options.device)?;
        let optimizer = OptimizerSlot::new(Optimizer::new(&mut model, options.optimizer)?);
        Ok(Self { slot: ModelSlot::new(model), optimizer, batch, seed: options.seed })
    }

    /// One run of so many steps; the mean time of its steps.
    ///
    /// # Errors
    /// What ended the run early.
    pub fn run(&mut self, steps: usize) -> Result<TrainTimes> {
        let config: TrainConfig =
            serde_json::from_value(json!({ "epochs": 1, "batchSize": self.batch, "seed": self.seed }))
                .map_err(|error| Error::Internal(error.to_string()))?;
        let sets = Datasets { train: self.noise(steps * self.batch)?, validation: None, test: None };
        let run = Run::start(self.slot.clone(), self.optimizer.clone(), sets, config, None)?;
        let mut times = TrainTimes::default();
        while let Some(event) = run.events().next_blocking()? {
            if let Event::Epoch(epoch) = event {
                times.step_ms.push(epoch.seconds * 1e3 / steps as f64);
                times.loss = epoch.train.loss;
            }
        }
        run.join();
        Ok(times)
    }

    /// What is in the images does not change the time; these are `flatmin bench loop`'s own.
    fn noise(&self, count: usize) -> Result<Dataset> {
        let spec = self.slot.spec();
        let [channels, height, width] = spec.input_shape.map(|size| size as usize);
        let mut state = self.seed as u32;
        let pixels = (0..count * channels * height * width)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let labels = (0..count).map(|index| (index % spec.num_classes as usize) as u32).collect();
        let options = ArrayOptions { num_classes: Some(spec.num_classes as usize), ..ArrayOptions::default() };
        Ok(Dataset::from_arrays(Pixels::U8(pixels), ImageShape { height, width, channels }, labels, options)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_trains_that_many_steps() {
        let options = serde_json::from_value(json!({
            "model": "demo", "batch": 8,
            "optimizer": { "base": { "type": "sgd", "lr": 0.1 }, "sharpness": { "rho": 0.05 } },
        }))
        .unwrap();
        let mut bench = LoopBench::new(options).unwrap();
        for _ in 0..2 {
            let times = bench.run(3).unwrap();
            assert!(times.step_ms.len() == 1 && times.step_ms[0] > 0.0 && times.loss.is_finite());
        }
        assert_eq!(bench.optimizer.lock().steps(), 6);
    }
}
