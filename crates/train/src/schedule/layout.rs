//! A schedule laid out over a run: the factor of every step.

use std::f64::consts::PI;

use crate::schedule::config::{Clock, ScheduleConfig, Shape};
use crate::schedule::one_cycle::OneCycle;
use crate::schedule::plateau::PlateauState;

/// What a factor depends on beside the time.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    pub plateau: &'a PlateauState,
    /// The first group's own value of what is scheduled.
    pub own: f64,
    /// Where the learning rate is between its lowest and its highest value, from 0 to 1.
    pub lr_position: f64,
}

/// A schedule over a run of `total_steps` steps. Time passes in ticks: steps, or epochs if it moves by the epoch.
///
/// With t the tick (from 0), W the warm-up and T the total in ticks, E the ticks of an epoch, u = t - W and N the ticks of
/// `epochs`, by default T - W:
/// - warm-up, t < W: `(t + 1) / W`, or `s + (1 - s) t / W` with a start factor s, times the factor that follows
/// - constant: `1`
/// - cosine: `min + (1 - min) (1 + cos(pi min(u, N) / N)) / 2`
/// - step: `gamma ^ floor(u / (stepSize E))`
/// - multiStep: `gamma ^ #{m in milestones: t >= m E}`
/// - exponential: `gamma ^ (u / E)`
/// - linear: `start + (end - start) min(u, N) / N`
/// - polynomial: `(1 - min(u, N) / N) ^ power`
/// - oneCycle and plateau: [`OneCycle`], [`crate::schedule::Plateau`]
/// - lr: `(min + (rho - min) p) / rho` with p the position of the learning rate
#[derive(Debug, Clone)]
pub struct Schedule {
    config: ScheduleConfig,
    steps_per_epoch: u64,
    /// All in ticks.
    epoch: f64,
    warmup: f64,
    total: f64,
}

impl Schedule {
    pub fn new(config: &ScheduleConfig, steps_per_epoch: u64, total_steps: u64) -> Self {
        let steps_per_epoch = steps_per_epoch.max(1);
        let (epoch, total) = match config.by {
            Clock::Step => (steps_per_epoch as f64, total_steps as f64),
            Clock::Epoch => (1.0, total_steps.div_ceil(steps_per_epoch) as f64),
        };
        let warmup = (config.warmup_epochs * epoch).round();
        Self { config: config.clone(), steps_per_epoch, epoch, warmup, total }
    }

    pub fn shape(&self) -> &Shape {
        &self.config.shape
    }

    pub fn is_warming_up(&self, step: u64) -> bool {
        self.tick(step) < self.warmup
    }

    /// What multiplies the scheduled value at this step, counted from 0 over the whole run.
    pub fn factor(&self, step: u64, inputs: Inputs<'_>) -> f64 {
        let tick = self.tick(step);
        if tick >= self.warmup {
            return self.course(tick, inputs);
        }
        let rise = match self.config.warmup_start {
            None => (tick + 1.0) / self.warmup,
            Some(start) => start + (1.0 - start) * tick / self.warmup,
        };
        rise * self.beginning(inputs)
    }

    /// The momentum at this step, if the schedule is a cycle that has one.
    pub fn cycled_momentum(&self, step: u64) -> Option<f64> {
        let Shape::OneCycle(cycle @ OneCycle { cycle_momentum: true, .. }) = self.shape() else { return None };
        Some(cycle.momentum((self.tick(step) - self.warmup).max(0.0), self.rest()))
    }

    /// The lowest factor that the schedule can come to, warm-up aside.
    pub fn floor(&self, own: f64) -> f64 {
        match self.shape() {
            Shape::Cosine { min_factor, .. } => *min_factor,
            Shape::Linear { start_factor, end_factor, .. } => start_factor.min(*end_factor),
            Shape::OneCycle(cycle) => cycle.floor(),
            Shape::Plateau(plateau) if own > 0.0 => plateau.min / own,
            _ => 0.0,
        }
    }

    fn tick(&self, step: u64) -> f64 {
        match self.config.by {
            Clock::Step => step as f64,
            Clock::Epoch => (step / self.steps_per_epoch) as f64,
        }
    }

    /// The ticks after the warm-up.
    fn rest(&self) -> f64 {
        (self.total - self.warmup).max(1.0)
    }

    /// The share of `epochs` that has passed.
    fn progress(&self, since_warmup: f64, epochs: Option<f64>) -> f64 {
        let span = epochs.map_or(self.rest(), |epochs| epochs * self.epoch);
        (since_warmup / span).min(1.0)
    }

    /// Where a warm-up leads. Milestones come after it.
    fn beginning(&self, inputs: Inputs<'_>) -> f64 {
        match self.shape() {
            Shape::Step { .. } | Shape::MultiStep { .. } => 1.0,
            _ => self.course(self.warmup, inputs),
        }
    }

    fn course(&self, tick: f64, inputs: Inputs<'_>) -> f64 {
        let since_warmup = tick - self.warmup;
        match self.shape() {
            Shape::Constant {} => 1.0,
            Shape::Cosine { min_factor, epochs } => {
                let progress = self.progress(since_warmup, *epochs);
                min_factor + (1.0 - min_factor) * 0.5 * (1.0 + (PI * progress).cos())
            }
            Shape::Step { step_size: Some(size), gamma, .. } => {
                let size = (size * self.epoch).round().max(1.0);
                gamma.powi((since_warmup / size).floor() as i32)
            }
            Shape::Step { milestones, gamma, .. } | Shape::MultiStep { milestones, gamma } => {
                gamma.powi(self.passed(milestones, tick) as i32)
            }
            Shape::Exponential { gamma } => gamma.powf(since_warmup / self.epoch),
            Shape::Linear { start_factor, end_factor, epochs } => {
                start_factor + (end_factor - start_factor) * self.progress(since_warmup, *epochs)
            }
            Shape::Polynomial { power, epochs } => (1.0 - self.progress(since_warmup, *epochs)).powf(*power),
            Shape::OneCycle(cycle) => cycle.factor(since_warmup, self.rest()),
            Shape::Plateau(_) => inputs.plateau.factor,
            Shape::Lr { min } if inputs.own > 0.0 => (min + (inputs.own - min) * inputs.lr_position) / inputs.own,
            Shape::Lr { .. } => 1.0,
        }
    }

    fn passed(&self, milestones: &[f64], tick: f64) -> usize {
        match milestones {
            [] => [0.5, 0.75].iter().filter(|&&share| tick >= share * self.total).count(),
            epochs => epochs.iter().filter(|&&milestone| tick >= milestone * self.epoch).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(text: &str) -> Vec<f64> {
        let config: ScheduleConfig = serde_json::from_str(text).unwrap();
        config.validate("schedule").unwrap();
        let schedule = Schedule::new(&config, 10, 100);
        let plateau = PlateauState::default();
        (0..=100).map(|step| schedule.factor(step, Inputs { plateau: &plateau, own: 1.0, lr_position: 1.0 })).collect()
    }

    fn assert_near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        let near = |(found, expected): (&f64, &f64)| (found - expected).abs() < 1e-12;
        assert!(found.iter().zip(expected).all(near), "{found:?} {expected:?}");
    }

    #[test]
    fn cosine_starts_at_one_halves_midway_and_ends_at_its_minimum() {
        let cosine = factors(r#"{"type":"cosine","minFactor":0.2}"#);
        let quarter = 0.2 + 0.4 * (1.0 + std::f64::consts::FRAC_1_SQRT_2);
        assert_near(&[cosine[0], cosine[25], cosine[50], cosine[100]], &[1.0, quarter, 0.6, 0.2]);
        assert!((1..100).all(|step| cosine[step] < cosine[step - 1]));
    }

    #[test]
    fn warm_up_is_linear_and_the_schedule_follows_from_one() {
        let cosine = factors(r#"{"type":"cosine","warmupEpochs":2}"#);
        let rise: Vec<f64> = (0..20).map(|step| f64::from(step + 1) / 20.0).collect();
        assert_near(&cosine[..20], &rise);
        assert_near(&[cosine[20], cosine[60]], &[1.0, 0.5]);
        let from_half = factors(r#"{"type":"constant","warmupEpochs":1,"warmupStart":0.5}"#);
        assert_near(&[from_half[0], from_half[5], from_half[10]], &[0.5, 0.75, 1.0]);
        let cycle = factors(r#"{"type":"oneCycle","warmupEpochs":1,"warmupStart":0.5}"#);
        assert_near(&[cycle[0], cycle[10]], &[0.02, 0.04]);
    }

    #[test]
    fn milestones_count_from_the_start_and_step_sizes_from_the_end_of_the_warm_up() {
        for name in ["step", "multiStep"] {
            let at = factors(&format!(r#"{{"type":"{name}","milestones":[2,4.5],"warmupEpochs":1}}"#));
            assert_near(&[at[19], at[20], at[44], at[45], at[99]], &[1.0, 0.1, 0.1, 0.01, 0.01]);
            let default = factors(&format!(r#"{{"type":"{name}"}}"#));
            assert_near(&[default[49], default[50], default[75]], &[1.0, 0.1, 0.01]);
        }
        let every = factors(r#"{"type":"step","stepSize":2,"gamma":0.5,"warmupEpochs":1}"#);
        assert_near(&[every[29], every[30], every[50]], &[1.0, 0.5, 0.25]);
    }

    #[test]
    fn by_epoch_a_schedule_moves_at_the_first_step_of_an_epoch() {
        for name in ["cosine", "exponential", "linear", "polynomial", "oneCycle"] {
            let by_epoch = factors(&format!(r#"{{"type":"{name}","by":"epoch","warmupEpochs":2}}"#));
            for epoch in by_epoch[..100].chunks(10) {
                assert!(epoch.iter().all(|factor| *factor == epoch[0]));
            }
            assert!(by_epoch[50] != by_epoch[49]);
            if name != "oneCycle" {
                let by_step = factors(&format!(r#"{{"type":"{name}","warmupEpochs":2}}"#));
                assert_near(&[by_epoch[20], by_epoch[50], by_epoch[90]], &[by_step[20], by_step[50], by_step[90]]);
            }
        }
    }

    #[test]
    fn epochs_end_a_schedule_before_the_run() {
        for (name, end) in [("cosine", 0.0), ("linear", 0.0), ("polynomial", 0.0)] {
            let short = factors(&format!(r#"{{"type":"{name}","epochs":3,"warmupEpochs":1}}"#));
            assert_near(&[short[10], short[25], short[40], short[100]], &[1.0, 0.5, end, end]);
        }
    }

    #[test]
    fn every_factor_of_a_run_that_is_all_warm_up_is_finite() {
        for name in ["constant", "cosine", "step", "exponential", "linear", "polynomial", "oneCycle", "plateau"] {
            for warmup in [9.9, 10.0, 20.0] {
                let all = factors(&format!(r#"{{"type":"{name}","warmupEpochs":{warmup}}}"#));
                assert!(all.iter().all(|factor| factor.is_finite()), "{name}");
            }
        }
    }
}
