//! The one-cycle schedule (Smith and Topin 2018, "Super-Convergence"), with the rules of PyTorch's `OneCycleLR`.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::schedule::config::Check;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Anneal {
    #[default]
    Cos,
    Linear,
}

/// A rise to the optimizer's own learning rate and a longer fall far below where it began; momentum moves the other way.
///
/// Over N ticks the factor goes from `1 / div` to 1 at tick `pct N - 1`, and to `1 / (div final)` at N - 1; in three
/// phases it comes back to `1 / div` at `2 pct N - 2` before. Momentum is `max` wherever the factor is `1 / div` or less,
/// and `base` at its peak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OneCycle {
    /// The share of the run in which the rate rises. Default 0.3.
    pub pct_start: f64,
    /// Default 25.
    pub div_factor: f64,
    /// Default 1e4.
    pub final_div_factor: f64,
    /// Default: half a cosine.
    pub anneal: Anneal,
    /// Default false.
    pub three_phase: bool,
    /// Default true.
    pub cycle_momentum: bool,
    /// Default 0.85.
    pub base_momentum: f64,
    /// Default 0.95.
    pub max_momentum: f64,
}

impl Default for OneCycle {
    fn default() -> Self {
        Self {
            pct_start: 0.3,
            div_factor: 25.0,
            final_div_factor: 1e4,
            anneal: Anneal::Cos,
            three_phase: false,
            cycle_momentum: true,
            base_momentum: 0.85,
            max_momentum: 0.95,
        }
    }
}

/// The values between which a cycle moves.
struct Levels {
    start: f64,
    peak: f64,
    end: f64,
}

impl OneCycle {
    pub(super) fn validate(&self, check: &Check<'_>) -> Result<()> {
        check.fraction("pctStart", self.pct_start)?;
        if self.three_phase && self.pct_start > 0.5 {
            return Err(check.error(
                "pctStart",
                self.pct_start,
                "0.5 or less, for a rise and a fall as long in threePhase",
            ));
        }
        check.at_least_one("divFactor", self.div_factor)?;
        check.at_least_one("finalDivFactor", self.final_div_factor)?;
        check.below_one("baseMomentum", self.base_momentum)?;
        check.below_one("maxMomentum", self.max_momentum)
    }

    /// The factor at the end.
    pub(super) fn floor(&self) -> f64 {
        1.0 / self.div_factor / self.final_div_factor
    }

    pub(super) fn factor(&self, tick: f64, total: f64) -> f64 {
        let start = 1.0 / self.div_factor;
        self.at(tick, total, &Levels { start, peak: 1.0, end: self.floor() })
    }

    pub(super) fn momentum(&self, tick: f64, total: f64) -> f64 {
        let max = self.max_momentum;
        self.at(tick, total, &Levels { start: max, peak: self.base_momentum, end: max })
    }

    fn at(&self, tick: f64, total: f64, levels: &Levels) -> f64 {
        let Levels { start, peak, end } = *levels;
        let rise = self.pct_start * total - 1.0;
        let last = total - 1.0;
        if tick <= rise {
            return self.between(start, peak, tick / rise);
        }
        if !self.three_phase {
            return self.between(peak, end, (tick - rise) / (last - rise));
        }
        let fall = 2.0 * self.pct_start * total - 2.0;
        if tick <= fall {
            return self.between(peak, start, (tick - rise) / (fall - rise));
        }
        self.between(start, end, (tick - fall) / (last - fall))
    }

    fn between(&self, from: f64, to: f64, progress: f64) -> f64 {
        // A phase of no length is over at once.
        let progress = if progress.is_finite() { progress.min(1.0) } else { 1.0 };
        match self.anneal {
            Anneal::Cos => to + (from - to) / 2.0 * (1.0 + (PI * progress).cos()),
            Anneal::Linear => from + (to - from) * progress,
        }
    }
}
