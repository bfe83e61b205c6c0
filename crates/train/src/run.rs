//! A training run as its owner sees it: started, read event by event, stopped. The work happens on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use flatmin_data::Dataset;
use flatmin_optim::{Averaging, Factors, Phase};
use flatmin_torch_ext::{set_flush_denormal, settle_num_threads};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::averaged::Averaged;
use crate::channel::{EventReceiver, EventSender, StepPacer, event_channel};
use crate::checkpoint::{BatchOrder, Checkpoint};
use crate::config::TrainConfig;
use crate::control::{Acknowledgement, Control};
use crate::error::{Error, Result};
use crate::evaluate::check_fit;
use crate::events::{EndReason, Event};
use crate::feed::Feed;
use crate::input::Source;
use crate::normalize::{for_model, input_normalization};
use crate::optimizer_slot::OptimizerSlot;
use crate::progress::Progress;
use crate::run_dir::RunDir;
use crate::schedule::{Own, Schedules};
use crate::slot::ModelSlot;
use crate::stopwatch::Stopwatch;
use crate::trainer::{Datasets, Report, ResidentSets, Trainer, caught};

/// A run in progress. Dropping the handle does not end it.
pub struct Run {
    control: Control,
    events: EventReceiver,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Run {
    /// Checks everything that can be checked at once and starts the thread. With `resume`, a checkpoint or a run
    /// folder, the run goes on where that one was.
    ///
    /// # Errors
    /// `ERR_FLATMIN_BUSY` if the model is being trained, `ERR_FLATMIN_OPTION`, `_SHAPE` or `_DATA` for options and sets
    /// that do not fit. What is found later (a checkpoint that cannot be read, say) ends the events.
    pub fn start(
        slot: Arc<ModelSlot>,
        optimizer: Arc<OptimizerSlot>,
        sets: Datasets,
        config: TrainConfig,
        resume: Option<PathBuf>,
    ) -> Result<Self> {
        config.validate()?;
        let stages = config.stages(&sets.train)?;
        let shown = stages.iter().map(|(_, set)| set);
        for set in shown.chain(&sets.validation).chain(&sets.test) {
            check_fit(&slot.spec(), set)?;
        }
        config.loss.check_classes(slot.spec().num_classes)?;
        let lease = slot.begin_training()?;
        let control = Control::default();
        let (sender, events) = event_channel();
        let sender = Arc::new(sender);
        let setup = Setup { slot, optimizer, sets, config, resume, control: control.clone(), events: sender.clone() };
        let body = move || {
            let outcome = caught(|| setup.run());
            // The model is free before the last event tells so.
            drop(lease);
            match outcome {
                Ok(end) => sender.send(end),
                Err(error) => sender.fail(error),
            }
        };
        let thread = std::thread::Builder::new().name("flatmin-train".into()).spawn(body);
        let thread = thread.map_err(|error| Error::Internal(format!("cannot start a thread: {error}")))?;
        Ok(Self { control, events, thread: Mutex::new(Some(thread)) })
    }

    /// The stream of events. Several readers share it: each event goes to one of them.
    pub fn events(&self) -> &EventReceiver {
        &self.events
    }

    /// Answers an epoch event; of use with `awaitEpochEnd` only.
    pub fn acknowledge(&self, answer: Acknowledgement) {
        self.control.acknowledge(answer);
    }

    /// Finishes the step, writes a checkpoint if there is a run folder, and ends with reason `stopped`.
    pub fn stop(&self) {
        self.control.halt(EndReason::Stopped);
    }

    /// As [`Self::stop`], with reason `aborted`.
    pub fn abort(&self) {
        self.control.halt(EndReason::Aborted);
    }

    /// True once the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.lock().as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the thread's end. Whoever wants the run to end must have asked it to.
    pub fn join(&self) {
        if let Some(thread) = self.thread.lock().take() {
            // A panic was caught inside and told as an event.
            let _ = thread.join();
        }
    }
}

/// What the thread needs to build the loop.
struct Setup {
    slot: Arc<ModelSlot>,
    optimizer: Arc<OptimizerSlot>,
    sets: Datasets,
    config: TrainConfig,
    resume: Option<PathBuf>,
    control: Control,
    events: Arc<EventSender>,
}

impl Setup {
    fn run(self) -> Result<Event> {
        // Weights that decay towards zero make denormals, which are many times slower.
        set_flush_denormal(true);
        settle_num_threads(self.config.threads);
        let optimizer = self.optimizer.clone();
        let end = self.trainer().and_then(|mut trainer| trainer.run());
        optimizer.lock().set_factors(Factors::default());
        end
    }

    fn trainer(self) -> Result<Trainer> {
        let order = BatchOrder::new(&self.config, self.sets.train.len());
        let checkpoint = self.resume.as_deref().map(Checkpoint::open).transpose()?;
        if let Some(checkpoint) = &checkpoint {
            checkpoint.require(&order, self.config.average.as_ref())?;
        }
        let resumed_from = checkpoint.as_ref().map(|checkpoint| checkpoint.path().to_path_buf());
        let progress = self.prepare(checkpoint.as_ref())?;
        let source = self.source(&progress)?;
        let resident = ResidentSets::new(&self.slot.lock(), &self.sets, &self.config)?;
        let per_epoch = source.len() as u64;
        let averaged = self.averaged(checkpoint.as_ref(), per_epoch)?;
        let planned = per_epoch * self.config.epochs;
        let total_steps = self.config.max_steps.map_or(planned, |steps| steps.min(planned));
        let schedules = Schedules::new(&self.config, per_epoch, total_steps);
        schedules.check(Own::of(&self.optimizer.lock()))?;
        let run_dir = self.run_dir(resumed_from.as_deref(), &progress)?;
        if let Some(run_dir) = &run_dir {
            self.control.heed(run_dir.stop_file());
        }
        Ok(Trainer {
            averaged,
            schedules,
            pacer: StepPacer::new(Duration::from_millis(self.config.step_event_ms)),
            clock: Stopwatch::start(),
            report: Report::default(),
            config: self.config,
            slot: self.slot,
            optimizer: self.optimizer,
            sets: self.sets,
            control: self.control,
            events: self.events,
            source,
            resident,
            total_steps,
            progress,
            resumed_from,
            run_dir,
        })
    }

    /// Brings model and optimizer to where the run starts, and lets the model remember what it is trained on.
    fn prepare(&self, checkpoint: Option<&Checkpoint>) -> Result<Progress> {
        let mut model = self.slot.lock();
        let mut optimizer = self.optimizer.lock();
        if optimizer.phase() != Phase::Clean {
            return Err(Error::Optimizer(flatmin_optim::Error::StepOrder {
                step: "fit",
                found: "between ascentStep and descentStep",
                expected: "finish the step with backward and descentStep first",
            }));
        }
        // Gradients of a custom loop must not leak into the first step.
        optimizer.abandon_step(&mut model)?;
        let train = &self.sets.train;
        self.slot.describe(&mut model, |model| -> Result<Progress> {
            let progress = match checkpoint {
                Some(checkpoint) => checkpoint.restore(model, &mut optimizer)?,
                None => Progress::default(),
            };
            if model.spec().normalization.is_none() {
                let normalization = for_model(&input_normalization(model.spec(), train));
                model.set_normalization(Some(normalization))?;
            }
            if model.spec().class_names.is_none() && train.num_classes() as i64 == model.spec().num_classes {
                model.set_class_names(Some(train.class_names().to_vec()))?;
            }
            Ok(progress)
        })
    }

    /// The average that the options ask for, as far as the checkpoint had come with it.
    fn averaged(&self, checkpoint: Option<&Checkpoint>, steps_per_epoch: u64) -> Result<Option<Averaged>> {
        let Some(average) = self.config.average.clone() else { return Ok(None) };
        let mut averaging = Averaging::new(average, &self.slot.lock())?;
        if let Some(checkpoint) = checkpoint {
            checkpoint.restore_average(&mut averaging)?;
        }
        Ok(Some(Averaged { averaging, epochs: self.config.epochs, steps_per_epoch }))
    }

    /// The batches that are still to come.
    fn source(&self, progress: &Progress) -> Result<Source> {
        let (engine, spec) = (self.slot.engine(), self.slot.spec());
        let normalization = for_model(&input_normalization(&spec, &self.sets.train));
        let config = self.config.feed(normalization, self.slot.dtype(), spec.num_classes);
        let epochs = progress.epoch..self.config.epochs.max(progress.epoch);
        let feed = Feed::new(self.config.stages(&self.sets.train)?, &config, epochs, progress.batch as usize)?;
        Source::new(feed, engine)
    }

    /// The run's folder: the same one if the checkpoint lies in it, else a new one.
    fn run_dir(&self, resumed_from: Option<&Path>, progress: &Progress) -> Result<Option<RunDir>> {
        let Some(path) = &self.config.run_dir else { return Ok(None) };
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let same = resumed_from.is_some_and(|checkpoint| real(checkpoint).starts_with(real(path)));
        let run_dir = match same {
            true => RunDir::resume(path, &self.description(), progress.epoch, progress.step)?,
            false => RunDir::create(path, &self.description())?,
        };
        Ok(Some(run_dir))
    }

    /// config.json.
    fn description(&self) -> Value {
        let describe = |set: &Option<Dataset>| set.as_ref().map(Dataset::describe);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "train": self.config,
            "optimizer": self.optimizer.lock().config(),
            "model": *self.slot.spec(),
            "dtype": self.slot.dtype(),
            "device": self.slot.engine(),
            "environment": self.config.environment,
            "data": {
                "train": self.sets.train.describe(),
                "validation": describe(&self.sets.validation),
                "test": describe(&self.sets.test),
            },
        })
    }
}
