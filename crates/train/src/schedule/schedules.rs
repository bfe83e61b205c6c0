//! The schedules of a run together: learning rate, rho and momentum, which may depend on one another.

use flatmin_optim::{Factors, Optimizer};
use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::schedule::config::{ScheduleConfig, Shape};
use crate::schedule::layout::{Inputs, Schedule};
use crate::schedule::plateau::{Mode, PlateauState};

/// The first group's own values, which schedules multiply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Own {
    pub lr: f64,
    /// 0 without a sharpness-aware wrapper.
    pub rho: f64,
    /// beta1 of Adam.
    pub momentum: f64,
}

impl Own {
    pub fn of(optimizer: &Optimizer) -> Self {
        let group = &optimizer.groups()[0];
        Self { lr: group.lr, rho: group.rho.unwrap_or(0.0), momentum: optimizer.own_momentum() }
    }
}

/// What plateau schedules remember. Kept in a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlateauStates {
    pub lr: PlateauState,
    pub rho: PlateauState,
    pub momentum: PlateauState,
}

/// The scores that a plateau schedule watches: of the validation set, or of training where there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Watched {
    pub loss: f64,
    pub accuracy: f64,
}

/// The schedules of a run.
#[derive(Debug, Clone)]
pub struct Schedules {
    lr: Schedule,
    rho: Option<Schedule>,
    momentum: Option<Schedule>,
}

impl Schedules {
    pub fn new(config: &TrainConfig, steps_per_epoch: u64, total_steps: u64) -> Self {
        let layout = |config: &ScheduleConfig| Schedule::new(config, steps_per_epoch, total_steps);
        Self {
            lr: layout(&config.schedule),
            rho: config.rho_schedule.as_ref().map(layout),
            momentum: config.momentum_schedule.as_ref().map(layout),
        }
    }

    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a schedule of something that the optimizer does not have.
    pub fn check(&self, own: Own) -> Result<()> {
        if own.momentum == 0.0 && self.lr.cycled_momentum(0).is_some() {
            let found = "true, and the optimizer has momentum 0";
            let expected = "false, or an optimizer with a momentum above 0";
            return Err(Error::option("schedule.cycleMomentum", found, expected));
        }
        if own.momentum == 0.0 && self.momentum.is_some() {
            let found = "given, and the optimizer has momentum 0";
            return Err(Error::option("momentumSchedule", found, "an optimizer with a momentum above 0"));
        }
        let Some(rho) = &self.rho else { return Ok(()) };
        if own.rho == 0.0 {
            let found = "given, and the optimizer has no rho above 0";
            return Err(Error::option("rhoSchedule", found, "a sharpness-aware optimizer such as SAM"));
        }
        match rho.shape() {
            Shape::Lr { min } if *min > own.rho => {
                Err(Error::option("rhoSchedule.min", min, format!("at most the optimizer's rho, {}", own.rho)))
            }
            _ => Ok(()),
        }
    }

    /// What multiplies the groups' own values at this step, counted from 0 over the whole run.
    pub fn factors(&self, step: u64, own: Own, states: &PlateauStates) -> Factors {
        let lr = self.lr.factor(step, Inputs { plateau: &states.lr, own: own.lr, lr_position: 1.0 });
        let lr_position = position(lr, self.lr.floor(own.lr));
        let factor = |schedule: &Option<Schedule>, plateau, own| {
            schedule.as_ref().map_or(1.0, |schedule| schedule.factor(step, Inputs { plateau, own, lr_position }))
        };
        let momentum = match self.lr.cycled_momentum(step).filter(|_| own.momentum > 0.0) {
            Some(momentum) => momentum / own.momentum,
            None => factor(&self.momentum, &states.momentum, own.momentum),
        };
        Factors { lr, rho: factor(&self.rho, &states.rho, own.rho), momentum }
    }

    /// Tells plateau schedules of a whole epoch, at whose end `steps` are done. They do not look before their warm-up ends.
    pub fn observe(&self, steps: u64, watched: Watched, own: Own, states: &mut PlateauStates) {
        let Own { lr, rho, momentum } = own;
        let watchers = [
            (Some(&self.lr), &mut states.lr, lr),
            (self.rho.as_ref(), &mut states.rho, rho),
            (self.momentum.as_ref(), &mut states.momentum, momentum),
        ];
        for (schedule, state, own) in watchers {
            let Some(schedule) = schedule.filter(|schedule| !schedule.is_warming_up(steps)) else { continue };
            let Shape::Plateau(plateau) = schedule.shape() else { continue };
            let score = match plateau.mode {
                Mode::Min => watched.loss,
                Mode::Max => watched.accuracy,
            };
            plateau.observe(state, score, own);
        }
    }
}

/// Where a factor is between its floor and 1.
fn position(factor: f64, floor: f64) -> f64 {
    if floor < 1.0 { ((factor - floor) / (1.0 - floor)).clamp(0.0, 1.0) } else { 1.0 }
}
