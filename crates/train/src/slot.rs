//! A model that several parties hold: the training loop for a step at a time, evaluations in between, and the caller.
//! While a run trains it, calls that would change it are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flatmin_nn::{Dtype, Engine, Model, ModelSpec};
use parking_lot::{Mutex, MutexGuard};
use tch::{Device, Kind};

use crate::error::{Error, Result};

/// A shared model. Its spec, dtype and engine can be read without waiting for the step in progress.
pub struct ModelSlot {
    model: Mutex<Model>,
    spec: Mutex<Arc<ModelSpec>>,
    dtype: Dtype,
    engine: Mutex<Engine>,
    training: AtomicBool,
}

/// Held by a run; the model is free for changes again once it is dropped.
pub struct TrainingLease(Arc<ModelSlot>);

impl Drop for TrainingLease {
    fn drop(&mut self) {
        self.0.training.store(false, Ordering::Release);
    }
}

impl ModelSlot {
    pub fn new(model: Model) -> Arc<Self> {
        let spec = Mutex::new(Arc::new(model.spec().clone()));
        let (dtype, engine) = (model.dtype(), Mutex::new(model.engine()));
        Arc::new(Self { model: Mutex::new(model), spec, dtype, engine, training: AtomicBool::new(false) })
    }

    /// As of the last [`Self::describe`].
    pub fn spec(&self) -> Arc<ModelSpec> {
        self.spec.lock().clone()
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn engine(&self) -> Engine {
        *self.engine.lock()
    }

    /// Dtype and device of the images that the model takes.
    pub fn input_options(&self) -> (Kind, Device) {
        (self.dtype.kind(), self.engine().device())
    }

    /// Moves the model to another engine.
    ///
    /// # Errors
    /// `ERR_FLATMIN_BUSY` while a run trains the model; what [`Model::to`] answers.
    pub fn move_to(&self, engine: Engine) -> Result<()> {
        self.lock_for_change()?.to(engine)?;
        *self.engine.lock() = engine;
        Ok(())
    }

    /// For calls that leave the weights alone. Waits for the step or call in progress.
    pub fn lock(&self) -> MutexGuard<'_, Model> {
        self.model.lock()
    }

    /// For calls that change weights, gradients or statistics. Waits for the call in progress.
    ///
    /// # Errors
    /// `ERR_FLATMIN_BUSY` while a run trains the model.
    pub fn lock_for_change(&self) -> Result<MutexGuard<'_, Model>> {
        self.refuse_while_training()?;
        Ok(self.model.lock())
    }

    /// As [`Self::lock_for_change`], for threads that must not wait.
    ///
    /// # Errors
    /// `ERR_FLATMIN_BUSY` while a run trains the model or another call is at work on it.
    pub fn try_lock_for_change(&self) -> Result<MutexGuard<'_, Model>> {
        self.refuse_while_training()?;
        let hint = "a call on it has not finished: await that first";
        self.model.try_lock().ok_or(Error::Busy { what: "model", hint })
    }

    /// Changes what the model tells about itself: class names, normalisation.
    pub fn describe<T>(&self, model: &mut Model, edit: impl FnOnce(&mut Model) -> T) -> T {
        let answer = edit(model);
        *self.spec.lock() = Arc::new(model.spec().clone());
        answer
    }

    /// Takes the model for a run.
    ///
    /// # Errors
    /// `ERR_FLATMIN_BUSY` if another run has it.
    pub fn begin_training(self: &Arc<Self>) -> Result<TrainingLease> {
        if self.training.swap(true, Ordering::AcqRel) {
            return Err(busy());
        }
        Ok(TrainingLease(self.clone()))
    }

    pub fn is_training(&self) -> bool {
        self.training.load(Ordering::Acquire)
    }

    fn refuse_while_training(&self) -> Result<()> {
        if self.is_training() { Err(busy()) } else { Ok(()) }
    }
}

fn busy() -> Error {
    Error::Busy { what: "model", hint: "it is being trained: await the run's end or call stop() first" }
}
