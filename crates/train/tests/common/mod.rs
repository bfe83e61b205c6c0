//! A tiny model, easy data and a way to read a whole run.
#![allow(dead_code)] // each test file uses its own part

use std::path::Path;
use std::sync::Arc;

use flatmin_data::{ArrayOptions, Dataset, ImageShape, Pixels};
use flatmin_nn::{Dtype, Model, ModelSpec};
use flatmin_optim::Optimizer;
use flatmin_torch_ext::set_num_threads;
use flatmin_train::{
    Acknowledgement, Datasets, EndEvent, EpochEvent, Event, ModelSlot, OptimizerSlot, Result, Run, TrainConfig,
};
use serde_json::{Value, json};
use tch::Tensor;

/// Batch norm and dropout are in it because both carry state through a run.
pub fn spec() -> ModelSpec {
    spec_of(json!([
        {"type": "conv2d", "outChannels": 8, "kernelSize": 3, "padding": 1, "bias": false},
        {"type": "batchNorm2d"},
        {"type": "relu"},
        {"type": "dropout", "p": 0.1},
        {"type": "globalAvgPool2d"},
        {"type": "flatten"},
        {"type": "linear", "outFeatures": 3},
    ]))
}

fn spec_of(layers: Value) -> ModelSpec {
    let spec = json!({"format": 1, "name": "tiny", "inputShape": [2, 6, 6], "numClasses": 3, "layers": layers});
    ModelSpec::from_value(spec).unwrap()
}

/// Three textures that the first layer can tell apart, with noise.
pub fn images(count: usize, seed: u64) -> Dataset {
    let shape = ImageShape { height: 6, width: 6, channels: 2 };
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for image in 0..count {
        let label = image % 3;
        labels.push(label as u32);
        for y in 0..6 {
            for x in 0..6 {
                let stripe = [y % 2, x % 2, (x + y) % 2][label] as f32;
                pixels.extend([0.5 * stripe + 0.5 * random(), random()]);
            }
        }
    }
    Dataset::from_arrays(Pixels::F32(pixels), shape, labels, ArrayOptions::default()).unwrap()
}

pub fn asam() -> Value {
    json!({
        "base": {"type": "sgd", "lr": 0.1, "momentum": 0.9, "weightDecay": 5e-4},
        "sharpness": {"rho": 0.2, "eta": 0.01, "scale": "element", "guard": 1e-16},
    })
}

pub fn sam_with_adam() -> Value {
    json!({"base": {"type": "adam", "lr": 0.01}, "sharpness": {"rho": 0.05}})
}

/// A model with its optimizer.
pub struct Pair {
    pub model: Arc<ModelSlot>,
    pub optimizer: Arc<OptimizerSlot>,
}

impl Pair {
    pub fn new(optimizer: Value) -> Self {
        Self::of(spec(), optimizer)
    }

    pub fn with_layers(layers: Value, optimizer: Value) -> Self {
        Self::of(spec_of(layers), optimizer)
    }

    fn of(spec: ModelSpec, optimizer: Value) -> Self {
        let mut model = Model::new(spec, Dtype::Float32, 7).unwrap();
        let optimizer = Optimizer::new(&mut model, serde_json::from_value(optimizer).unwrap()).unwrap();
        Self { model: ModelSlot::new(model), optimizer: OptimizerSlot::new(optimizer) }
    }

    pub fn start(&self, sets: &Datasets, config: &TrainConfig, resume: Option<&Path>) -> Result<Run> {
        let resume = resume.map(Path::to_path_buf);
        Run::start(self.model.clone(), self.optimizer.clone(), sets.clone(), config.clone(), resume)
    }

    /// Weights, statistics and optimizer state.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let model = self.model.lock();
        let mut state = model.state_dict().unwrap();
        state.extend(self.optimizer.lock().state_dict(model.parameters()).unwrap());
        state
    }
}

pub fn sets() -> Datasets {
    Datasets { train: images(100, 1), validation: Some(images(30, 2)), test: Some(images(30, 3)) }
}

pub fn config(epochs: u64) -> TrainConfig {
    // Sums depend on it: all tests of a binary use the same.
    set_num_threads(1);
    TrainConfig { batch_size: 16, seed: 5, ..TrainConfig::new(epochs) }
}

/// Everything a run told.
pub struct Story {
    pub events: Vec<Event>,
}

impl Story {
    /// Reads a run to its end, answering each epoch.
    pub fn read(run: &Run, answer: impl Fn(&EpochEvent) -> Acknowledgement) -> Result<Self> {
        let mut events = Vec::new();
        while let Some(event) = run.events().next_blocking()? {
            if let Event::Epoch(epoch) = &event {
                run.acknowledge(answer(epoch));
            }
            events.push(event);
        }
        run.join();
        Ok(Self { events })
    }

    pub fn of(run: &Run) -> Self {
        Self::read(run, |_| Acknowledgement::default()).unwrap()
    }

    pub fn epochs<'a>(&'a self) -> Vec<&'a EpochEvent> {
        let epoch = |event: &'a Event| match event {
            Event::Epoch(epoch) => Some(&**epoch),
            _ => None,
        };
        self.events.iter().filter_map(epoch).collect()
    }

    pub fn end(&self) -> &EndEvent {
        let Some(Event::End(end)) = self.events.last() else { panic!("the last event is no end: {:?}", self.events) };
        end
    }
}

pub fn stop_after(epochs: u64) -> impl Fn(&EpochEvent) -> Acknowledgement {
    move |epoch| Acknowledgement { stop: epoch.epoch == epochs, ..Acknowledgement::default() }
}
