//! Records a queued step as a CUDA graph and replays it. A step of a new kind or batch shape first runs a few times as it
//! is, on the stream and by the thread that record it later, so that libtorch has chosen its algorithms and made its workspaces,
//! which it does for each thread; these are real steps, nothing is run in vain. Where something cannot be recorded, steps go on as
//! they are.
//!
//! All recordings of an optimizer take their memory from one pool: a step's results lie outside of it, and steps follow one another.
//!
//! Tests of it are those of the TypeScript side on an emulated GPU (docs/cuda.md): without one there is nothing to record with.

use std::collections::HashMap;
use std::thread::{self, ThreadId};

use flatmin_nn::Model;
use flatmin_torch_ext::Switches;
use flatmin_torch_ext::cuda::{Cuda, Graph, OwnStream, StepValues};
use tch::{Tensor, no_grad};

use super::{DeviceStep, Job, Memory, Traces, queue};
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
    /// Batch norms whose statistics stay.
    frozen: Vec<bool>,
    uses_momentum: bool,
    /// Of the running statistics: what goes step by step swaps them.
    statistics: usize,
    switches: Switches,
}

struct Recording {
    graph: Graph,
    /// Where the graph reads its batch.
    images: Tensor,
    target: Target,
    /// It has what the graph reads beside it.
    _loss: Loss,
    traces: Traces,
}

enum Progress {
    Warming { steps: u32, thread: Option<ThreadId> },
    Ready(Box<Recording>),
}

/// The recordings of one optimizer.
pub(crate) struct Recorder {
    kinds: HashMap<Kind, Progress>,
    /// Why nothing is recorded any more, nor replayed: a recording that failed takes workspaces along that others of its stream
    /// were made with.
    refused: Option<String>,
    /// Where steps run and are recorded. Behind the graphs, which are freed first.
    stream: OwnStream,
}

impl Recorder {
    pub fn new(cuda: Cuda, device: usize) -> Result<Self> {
        Ok(Self { kinds: HashMap::new(), refused: None, stream: OwnStream::new(cuda, device)? })
    }

    /// Queues a step anew or as a recording.
    fn queue(
        &mut self,
        memory: &Memory,
        optimizer: &mut Optimizer,
        model: &mut Model,
        job: &Job<'_>,
        plan: Plan,
    ) -> Result<Traces> {
        if self.refused.is_none() {
            self.refused = obstacle(model).map(str::to_owned);
        }
        if self.refused.is_some() {
            return queue(memory, optimizer, model, job, plan);
        }
        let kind = Kind::of(optimizer, model, job, plan)?;
        if let Some(Progress::Ready(recording)) = self.kinds.get_mut(&kind) {
            return recording.replay(job);
        }
        let progress = self.kinds.entry(kind.clone()).or_insert(Progress::NEW);
        if progress.still_warms_up() {
            return queue(memory, optimizer, model, job, plan);
        }
        let other = self.kinds.values().find_map(Progress::graph);
        match Recording::make(self.stream.cuda(), other, memory, optimizer, model, job, plan) {
            Ok(mut recording) => {
                let traces = recording.replay(job);
                self.kinds.insert(kind, Progress::Ready(Box::new(recording)));
                traces
            }
            Err(error) => {
                // Nothing of it has run.
                model.parameters().clear_gradients();
                model.discard_statistics();
                self.refused = Some(error.to_string());
                queue(memory, optimizer, model, job, plan)
            }
        }
    }
}

impl Progress {
    const NEW: Self = Self::Warming { steps: 0, thread: None };

    /// Counts a step that is not recorded, if there must be more of them.
    fn still_warms_up(&mut self) -> bool {
        let Self::Warming { steps, thread } = self else { return false };
        let current = Some(thread::current().id());
        if *thread != current {
            (*steps, *thread) = (0, current);
        }
        let more = *steps < WARM_UP;
        *steps += u32::from(more);
        more
    }

    fn graph(&self) -> Option<&Graph> {
        match self {
            Self::Ready(recording) => Some(&recording.graph),
            Self::Warming { .. } => None,
        }
    }
}

impl DeviceStep {
    /// Whether steps are recorded; None where there is nothing to record with.
    pub fn recorded(&self) -> Option<Recorded> {
        let recorder = self.recorder.as_ref()?;
        Some(recorder.refused.clone().map_or(Recorded::Yes, Recorded::No))
    }

    /// Queues the step, one way or the other, after what this thread has queued; on a GPU in a stream of its own. Its tensors must stay
    /// until [`Self::read`].
    pub(super) fn start(
        &mut self,
        optimizer: &mut Optimizer,
        model: &mut Model,
        job: &Job<'_>,
        plan: Plan,
    ) -> Result<Traces> {
        let seeds = job.mask_seeds(optimizer);
        let Self { memory, recorder } = self;
        let Some(recorder) = recorder else {
            memory.begin(optimizer, model, seeds)?;
            return queue(memory, optimizer, model, job, plan);
        };
        let entered = recorder.stream.enter()?;
        let begun = memory.begin(optimizer, model, seeds);
        let traces = begun.and_then(|()| recorder.queue(memory, optimizer, model, job, plan));
        drop(entered);
        if traces.is_err() {
            // The caller's tensors may go now.
            recorder.stream.synchronize()?;
        }
        traces
    }

    /// Waits for the step: what it wrote and read is the caller's again, whatever stream the caller uses.
    pub(super) fn read(&mut self) -> Result<(StepValues, Vec<f64>)> {
        let _entered = self.recorder.as_mut().map(|recorder| recorder.stream.enter()).transpose()?;
        self.memory.read()
    }
}

impl Recording {
    fn make(
        cuda: Cuda,
        other: Option<&Graph>,
        memory: &Memory,
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
        let loss = job.loss.clone();
        loss.bring(images.device(), model.dtype().kind())?;
        let mut graph = Graph::new(cuda)?;
        graph.begin(other)?;
        let traces =
            queue(memory, optimizer, model, &Job { images: &images, target: &target, loss: &loss, ..*job }, plan);
        // A recording that was begun must be ended, whatever became of it.
        let ended = graph.end();
        let traces = traces?;
        ended?;
        Ok(Self { graph, images, target, _loss: loss, traces })
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
    fn of(optimizer: &mut Optimizer, model: &Model, job: &Job<'_>, plan: Plan) -> Result<Self> {
        let (parameters, statistics) = (model.parameters(), model.buffers());
        Ok(Self {
            both_passes: plan == Plan::Both,
            images: job.images.size(),
            target: job.target.tensor().size(),
            loss: format!("{:?}", job.loss),
            trainable: (0..parameters.segments().len()).map(|position| parameters.is_trainable(position)).collect(),
            frozen: (0..statistics.len()).map(|norm| statistics.is_frozen(norm)).collect(),
            uses_momentum: optimizer.base_and_setting(model).1.uses_momentum(),
            statistics: statistics.arena().data_ptr() as usize,
            switches: Switches::current()?,
        })
    }
}

/// What keeps steps from being recorded.
fn obstacle(model: &Model) -> Option<&'static str> {
    let reason =
        "the model is a TorchScript program: what it draws, counts and decides on the CPU would stay as recorded";
    model.is_script().then_some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Factors;
    use crate::step::StepOptions;
    use flatmin_nn::{Dtype, zoo};
    use serde_json::json;
    use tch::{Device, Kind as Numbers};

    /// What there is for a step of SGD with momentum.
    fn with_step(body: impl FnOnce(&mut Model, &mut Optimizer, &Job<'_>)) {
        let spec = zoo::spec("demo", &zoo::ZooOptions::default()).unwrap();
        let mut model = Model::new(spec, Dtype::Float32, 1).unwrap();
        let config = json!({ "base": { "type": "sgd", "lr": 0.1, "momentum": 0.9 } });
        let mut optimizer = Optimizer::new(&mut model, serde_json::from_value(config).unwrap()).unwrap();
        let images = &Tensor::ones([4, 1, 8, 8], (Numbers::Float, Device::Cpu));
        let target = &Target::Classes(Tensor::zeros([4], (Numbers::Int64, Device::Cpu)));
        let job = Job { images, target, loss: &Loss::default(), options: StepOptions::new(0) };
        body(&mut model, &mut optimizer, &job);
    }

    fn kind(model: &Model, optimizer: &mut Optimizer, job: &Job<'_>) -> Kind {
        Kind::of(optimizer, model, job, Plan::Plain).unwrap()
    }

    /// A graph without a momentum arena must not serve steps that have one.
    #[test]
    fn steps_whose_schedule_takes_the_momentum_away_are_of_another_kind() {
        with_step(|model, optimizer, job| {
            let mut uses_momentum = |momentum: f64| {
                optimizer.set_factors(Factors { momentum, ..Factors::default() });
                kind(model, optimizer, job).uses_momentum
            };
            assert!(uses_momentum(1.0) && uses_momentum(0.5) && !uses_momentum(0.0));
        });
    }

    /// They normalise by other operations.
    #[test]
    fn steps_with_frozen_statistics_are_of_another_kind() {
        with_step(|model, optimizer, job| {
            let before = kind(model, optimizer, job);
            assert!(before == kind(model, optimizer, job));
            model.freeze(&["*.running_*"]).unwrap();
            assert!(before != kind(model, optimizer, job));
        });
    }

    #[test]
    fn steps_of_programs_are_not_recorded() {
        with_step(|model, _, _| assert_eq!(obstacle(model), None));
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../__test__/fixtures/small-script.pt");
        let options = serde_json::from_value(json!({ "inputShape": [2, 4, 4] })).unwrap();
        let program = Model::from_torch_script(file.as_ref(), options, Dtype::Float32).unwrap();
        assert!(obstacle(&program).unwrap().contains("TorchScript"));
    }

    #[test]
    fn each_thread_warms_up_for_itself() {
        let mut progress = Progress::NEW;
        let mut steps = || (0..10).take_while(|_| progress.still_warms_up()).count() as u32;
        assert_eq!((steps(), steps()), (WARM_UP, 0));
        assert_eq!(thread::scope(|scope| scope.spawn(steps).join().unwrap()), WARM_UP);
    }
}
