//! The loss over a plane through w, as a grid.

use flatmin_nn::Model;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::arena::{add, scale};
use crate::error::{Error, Result};
use crate::excursion::Excursion;
use crate::objective::Objective;

/// Loss and accuracy at w + x a + y b. Values that are not finite are null in JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Surface {
    pub x: Vec<f64>,
    pub y: Vec<f64>,
    /// `[y][x]`.
    pub loss: Vec<Vec<f64>>,
    /// `[y][x]`.
    pub accuracy: Vec<Vec<f64>>,
    pub count: usize,
}

/// Points of an axis, its ends included.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Axis {
    pub from: f64,
    pub to: f64,
    pub points: usize,
}

impl Axis {
    pub(crate) fn validate(&self, option: &str) -> Result<()> {
        if self.points < 2 {
            return Err(Error::option(format!("{option}.points"), self.points, "at least 2"));
        }
        if !(self.from.is_finite() && self.to.is_finite() && self.from < self.to) {
            let found = format!("[{}, {}]", self.from, self.to);
            return Err(Error::option(format!("{option}.range"), found, "two finite numbers, the lower one first"));
        }
        Ok(())
    }

    pub(crate) fn values(&self) -> Vec<f64> {
        let step = (self.to - self.from) / (self.points - 1) as f64;
        let at = |point: usize| if point + 1 == self.points { self.to } else { self.from + step * point as f64 };
        (0..self.points).map(at).collect()
    }
}

/// Walks the plane that the arenas `a` and `b` span.
pub(crate) fn surface_over(
    excursion: &Excursion<'_>,
    objective: &Objective<'_>,
    [a, b]: [&Tensor; 2],
    [x, y]: [Axis; 2],
) -> Result<Surface> {
    let model: &Model = excursion.model();
    let (x, y) = (x.values(), y.values());
    let mut surface = Surface { loss: Vec::new(), accuracy: Vec::new(), count: objective.count(), x, y };
    for &along_b in &surface.y {
        let (mut losses, mut accuracies) = (Vec::new(), Vec::new());
        for &along_a in &surface.x {
            let mut displacement = model.parameters().like()?;
            add(&mut displacement, along_a, a)?;
            add(&mut displacement, along_b, b)?;
            excursion.go_to(&displacement)?;
            let outcome = objective.value(model)?;
            losses.push(outcome.loss);
            accuracies.push(outcome.accuracy);
        }
        surface.loss.push(losses);
        surface.accuracy.push(accuracies);
    }
    Ok(surface)
}

/// Gives a direction the length of the weights it is added to, filter by filter (rows of matrices likewise): d_f norm(w_f) /
/// norm(d_f), and 0 on biases and the parameters of norms (Li 2018, section 4).
pub(crate) fn filter_normalised(model: &Model, direction: &Tensor) -> Result<Tensor> {
    let parameters = model.parameters();
    let normalised = parameters.like()?;
    for (position, segment) in parameters.segments().iter().enumerate() {
        if segment.shape.len() < 2 {
            continue;
        }
        let rows = |arena: &Tensor| -> Result<Tensor> {
            Ok(parameters.view(arena, position)?.f_reshape([segment.shape[0], -1])?)
        };
        let norms = |rows: &Tensor| rows.f_norm_scalaropt_dim(2.0, [1i64], true);
        let (weights, own) = (rows(parameters.master())?, rows(direction)?);
        let factor = norms(&weights)?.f_div(&norms(&own)?)?.f_nan_to_num(0.0, 0.0, 0.0)?;
        parameters.write_to(&normalised, position, &own.f_mul(&factor)?.f_view(&segment.shape[..])?)?;
    }
    Ok(normalised)
}

/// Scales a direction to norm2 1.
pub(crate) fn unit(direction: &mut Tensor) -> Result<()> {
    let norm = direction.f_norm()?.f_double_value(&[])?;
    scale(direction, if norm > 0.0 { 1.0 / norm } else { 0.0 })
}
