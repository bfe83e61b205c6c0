//! Where a run's time goes: training, waiting for data, evaluation; and the rates that follow from it.

use std::time::{Duration, Instant};

/// Times of a run and of its current epoch.
pub struct Stopwatch {
    started: Instant,
    epoch_started: Instant,
    /// Training time of the current epoch; None while it is being trained.
    epoch_training: Option<Duration>,
    epoch_data: Duration,
    epoch_images: u64,
    /// Of the epochs before.
    training_before: Duration,
    images: u64,
    steps: u64,
}

impl Stopwatch {
    pub fn start() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            epoch_started: now,
            epoch_training: None,
            epoch_data: Duration::ZERO,
            epoch_images: 0,
            training_before: Duration::ZERO,
            images: 0,
            steps: 0,
        }
    }

    pub fn start_epoch(&mut self) {
        self.training_before += self.epoch_training.take().unwrap_or_default();
        self.epoch_started = Instant::now();
        self.epoch_data = Duration::ZERO;
        self.epoch_images = 0;
    }

    /// The epoch's steps are done; what follows is evaluation.
    pub fn stop_training(&mut self) {
        self.epoch_training = Some(self.epoch_started.elapsed());
    }

    pub fn waited(&mut self, time: Duration) {
        self.epoch_data += time;
    }

    pub fn trained(&mut self, images: u64) {
        self.epoch_images += images;
        self.images += images;
        self.steps += 1;
    }

    pub fn epoch_images_per_second(&self) -> f64 {
        rate(self.epoch_images, self.epoch_training())
    }

    pub fn epoch_seconds(&self) -> f64 {
        self.epoch_started.elapsed().as_secs_f64()
    }

    pub fn epoch_data_seconds(&self) -> f64 {
        self.epoch_data.as_secs_f64()
    }

    /// Mean over the run.
    pub fn seconds_per_step(&self) -> f64 {
        self.training().as_secs_f64() / self.steps.max(1) as f64
    }

    /// Mean over the run, evaluations not counted.
    pub fn images_per_second(&self) -> f64 {
        rate(self.images, self.training())
    }

    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn epoch_training(&self) -> Duration {
        self.epoch_training.unwrap_or_else(|| self.epoch_started.elapsed())
    }

    fn training(&self) -> Duration {
        self.training_before + self.epoch_training()
    }
}

fn rate(images: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { images as f64 / time.as_secs_f64() }
}
