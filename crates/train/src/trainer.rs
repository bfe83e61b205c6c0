//! The training loop: epochs of steps, evaluations at their ends, checkpoints, and the events that tell of it all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flatmin_data::Dataset;
use flatmin_nn::{Engine, Model, device_name};
use flatmin_optim::{Optimizer, Recorded, StepOptions, StepOutcome, train_step_while};
use parking_lot::MutexGuard;

use crate::averaged::Averaged;
use crate::channel::{EventSender, StepPacer};
use crate::checkpoint::{self, BatchOrder, Kept};
use crate::config::{NonFinite, TrainConfig};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::evaluate::{EvaluateOptions, evaluate, evaluate_batches};
use crate::evaluation_batches::EvaluationBatches;
use crate::events::{
    AveragedScores, CheckpointEvent, CheckpointKind, EndEvent, EndReason, EpochEvent, Event, RunResult, StartEvent,
    StepEvent, TrainScores,
};
use crate::input::{Input, Source};
use crate::memory;
use crate::metrics::Evaluation;
use crate::optimizer_slot::OptimizerSlot;
use crate::progress::Progress;
use crate::run_dir::RunDir;
use crate::schedule::{Own, Schedules, Watched};
use crate::seed::mask_seed;
use crate::slot::ModelSlot;
use crate::step_metrics::{Norms, StepNorms};
use crate::stopwatch::Stopwatch;

/// The sets of a run. The best epoch is chosen on `validation`, never on `test`.
#[derive(Clone)]
pub struct Datasets {
    pub train: Dataset,
    pub validation: Option<Dataset>,
    pub test: Option<Dataset>,
}

/// What of the other sets lies on the device for the length of a run.
pub(crate) struct ResidentSets {
    validation: Option<EvaluationBatches>,
    test: Option<EvaluationBatches>,
}

impl ResidentSets {
    pub fn new(model: &Model, sets: &Datasets, config: &TrainConfig) -> Result<Self> {
        let options = evaluate_options(config);
        let resident = |set: &Option<Dataset>| -> Result<Option<EvaluationBatches>> {
            let Some(set) = set else { return Ok(None) };
            let batches = EvaluationBatches::new(model, set, &options.clone().with_large_batches(set.shape()))?;
            // The others would hold on to memory of their loaders.
            Ok(Some(batches).filter(EvaluationBatches::is_resident))
        };
        Ok(Self { validation: resident(&sets.validation)?, test: resident(&sets.test)? })
    }
}

fn evaluate_options(config: &TrainConfig) -> EvaluateOptions {
    EvaluateOptions {
        batch_size: config.batch_size,
        loss: config.loss.clone(),
        metrics: config.metrics.clone(),
        loader_threads: config.loader_threads,
        ..EvaluateOptions::default()
    }
}

/// Whether a run goes on.
enum Flow {
    Continue,
    Halt(EndReason),
}

/// Whether a step that was not finite need be no divergence: a scaled loss overflows now and then, and then its scale falls,
/// down to 1.
fn may_overflow(loss_scale: Option<f64>) -> bool {
    loss_scale.is_some_and(|scale| scale > 1.0)
}

/// Everything a run has, on its own thread.
pub(crate) struct Trainer {
    pub config: TrainConfig,
    pub slot: Arc<ModelSlot>,
    pub optimizer: Arc<OptimizerSlot>,
    pub sets: Datasets,
    pub source: Source,
    pub resident: ResidentSets,
    pub averaged: Option<Averaged>,
    pub schedules: Schedules,
    pub total_steps: u64,
    pub progress: Progress,
    pub resumed_from: Option<PathBuf>,
    pub run_dir: Option<RunDir>,
    pub control: Control,
    pub events: Arc<EventSender>,
    pub pacer: StepPacer,
    pub clock: Stopwatch,
    pub report: Report,
}

/// The outcome of work on the run's thread; an error if it panicked.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| Err(Error::Internal("the training thread panicked".into()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

/// What is in force in the first group, schedules included.
struct Rates {
    lr: f64,
    rho: Option<f64>,
    momentum: f64,
}

impl Rates {
    fn of(optimizer: &Optimizer) -> Self {
        Self { lr: optimizer.lr(), rho: optimizer.rho(), momentum: optimizer.momentum() }
    }
}

/// What the end event tells of the last epoch and checkpoint.
#[derive(Default)]
pub(crate) struct Report {
    train: Option<TrainScores>,
    validation: Option<Evaluation>,
    test: Option<Evaluation>,
    averaged: Option<AveragedScores>,
    /// The step at which all this was measured.
    measured_at: Option<u64>,
    average_applied: bool,
    checkpoint: Option<PathBuf>,
    /// The step at which `last` was written.
    saved_at: Option<u64>,
}

impl Trainer {
    /// Runs to the end and answers the end event, which the caller sends once the model is free.
    pub fn run(&mut self) -> Result<Event> {
        let outcome = caught(|| self.train());
        if let (Err(error), Some(run_dir)) = (&outcome, &mut self.run_dir) {
            // Writing may be what failed.
            let _ = run_dir.log_failure(error);
        }
        outcome
    }

    fn train(&mut self) -> Result<Event> {
        self.start()?;
        let reason = self.epochs()?;
        if reason != EndReason::Finished {
            self.save(CheckpointKind::Last, None)?;
        }
        if reason != EndReason::Aborted {
            self.apply_average()?;
        }
        let end = Event::End(Box::new(EndEvent { reason, result: self.result() }));
        self.log(&end)?;
        Ok(end)
    }

    fn start(&mut self) -> Result<()> {
        let start = StartEvent {
            run_dir: self.config.run_dir.clone(),
            steps: self.total_steps,
            epochs: self.config.epochs,
            steps_per_epoch: self.source.len() as u64,
            steps_done: self.progress.step,
            parameters: self.slot.lock().parameters().parameter_count() as u64,
            device: device_name(self.slot.engine().device()),
            seed: self.config.seed,
            resumed_from: self.resumed_from.clone(),
        };
        self.send(Event::Start(start))
    }

    fn epochs(&mut self) -> Result<EndReason> {
        while self.progress.epoch < self.config.epochs && self.progress.step < self.total_steps {
            if let Flow::Halt(reason) = self.train_epoch()? {
                return Ok(reason);
            }
            if let Flow::Halt(reason) = self.finish_epoch()? {
                return Ok(reason);
            }
        }
        Ok(EndReason::Finished)
    }

    /// The steps of an epoch that are still to do.
    fn train_epoch(&mut self) -> Result<Flow> {
        self.clock.start_epoch();
        while self.progress.step < self.total_steps && (self.progress.batch as usize) < self.source.len() {
            if let Some(reason) = self.control.halted() {
                return Ok(Flow::Halt(reason));
            }
            let waiting = Instant::now();
            let at = (self.progress.epoch, self.progress.batch);
            let Some(input) = self.source.next(at)? else { break };
            self.clock.waited(waiting.elapsed());
            self.step(input)?;
        }
        self.clock.stop_training();
        if self.progress.sums.all_skipped() && !may_overflow(self.optimizer.lock().loss_scale()) {
            let (epoch, steps) = (self.progress.epoch + 1, self.progress.sums.steps());
            return Err(Error::NonFinite { found: format!("all {steps} steps of epoch {epoch}") });
        }
        Ok(Flow::Continue)
    }

    fn step(&mut self, input: Input) -> Result<()> {
        let due = self.pacer.due(Instant::now());
        let Input { images, target, count } = input;
        let options = StepOptions {
            mask_seed: mask_seed(self.config.seed, self.progress.step),
            accumulate: self.config.accumulate,
        };
        let mut model = self.slot.lock();
        let mut optimizer = self.optimizer.lock();
        let own = Own::of(&optimizer);
        optimizer.set_factors(self.schedules.factors(self.progress.step, own, &self.progress.plateaus));
        let norms = StepNorms::begin(if due { &self.config.step_metrics } else { &[] }, &model)?;
        let mut waited = Duration::ZERO;
        let mut look_ahead = || {
            let waiting = Instant::now();
            self.source.look_ahead();
            waited = waiting.elapsed();
        };
        let loss = &self.config.loss;
        let outcome = train_step_while(&mut model, &mut optimizer, &images, &target, loss, options, &mut look_ahead)?;
        let norms = norms.finish(&model)?;
        let rates = Rates::of(&optimizer);
        if let Some(averaged) = &mut self.averaged {
            averaged.after_step(&model, self.progress.step + 1)?;
        }
        // Fair, so that an evaluation that waits for the model gets it before the next step.
        drop(optimizer);
        MutexGuard::unlock_fair(model);
        self.progress.add(&outcome);
        self.clock.waited(waited);
        self.clock.trained(count);
        if due {
            let event = self.step_event(&outcome, norms, rates);
            self.send(Event::Step(event))?;
        }
        self.check_finite(&outcome)
    }

    /// Ends a run that diverged, as the options have it.
    fn check_finite(&self, outcome: &StepOutcome) -> Result<()> {
        let skips = self.progress.consecutive_skips;
        let step = self.progress.step;
        let found = match self.config.non_finite {
            NonFinite::Error if skips > 0 && !may_overflow(outcome.loss_scale) => format!("step {step}"),
            NonFinite::Skip if skips >= self.config.max_consecutive_skips => {
                format!("each of the last {skips} steps, up to step {step},")
            }
            _ => return Ok(()),
        };
        Err(Error::NonFinite { found })
    }

    fn step_event(&self, outcome: &StepOutcome, norms: Norms, rates: Rates) -> StepEvent {
        let remaining = self.total_steps - self.progress.step;
        StepEvent {
            epoch: self.progress.epoch + 1,
            step: self.progress.step,
            total_steps: self.total_steps,
            loss: outcome.reported.loss,
            sharpness: outcome.sharpness,
            accuracy: outcome.reported.correct as f64 / outcome.reported.count as f64,
            lr: rates.lr,
            rho: rates.rho,
            momentum: rates.momentum,
            gradient_norm: outcome.gradient_norm,
            loss_scale: outcome.loss_scale,
            update_norm: norms.update,
            weight_norm: norms.weight,
            images_per_second: self.clock.epoch_images_per_second(),
            data_seconds: self.clock.epoch_data_seconds(),
            eta_seconds: self.clock.seconds_per_step() * remaining as f64,
            skipped_steps: self.progress.skipped_steps,
            device_memory_bytes: memory::device_bytes(self.slot.engine()),
        }
    }

    /// Measures, tells, waits for an answer if one is wanted, and saves.
    fn finish_epoch(&mut self) -> Result<Flow> {
        let model = self.slot.lock();
        let (validation, test) = self.evaluate(&model)?;
        MutexGuard::unlock_fair(model);
        let averaged = self.evaluate_average()?;
        if let Some(reason) = self.control.halted() {
            // Measurements may be incomplete; a resumed run makes them again.
            return Ok(Flow::Halt(reason));
        }
        let chosen_on = match &self.config.average {
            Some(average) if average.chooses_best() => averaged.as_ref().and_then(|scores| scores.validation.as_ref()),
            _ => validation.as_ref(),
        };
        let accuracy = chosen_on.map(|scores| scores.accuracy);
        let improved = accuracy.is_some_and(|accuracy| self.progress.improve(accuracy));
        let event = EpochEvent { averaged, ..self.epoch_event(validation, test) };
        let number = event.epoch;
        self.report.train = Some(event.train.clone());
        self.report.validation.clone_from(&event.validation);
        self.report.test.clone_from(&event.test);
        self.report.averaged.clone_from(&event.averaged);
        self.report.measured_at = Some(self.progress.step);
        if self.progress.batch as usize == self.source.len() {
            self.observe(&event);
            self.progress.finish_epoch();
        }
        self.send(Event::Epoch(Box::new(event)))?;
        self.await_answer()?;
        if improved && self.config.checkpoint.best {
            self.save(CheckpointKind::Best, accuracy)?;
        }
        let due = number.is_multiple_of(self.config.checkpoint.every_epochs) || self.progress.step == self.total_steps;
        if due && self.config.checkpoint.last {
            self.save(CheckpointKind::Last, accuracy)?;
        }
        Ok(self.control.halted().map_or(Flow::Continue, Flow::Halt))
    }

    /// Lets schedules know how the epoch went.
    fn observe(&mut self, event: &EpochEvent) {
        let watched = match &event.validation {
            Some(scores) => Watched { loss: scores.loss, accuracy: scores.accuracy },
            None => Watched { loss: event.train.loss, accuracy: event.train.accuracy },
        };
        let own = Own::of(&self.optimizer.lock());
        self.schedules.observe(self.progress.step, watched, own, &mut self.progress.plateaus);
    }

    /// The scores on the validation and the test set; None without a set, and if the run was halted meanwhile.
    fn evaluate(&self, model: &Model) -> Result<(Option<Evaluation>, Option<Evaluation>)> {
        let options = evaluate_options(&self.config);
        let interrupted = || self.control.halted().is_some();
        let scores = |set: &Option<Dataset>, resident: &Option<EvaluationBatches>| match (set, resident) {
            (_, Some(batches)) => evaluate_batches(model, batches, &options, &interrupted),
            (Some(set), None) => evaluate(model, set, &options, &interrupted),
            (None, None) => Ok(None),
        };
        let validation = scores(&self.sets.validation, &self.resident.validation)?;
        Ok((validation, scores(&self.sets.test, &self.resident.test)?))
    }

    /// The scores of the averaged weights; None while there are none.
    fn evaluate_average(&mut self) -> Result<Option<AveragedScores>> {
        let Some(averaged) = &mut self.averaged else { return Ok(None) };
        let interrupted = || self.control.halted().is_some();
        let epoch = self.progress.epoch;
        averaged.prepare(&mut self.source, epoch, self.config.seed, &interrupted)?;
        let Some(Averaged { averaging, .. }) = &self.averaged else { return Ok(None) };
        let Some(model) = averaging.model() else { return Ok(None) };
        let (validation, test) = self.evaluate(model)?;
        Ok(Some(AveragedScores { weights: averaging.count().weights, validation, test }))
    }

    /// Gives the model the averaged weights, if the options ask for it and they were just measured.
    fn apply_average(&mut self) -> Result<()> {
        let Some(Averaged { averaging, .. }) = &self.averaged else { return Ok(()) };
        let measured = self.report.measured_at == Some(self.progress.step);
        if let Some(average) = averaging.model().filter(|_| measured && averaging.config().is_applied()) {
            self.slot.lock().load_state_dict(average.state_dict()?, true)?;
            self.report.average_applied = true;
        }
        Ok(())
    }

    fn epoch_event(&self, validation: Option<Evaluation>, test: Option<Evaluation>) -> EpochEvent {
        let sums = &self.progress.sums;
        let train = sums.scores();
        let unseen = test.as_ref().or(validation.as_ref());
        let skipped = (sums.skipped() > 0).then(|| {
            format!("{} of {} steps were skipped: loss or gradient was not finite", sums.skipped(), sums.steps())
        });
        let faults = self.sets.train.faults();
        let faulty = faults
            .messages
            .first()
            .map(|first| format!("{} images could not be used so far. The first: {first}", faults.count));
        let warnings: Vec<String> = [skipped, faulty].into_iter().flatten().collect();
        let rates = Rates::of(&self.optimizer.lock());
        EpochEvent {
            epoch: self.progress.epoch + 1,
            generalization_gap: unseen.map(|scores| scores.loss - train.loss),
            train,
            validation,
            test,
            averaged: None,
            sharpness: sums.sharpness(),
            lr: rates.lr,
            rho: rates.rho,
            momentum: rates.momentum,
            images_per_second: self.clock.epoch_images_per_second(),
            image_size: self.config.progressive_resizing.map(|_| self.source.shape(self.progress.epoch).height),
            seconds: self.clock.epoch_seconds(),
            data_seconds: self.clock.epoch_data_seconds(),
            memory_bytes: memory::resident_bytes(),
            device_memory_bytes: memory::device_bytes(self.slot.engine()),
            eager: self.eager(),
            skipped_steps: sums.skipped(),
            bad_images: faults.count as u64,
            warning: (!warnings.is_empty()).then(|| warnings.join(". ")),
        }
    }

    /// Why the steps on a GPU are not recorded ones.
    fn eager(&self) -> Option<String> {
        match (self.slot.engine(), self.optimizer.lock().recorded()) {
            (Engine::Cpu, _) | (_, Some(Recorded::Yes)) => None,
            (_, Some(Recorded::No(reason))) => Some(reason),
            (Engine::Torch(_), None) => Some("the CUDA library is not there; flatmin doctor says why".into()),
            (Engine::Cuda(_), None) => {
                Some("the options of the optimizer or the run ask for steps of another kind".into())
            }
        }
    }

    fn await_answer(&mut self) -> Result<()> {
        if !self.config.await_epoch_end {
            return Ok(());
        }
        let Some(answer) = self.control.wait_for_answer() else { return Ok(()) };
        if let Some(lr) = answer.lr {
            self.optimizer.set_lr(lr)?;
        }
        if answer.stop {
            self.control.halt(EndReason::Stopped);
        }
        Ok(())
    }

    /// Writes a checkpoint if the run has a folder and `last` does not lie there already.
    fn save(&mut self, kind: CheckpointKind, metric: Option<f64>) -> Result<()> {
        let Some(run_dir) = &self.run_dir else { return Ok(()) };
        if kind == CheckpointKind::Last && self.report.saved_at == Some(self.progress.step) {
            return Ok(());
        }
        let path = run_dir.checkpoint(kind);
        let order = BatchOrder::new(&self.config, self.sets.train.len());
        let (model, optimizer) = (self.slot.lock(), self.optimizer.lock());
        let average = self.averaged.as_ref().map(|averaged| &averaged.averaging);
        let kept = Kept { model: &model, optimizer: &optimizer, average, progress: &self.progress, order: &order };
        checkpoint::save(&path, kept)?;
        drop((optimizer, model));
        if kind == CheckpointKind::Last {
            self.report.saved_at = Some(self.progress.step);
        }
        self.report.checkpoint = Some(path.clone());
        self.send(Event::Checkpoint(CheckpointEvent { epoch: self.progress.epoch, path, kind, metric }))
    }

    fn result(&mut self) -> RunResult {
        RunResult {
            epochs: self.progress.epoch,
            steps: self.progress.step,
            best: self.progress.best,
            train: self.report.train.take(),
            validation: self.report.validation.take(),
            test: self.report.test.take(),
            averaged: self.report.averaged.take(),
            average_applied: self.report.average_applied,
            seconds: self.clock.seconds(),
            images_per_second: self.clock.images_per_second(),
            peak_memory_bytes: memory::peak_resident_bytes(),
            skipped_steps: self.progress.skipped_steps,
            checkpoint: self.report.checkpoint.take(),
        }
    }

    fn send(&mut self, event: Event) -> Result<()> {
        self.log(&event)?;
        self.events.send(event);
        Ok(())
    }

    fn log(&mut self, event: &Event) -> Result<()> {
        self.run_dir.as_mut().map_or(Ok(()), |run_dir| run_dir.log(event))
    }
}
