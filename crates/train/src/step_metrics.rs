//! Norms of the weights around one step: two linear passes and a copy, for steps that are told and runs that ask.

use flatmin_nn::Model;
use tch::{Kind, Tensor, no_grad};

use crate::config::StepMetric;
use crate::error::Result;

/// Begun before a step, finished after it.
pub struct StepNorms {
    before: Option<Tensor>,
    wants_weight_norm: bool,
}

/// norm2 over all parameters; None where not asked for.
#[derive(Default)]
pub struct Norms {
    pub update: Option<f64>,
    pub weight: Option<f64>,
}

impl StepNorms {
    pub fn begin(metrics: &[StepMetric], model: &Model) -> Result<Self> {
        let wants = |metric| metrics.contains(&metric);
        let master = model.parameters().master();
        let before = wants(StepMetric::UpdateNorm).then(|| {
            let mut copy = master.f_empty_like()?;
            copy.f_copy_(master).map(|()| copy)
        });
        Ok(Self { before: before.transpose()?, wants_weight_norm: wants(StepMetric::WeightNorm) })
    }

    pub fn finish(self, model: &Model) -> Result<Norms> {
        let master = model.parameters().master();
        let update = self.before.map(|before| norm(&no_grad(|| master.f_sub(&before))?));
        let weight = self.wants_weight_norm.then(|| norm(master));
        Ok(Norms { update: update.transpose()?, weight: weight.transpose()? })
    }
}

/// Added up in float64. Gaps between parameters are 0.
fn norm(arena: &Tensor) -> Result<f64> {
    Ok(arena.f_norm_scalaropt_dtype(2, Kind::Double)?.f_double_value(&[])?)
}
