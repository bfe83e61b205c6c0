//! Schedules of learning rate, rho and momentum: what multiplies the groups' own values at every step. Their formulas
//! are those of `torch.optim.lr_scheduler`, over time in epochs.

mod config;
mod layout;
mod one_cycle;
mod plateau;
mod schedules;

pub use config::{Clock, ScheduleConfig, Shape};

pub use one_cycle::{Anneal, OneCycle};
pub use plateau::{Mode, Plateau, ThresholdMode};
pub use schedules::{Own, PlateauStates, Schedules, Watched};
