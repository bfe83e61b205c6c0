//! What `flatmin bench` times: the update of an optimizer alone, and whole training steps. Both run a few steps at a
//! time and answer the time of each, so that a peer can take turns with them on the same machine.

use std::time::Instant;

use flatmin_nn::{Dtype, Engine, Model, zoo};
use flatmin_optim::{Loss, Optimizer, OptimizerConfig, Plan, StepOptions, Target, train_step};
use flatmin_torch_ext::cpu::{self, Geometry, Layout, SegmentLayout, Slab};
use flatmin_torch_ext::{Generator, channels_last};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// Options of [`StepBench`].
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepBenchOptions {
    pub optimizer: OptimizerConfig,
    #[serde(default)]
    pub seed: u64,
}

/// Times of the two halves of an update, one entry a step.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepTimes {
    pub ascent_ms: Vec<f64>,
    pub descent_ms: Vec<f64>,
    /// A copy of one arena to another between the same backward passes, by libtorch or by a streaming loop, whichever is
    /// faster: what memory gives at best.
    pub copy_ms: Vec<f64>,
}

/// An optimizer over the parameters of ResNet-50 (25.6 million in 161 tensors) with synthetic gradients.
///
/// Everything between the backward passes is timed: taking the gradients, the update, and forgetting the gradients. As
/// in training, each pass leaves gradients in tensors that autograd has just made.
pub struct StepBench {
    model: Model,
    optimizer: Optimizer,
    coefficients: Vec<Tensor>,
    copy: Tensor,
    layout: Layout,
}

impl StepBench {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a wrong optimizer, or one without an ascent step.
    pub fn new(options: StepBenchOptions) -> Result<Self> {
        if options.optimizer.sharpness.is_none() {
            return Err(Error::option("optimizer", "a base optimizer alone", "SAM or ASAM, whose two steps are timed"));
        }
        let spec = zoo::spec("resnet50", &zoo::ZooOptions::default())?;
        let mut model = Model::new(spec, Dtype::Float32, options.seed)?;
        let optimizer = Optimizer::new(&mut model, options.optimizer)?;
        let generator = Generator::new(options.seed)?;
        let coefficients = model
            .parameters()
            .leaves()
            .iter()
            .map(|leaf| {
                let mut values = leaf.f_detach()?.f_empty_like()?;
                generator.normal_(&mut values, 0.0, 1e-3)?;
                Ok(values)
            })
            .collect::<Result<_>>()?;
        let copy = model.parameters().like()?;
        let segments = model.parameters().segments().iter().map(|segment| SegmentLayout {
            offset: segment.offset,
            len: segment.len,
            geometry: Geometry::Plain,
            group: 0,
            perturbed: false,
            half: false,
        });
        Ok(Self { layout: Layout::new(segments.collect()), model, optimizer, coefficients, copy })
    }

    /// The parameters' shapes, for a peer that times the same update.
    pub fn shapes(&self) -> Vec<Vec<i64>> {
        self.model.parameters().segments().iter().map(|segment| segment.shape.clone()).collect()
    }

    /// # Errors
    /// What libtorch answers.
    pub fn run(&mut self, steps: usize) -> Result<StepTimes> {
        let mut times = StepTimes::default();
        for _ in 0..steps {
            // Some variants perturb before their only pass.
            let first_pass = self.optimizer.plan() != Some(Plan::Ahead);
            if first_pass {
                self.backward()?;
            }
            let start = Instant::now();
            let ascent = self.optimizer.ascent_step(&mut self.model)?;
            times.ascent_ms.push(milliseconds(start));
            if ascent.second_pass {
                self.backward()?;
            }
            let start = Instant::now();
            self.optimizer.descent_step(&mut self.model)?;
            times.descent_ms.push(milliseconds(start));
            times.copy_ms.push(self.copy_ms()?);
        }
        Ok(times)
    }

    fn copy_ms(&mut self) -> Result<f64> {
        let parameters = self.model.parameters();
        let start = Instant::now();
        self.copy.f_copy_(parameters.master())?;
        let by_torch = milliseconds(start);
        let start = Instant::now();
        cpu::copy::<f32>(&self.layout, Slab::of(parameters.master()), Slab::of(&self.copy));
        Ok(by_torch.min(milliseconds(start)))
    }

    /// Leaves the coefficients as gradients: those of their inner product with the parameters.
    fn backward(&self) -> Result<()> {
        for (leaf, coefficient) in self.model.parameters().leaves().iter().zip(&self.coefficients) {
            leaf.f_mul(coefficient)?.f_sum(Kind::Float)?.f_backward()?;
        }
        Ok(())
    }
}

/// Options of [`TrainBench`].
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainBenchOptions {
    /// A model of the zoo.
    pub model: String,
    pub batch: i64,
    pub optimizer: OptimizerConfig,
    #[serde(default)]
    pub device: Engine,
    #[serde(default)]
    pub dtype: Dtype,
    #[serde(default)]
    pub seed: u64,
}

/// The time of each step.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainTimes {
    pub step_ms: Vec<f64>,
    /// Loss of the last step: proof that the steps did something.
    pub loss: f64,
}

/// Whole training steps of a zoo model on one synthetic batch.
pub struct TrainBench {
    model: Model,
    optimizer: Optimizer,
    images: Tensor,
    target: Target,
    steps: u64,
}

impl TrainBench {
    /// # Errors
    /// `ERR_FLATMIN_NAME` for an unknown model, `ERR_FLATMIN_OPTION` for wrong options.
    pub fn new(options: TrainBenchOptions) -> Result<Self> {
        if options.batch < 1 {
            return Err(Error::option("batch", options.batch, "a whole number, 1 or more"));
        }
        let spec = zoo::spec(&options.model, &zoo::ZooOptions::default())?;
        let mut model = Model::new(spec, options.dtype, options.seed)?.moved(options.device)?;
        let optimizer = Optimizer::new(&mut model, options.optimizer)?;
        let [channels, height, width] = model.spec().input_shape;
        let shape = [options.batch, channels, height, width];
        let mut images = Tensor::f_empty(shape, (options.dtype.kind(), Device::Cpu))?;
        Generator::new(options.seed)?.normal_(&mut images, 0.0, 1.0)?;
        let labels: Vec<i64> = (0..options.batch).map(|image| image % model.spec().num_classes).collect();
        let target = Target::Classes(Tensor::f_from_slice(&labels)?);
        let (images, target) = (images.f_to_device(options.device.device())?, target.on(options.device)?);
        Ok(Self { model, optimizer, images: channels_last(&images)?, target, steps: 0 })
    }

    /// # Errors
    /// What libtorch answers.
    pub fn run(&mut self, steps: usize) -> Result<TrainTimes> {
        let mut times = TrainTimes::default();
        for _ in 0..steps {
            let start = Instant::now();
            let (model, optimizer) = (&mut self.model, &mut self.optimizer);
            let options = StepOptions::new(self.steps);
            let outcome = train_step(model, optimizer, &self.images, &self.target, &Loss::default(), options)?;
            times.step_ms.push(milliseconds(start));
            times.loss = outcome.reported.loss;
            self.steps += 1;
        }
        Ok(times)
    }
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asam() -> OptimizerConfig {
        let config =
            json!({"base": {"type": "sgd", "lr": 0.1}, "sharpness": {"rho": 0.5, "eta": 0.01, "scale": "element"}});
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn the_step_bench_moves_resnet50s_parameters() {
        let mut bench = StepBench::new(StepBenchOptions { optimizer: asam(), seed: 1 }).unwrap();
        let shapes = bench.shapes();
        let parameters: i64 = shapes.iter().map(|shape| shape.iter().product::<i64>()).sum();
        assert_eq!((shapes.len(), parameters), (161, 25_557_032));
        let before = bench.model.parameters().read(0).unwrap();
        let times = bench.run(2).unwrap();
        assert_eq!((times.ascent_ms.len(), times.descent_ms.len()), (2, 2));
        assert_ne!(bench.model.parameters().read(0).unwrap(), before);
    }

    #[test]
    fn a_bare_optimizer_has_no_ascent_to_time() {
        let mut optimizer = asam();
        optimizer.sharpness = None;
        let error = StepBench::new(StepBenchOptions { optimizer, seed: 1 }).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
    }
}
