//! The all-layer margin of a classifier (Wei and Ma 2020): with h_i = f_i(h_(i-1)) + delta_i norm2(h_(i-1)), the smallest
//! norm2(delta) over all layers jointly that makes the prediction wrong, for each image.
//!
//! Written from the definition; the paper's own way to its minimum was not compared with. The minimum is looked for by the
//! iteration of reliability analysis (Hasofer and Lind 1974, Rackwitz and Fiessler 1978): the nearest point of the linearised
//! boundary, again and again. So what is found is an upper bound of the margin, tight where the iteration converges.

use flatmin_data::Dataset;
use flatmin_nn::Model;
use flatmin_train::{EvaluateOptions, EvaluationBatch, EvaluationBatches};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use crate::error::{Error, Result};
use crate::excursion::Excursion;
use crate::monitor::Monitor;

/// Halvings between 0 and a point beyond the boundary.
const BISECTIONS: usize = 12;

/// Steps aim a little beyond the boundary.
const OVERSHOOT: f64 = 1.02;

/// How margins are looked for. In JSON all names are camelCase.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MarginOptions {
    /// Default 20.
    pub steps: usize,
    pub data: EvaluateOptions,
}

impl Default for MarginOptions {
    fn default() -> Self {
        Self { steps: 20, data: EvaluateOptions::default() }
    }
}

/// Margins of all images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Margins {
    pub count: usize,
    /// Layers that are perturbed.
    pub layers: usize,
    /// In the order of the images: 0 for one that is misclassified as it is, None where no perturbation was found.
    pub margins: Vec<Option<f64>>,
    /// Over the margins that were found.
    pub mean: f64,
    pub median: f64,
    /// Images misclassified as they are.
    pub misclassified: usize,
    /// Images without a margin.
    pub not_found: usize,
}

/// The margins of `model` on `dataset`, with running statistics and without dropout.
///
/// # Errors
/// As [`crate::sharpness()`].
pub fn all_layer_margins(
    model: &mut Model,
    dataset: &Dataset,
    options: &MarginOptions,
    monitor: &Monitor<'_>,
) -> Result<Margins> {
    if options.steps == 0 {
        return Err(Error::option("steps", 0, "at least 1"));
    }
    let set = EvaluationBatches::new(model, dataset, &options.data)?;
    let passes = 1 + options.steps + BISECTIONS;
    monitor.plan(set.images().div_ceil(options.data.batch_size) * passes);
    let excursion = Excursion::new(model)?;
    let mut margins = Vec::with_capacity(set.images());
    for batch in set.iter() {
        let search = Search { model: excursion.model(), batch: &batch?, monitor };
        margins.extend(search.margins(options.steps)?);
    }
    let mut found: Vec<f64> = margins.iter().flatten().copied().collect();
    found.sort_by(f64::total_cmp);
    let median = |sorted: &[f64]| match sorted.len() {
        0 => f64::NAN,
        len => f64::midpoint(sorted[(len - 1) / 2], sorted[len / 2]),
    };
    Ok(Margins {
        count: margins.len(),
        layers: excursion.model().layer_count(),
        mean: found.iter().sum::<f64>() / found.len() as f64,
        median: median(&found),
        misclassified: found.iter().filter(|margin| **margin == 0.0).count(),
        not_found: margins.len() - found.len(),
        margins,
    })
}

struct Search<'a> {
    model: &'a Model,
    batch: &'a EvaluationBatch,
    monitor: &'a Monitor<'a>,
}

impl Search<'_> {
    fn margins(&self, steps: usize) -> Result<Vec<Option<f64>>> {
        let mut deltas = no_grad(|| self.zeros())?;
        let start = no_grad(|| self.distance(&deltas))?;
        // The nearest point beyond the boundary so far.
        let mut best: Vec<Tensor> =
            no_grad(|| deltas.iter().map(|delta| delta.f_alias_copy()).collect::<Result<_, _>>())?;
        let mut norm = start.f_full_like(f64::INFINITY)?;
        for step in 0..=steps {
            self.monitor.batch_done()?;
            for delta in &mut deltas {
                *delta = delta.f_detach()?.f_set_requires_grad(true)?;
            }
            let distance = self.distance(&deltas)?;
            no_grad(|| -> Result<()> {
                let found = squares(&deltas)?.f_sqrt()?;
                let better = distance.f_lt(0.0)?.f_logical_and(&found.f_lt_tensor(&norm)?)?;
                norm = found.f_where_self(&better, &norm)?;
                for (best, delta) in best.iter_mut().zip(&deltas) {
                    *best = delta.f_where_self(&of_images(&better, delta)?, best)?;
                }
                Ok(())
            })?;
            if step == steps {
                break;
            }
            let gradients = Tensor::f_run_backward(&[distance.f_sum(distance.kind())?], &deltas, false, false)?;
            no_grad(|| -> Result<()> {
                let along = inner(&gradients, &deltas)?;
                let square = squares(&gradients)?.f_clamp_min(f64::MIN_POSITIVE.sqrt())?;
                let factor = along.f_sub(&distance)?.f_div(&square)?.f_mul_scalar(OVERSHOOT)?;
                for (delta, gradient) in deltas.iter_mut().zip(&gradients) {
                    *delta = gradient.f_mul(&of_images(&factor, gradient)?)?.f_nan_to_num(0.0, 0.0, 0.0)?;
                }
                Ok(())
            })?;
        }
        let norm = no_grad(|| self.bisect(&best, &norm))?;
        let wrong = Vec::<f64>::try_from(&start)?.into_iter().map(|distance| distance < 0.0);
        let norms = Vec::<f64>::try_from(&norm)?.into_iter();
        Ok(wrong
            .zip(norms)
            .map(|(wrong, norm)| if wrong { Some(0.0) } else { Some(norm).filter(|n| n.is_finite()) })
            .collect())
    }

    /// The nearest point beyond the boundary between 0 and `deltas`.
    fn bisect(&self, deltas: &[Tensor], norm: &Tensor) -> Result<Tensor> {
        let (mut low, mut high) = (norm.f_zeros_like()?, norm.f_ones_like()?);
        for _ in 0..BISECTIONS {
            self.monitor.batch_done()?;
            let middle = low.f_add(&high)?.f_mul_scalar(0.5)?;
            let shrunk = deltas.iter().map(|delta| Ok(delta.f_mul(&of_images(&middle, delta)?)?));
            let beyond = self.distance(&shrunk.collect::<Result<Vec<_>>>()?)?.f_lt(0.0)?;
            high = middle.f_where_self(&beyond, &high)?;
            low = low.f_where_self(&beyond, &middle)?;
        }
        Ok(norm.f_mul(&high)?)
    }

    /// One perturbation a layer, all 0.
    fn zeros(&self) -> Result<Vec<Tensor>> {
        let mut value = self.batch.images.shallow_clone();
        let mut zeros = Vec::with_capacity(self.model.layer_count());
        for layer in 0..self.model.layer_count() {
            value = self.model.forward_layer(layer, &value)?;
            zeros.push(value.f_zeros_like()?);
        }
        Ok(zeros)
    }

    /// By how much the logit of the right class exceeds the largest other one, `[batch]`, float64.
    fn distance(&self, deltas: &[Tensor]) -> Result<Tensor> {
        let mut value = self.batch.images.shallow_clone();
        for (layer, delta) in deltas.iter().enumerate() {
            // Away from 0, where the norm has no derivative.
            let norm = value.f_square()?.f_flatten(1, -1)?.f_sum_dim_intlist(1i64, false, value.kind())?;
            let norm = norm.f_clamp_min(1e-30)?.f_sqrt()?;
            let shift = delta.f_mul(&of_images(&norm, delta)?)?;
            value = self.model.forward_layer(layer, &value)?.f_add(&shift)?;
        }
        let logits = value.f_to_kind(Kind::Double)?;
        let labels = self.batch.target.classes()?.f_unsqueeze(1)?;
        let right = logits.f_gather(1, &labels, false)?.f_squeeze_dim(1)?;
        let others = logits.f_scatter_value(1, &labels, f64::NEG_INFINITY)?;
        Ok(right.f_sub(&others.f_amax(1i64, false)?)?)
    }
}

/// `[batch]` as `[batch, 1, ...]`, in the dtype of `like`.
fn of_images(values: &Tensor, like: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; like.dim()];
    shape[0] = -1;
    let kind = if values.kind() == Kind::Bool { Kind::Bool } else { like.kind() };
    Ok(values.f_to_kind(kind)?.f_view(&shape[..])?)
}

/// <a, b> of each image over all layers, `[batch]`, float64.
fn inner(a: &[Tensor], b: &[Tensor]) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (a, b) in a.iter().zip(b) {
        let part = a.f_mul(b)?.f_flatten(1, -1)?.f_sum_dim_intlist(1i64, false, Kind::Double)?;
        sum = Some(match sum {
            Some(sum) => sum.f_add(&part)?,
            None => part,
        });
    }
    sum.ok_or_else(|| Error::option("the model", "without layers", "at least one"))
}

fn squares(tensors: &[Tensor]) -> Result<Tensor> {
    inner(tensors, tensors)
}
