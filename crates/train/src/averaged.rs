//! The averaged weights of a run: when they are taken from the model, and their batch-norm statistics before they are used.

use flatmin_data::Loader;
use flatmin_nn::Model;
use flatmin_optim::Averaging;

use crate::batch::input_tensor;
use crate::error::Result;
use crate::seed::mask_seed;

/// An average and the plan of the run that it belongs to.
pub struct Averaged {
    pub averaging: Averaging,
    pub epochs: u64,
    pub steps_per_epoch: u64,
}

impl Averaged {
    /// Takes the model's weights if they are due after so many steps. A skipped step counts as any other.
    pub fn after_step(&mut self, model: &Model, steps: u64) -> Result<()> {
        if self.averaging.config().is_due(steps, self.steps_per_epoch, self.epochs) {
            self.averaging.update(model)?;
        }
        Ok(())
    }

    /// Makes the average ready for passes. If weights were taken since its statistics were last estimated, they are: over
    /// the training batches of an epoch, as drawn for training but not mixed. Gives up when `interrupted` says so between
    /// two batches.
    pub fn prepare(&mut self, loader: &Loader, epoch: u64, seed: u64, interrupted: &dyn Fn() -> bool) -> Result<()> {
        self.averaging.sync()?;
        let Some(model) = self.averaging.model().filter(|_| self.averaging.count().stale) else { return Ok(()) };
        let (shape, input) = (loader.dataset().shape(), model.input_options());
        self.averaging.start_statistics();
        for (number, batch) in loader.epoch(epoch, 0).enumerate() {
            if interrupted() {
                return Ok(());
            }
            let batch = batch?;
            let images = input_tensor(&batch.images, shape, input)?;
            self.averaging.observe(&images, mask_seed(seed, number as u64))?;
            loader.recycle(batch);
        }
        self.averaging.finish_statistics();
        Ok(())
    }
}
