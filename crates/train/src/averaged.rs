//! The averaged weights of a run: when they are taken from the model, and their batch-norm statistics before they are used.

use flatmin_nn::Model;
use flatmin_optim::Averaging;

use crate::error::Result;
use crate::input::Source;
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
    pub fn prepare(
        &mut self,
        source: &mut Source,
        epoch: u64,
        seed: u64,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<()> {
        let averaging = &mut self.averaging;
        averaging.sync()?;
        let Some(model) = averaging.model().filter(|_| averaging.count().stale) else { return Ok(()) };
        let (kind, _) = model.input_options();
        averaging.start_statistics();
        let whole = source.show(epoch, |number, images| {
            if interrupted() {
                return Ok(false);
            }
            averaging.observe(&images.f_to_kind(kind)?, mask_seed(seed, number))?;
            Ok(true)
        })?;
        if whole {
            averaging.finish_statistics();
        }
        Ok(())
    }
}
