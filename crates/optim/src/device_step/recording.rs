//! Records a queued step as a CUDA graph and replays it. A step of a new kind or batch shape first runs a few times as it
//! is, on the stream that it is recorded on later, so that libtorch has chosen its algorithms and made its workspaces;
//! these are real steps, nothing is run in vain. Where something cannot be recorded, steps go on as they are.
//!
//! Not run on a GPU yet: without one there is nothing to record with.

use std::collections::HashMap;

use flatmin_nn::Model;
use flatmin_torch_ext::cuda::{Cuda, Event, Graph, Stream};
use tch::{Tensor, no_grad};

use super::{DeviceStep, Job, Traces, queue};
use crate::error::Result;
use crate::loss::{Loss, Target};
use crate::optimizer::Optimizer;
use crate::sam::Plan;

/// Steps of a kind before it is recorded.
const WARM_UP: u32 = 3;

/// How steps run on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// As recorded graphs, or on the way to it.
    Yes,
    /// Queued anew each time, for this reason.
    No(String),
}

/// Steps that one graph serves.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    both_passes: bool,
    images: Vec<i64>,
    target: Vec<i64>,
    loss: String,
    trainable: Vec<bool>,
    uses_momentum: bool,
    /// Of the running statistics: what goes step by step swaps them.
    statistics: usize,
}

struct Recording {
    graph: Graph,
    /// Where the graph reads its batch.
    images: Tensor,
    target: Target,
    traces: Traces,
}

enum Progress {
    Warming(u32),
    Ready(Box<Recording>),
}

/// The recordings of one optimizer.
pub(crate) struct Recorder {
    cuda: Cuda,
    device: usize,
    stream: Stream,
    fence: Event,
    kinds: HashMap<Kind, Progress>,
    refused: Option<String>,
}

impl Recorder {
    pub fn new(cuda: Cuda, device: usize) -> Result<Self> {
        let (stream, fence) = (Stream::from_pool(cuda, device)?, Event::new(cuda)?);
        Ok(Self { cuda, device, stream, fence, kinds: HashMap::new(), refused: None })
    }
}

impl DeviceStep {
    /// Whether steps are recorded; None where there is nothing to record with.
    pub fn recorded(&self) -> Option<Recorded> {
        let recorder = self.recorder.as_ref()?;
        Some(recorder.refused.clone().map_or(Recorded::Yes, Recorded::No))
    }

    /// Runs the step one way or the other, on a stream of its own that follows the caller's.
    pub(super) fn record_or_queue(
        &mut self,
        optimizer: &mut Optimizer,
        model: &mut Model,
        job: &Job<'_>,
        plan: Plan,
    ) -> Result<Traces> {
        let Some(recorder) = &mut self.recorder else { return queue(&self.memory, optimizer, model, job, plan) };
        let callers = Stream::current(recorder.cuda, recorder.device)?;
        recorder.fence.record(&callers)?;
        recorder.fence.hold(&recorder.stream)?;
        recorder.stream.make_current()?;
        let traces = self.on_own_stream(optimizer, model, job, plan);
        // Also after an error: the caller's operations go where they went.
        callers.make_current()?;
        if let Some(Recorder { stream, .. }) = &self.recorder {
            // What it wrote and read is the caller's again, whatever stream the caller uses.
            stream.synchronize()?;
        }
        traces
    }

    fn on_own_stream(
        &mut self,
        optimizer: &mut Optimizer,
        model: &mut Model,
        job: &Job<'_>,
        plan: Plan,
    ) -> Result<Traces> {
        let Self { memory, recorder: Some(recorder) } = self else {
            return queue(&self.memory, optimizer, model, job, plan);
        };
        if recorder.refused.is_none() {
            recorder.refused = obstacle(job.loss).map(str::to_owned);
        }
        if recorder.refused.is_some() {
            return queue(memory, optimizer, model, job, plan);
        }
        let kind = Kind::of(optimizer, model, job, plan);
        if let Some(Progress::Ready(recording)) = recorder.kinds.get_mut(&kind) {
            return recording.replay(job);
        }
        let warmed = match recorder.kinds.get(&kind) {
            Some(Progress::Warming(steps)) => *steps,
            _ => 0,
        };
        if warmed < WARM_UP {
            recorder.kinds.insert(kind, Progress::Warming(warmed + 1));
            return queue(memory, optimizer, model, job, plan);
        }
        match Recording::make(recorder.cuda, memory, optimizer, model, job, plan) {
            Ok(mut recording) => {
                let traces = recording.replay(job);
                recorder.kinds.insert(kind, Progress::Ready(Box::new(recording)));
                traces
            }
            Err(error) => {
                // Nothing of it has run.
                model.parameters().clear_gradients();
                model.discard_statistics();
                recorder.refused = Some(error.to_string());
                queue(memory, optimizer, model, job, plan)
            }
        }
    }
}

impl Recording {
    fn make(
        cuda: Cuda,
        memory: &super::Memory,
        optimizer: &mut Optimizer,
        model: &mut Model,
        job: &Job<'_>,
        plan: Plan,
    ) -> Result<Self> {
        let images = job.images.f_empty_like()?;
        let target = match job.target {
            Target::Classes(labels) => Target::Classes(labels.f_zeros_like()?),
            Target::Dense(values) => Target::Dense(values.f_zeros_like()?),
        };
        let mut graph = Graph::new(cuda)?;
        graph.begin()?;
        let traces = queue(memory, optimizer, model, &Job { images: &images, target: &target, ..*job }, plan);
        // A recording that was begun must be ended, whatever became of it.
        let ended = graph.end();
        let traces = traces?;
        ended?;
        Ok(Self { graph, images, target, traces })
    }

    fn replay(&mut self, job: &Job<'_>) -> Result<Traces> {
        no_grad(|| -> Result<()> {
            self.images.f_copy_(job.images)?;
            Ok(self.target.tensor().shallow_clone().f_copy_(job.target.tensor())?)
        })?;
        self.graph.replay()?;
        Ok(self.traces.clone())
    }
}

impl Kind {
    fn of(optimizer: &mut Optimizer, model: &Model, job: &Job<'_>, plan: Plan) -> Self {
        let parameters = model.parameters();
        Self {
            both_passes: plan == Plan::Both,
            images: job.images.size(),
            target: job.target.tensor().size(),
            loss: format!("{:?}", job.loss),
            trainable: (0..parameters.segments().len()).map(|position| parameters.is_trainable(position)).collect(),
            uses_momentum: optimizer.base_and_setting(model).1.uses_momentum(),
            statistics: model.buffers().arena().data_ptr() as usize,
        }
    }
}

/// What keeps steps from being recorded.
fn obstacle(loss: &Loss) -> Option<&'static str> {
    loss.has_class_weights().then_some("the loss has class weights, which lie on the CPU")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Factors;
    use crate::step::StepOptions;
    use flatmin_nn::{Dtype, zoo};
    use serde_json::json;
    use tch::{Device, Kind as Numbers};

    /// A graph without a momentum arena must not serve steps that have one.
    #[test]
    fn steps_whose_schedule_takes_the_momentum_away_are_of_another_kind() {
        let spec = zoo::spec("demo", &zoo::ZooOptions::default()).unwrap();
        let mut model = Model::new(spec, Dtype::Float32, 1).unwrap();
        let config = json!({ "base": { "type": "sgd", "lr": 0.1, "momentum": 0.9 } });
        let mut optimizer = Optimizer::new(&mut model, serde_json::from_value(config).unwrap()).unwrap();
        let images = &Tensor::ones([4, 1, 8, 8], (Numbers::Float, Device::Cpu));
        let target = &Target::Classes(Tensor::zeros([4], (Numbers::Int64, Device::Cpu)));
        let job = Job { images, target, loss: &Loss::default(), options: StepOptions::new(0) };
        let mut uses_momentum = |momentum: f64| {
            optimizer.set_factors(Factors { momentum, ..Factors::default() });
            Kind::of(&mut optimizer, &model, &job, Plan::Plain).uses_momentum
        };
        assert!(uses_momentum(1.0) && uses_momentum(0.5) && !uses_momentum(0.0));
    }
}
