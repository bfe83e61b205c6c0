//! The trace of a symmetric operator from its products with vectors (Hutch++, Meyer 2021, algorithm 1): exact on a space that
//! its images of random vectors span, where most of a Hessian's trace lies, and Hutchinson's estimate on the rest.

use flatmin_nn::ParameterArena;
use flatmin_optim::{Neighbourhood, Noise};
use flatmin_torch_ext::cpu::split_mix;
use serde::Serialize;
use tch::Tensor;

use crate::arena::scale;
use crate::error::Result;
use crate::lanczos::{Operator, orthogonalise, rounding};

/// An unbiased estimate.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    pub value: f64,
    /// Of the estimate on the rest; None from a single vector.
    pub standard_error: Option<f64>,
    /// Products with the Hessian.
    pub probes: usize,
}

/// A third of the `probes` spans the space, a third is spent on its own trace, a third on the rest.
pub(crate) fn trace(
    operator: &Operator<'_>,
    ball: &Neighbourhood,
    parameters: &ParameterArena,
    probes: usize,
    seed: u64,
) -> Result<Trace> {
    let signs = |number: usize| ball.random(parameters, Noise::Signs, split_mix(seed, number as u64));
    let sketch = probes / 3;
    let mut basis: Vec<Tensor> = Vec::with_capacity(sketch);
    for number in 0..sketch {
        let mut image = operator(&signs(number)?)?;
        let whole = ball.norm2(parameters, &image)?;
        orthogonalise(ball, parameters, &basis, &mut image)?;
        let fresh = ball.norm2(parameters, &image)?;
        // Nothing new but rounding: the space holds the operator's range already.
        if fresh > 100.0 * rounding(parameters) * whole {
            scale(&mut image, 1.0 / fresh)?;
            basis.push(image);
        }
    }
    let mut exact = 0.0;
    for vector in &basis {
        exact += ball.inner(parameters, vector, &operator(vector)?)?;
    }
    let rest = (sketch..probes - sketch).map(|number| {
        let mut vector = signs(number)?;
        orthogonalise(ball, parameters, &basis, &mut vector)?;
        Ok(ball.inner(parameters, &vector, &operator(&vector)?)?)
    });
    let rest = rest.collect::<Result<Vec<f64>>>()?;
    let count = rest.len();
    let mean = rest.iter().sum::<f64>() / count as f64;
    let squares: f64 = rest.iter().map(|value| (value - mean).powi(2)).sum();
    let standard_error = (count > 1).then(|| (squares / (count * (count - 1)) as f64).sqrt());
    Ok(Trace { value: exact + mean, standard_error, probes })
}
