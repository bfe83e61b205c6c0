//! The table that tells what a model is made of: one row for each layer, as `model.summary()` prints it.

use serde::Serialize;

use crate::compile::compile;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::spec::ModelSpec;

/// Layers in the order in which they run, and totals.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub layers: Vec<LayerSummary>,
    /// Trainable numbers.
    pub parameters: i64,
    /// Numbers that are kept but not trained: running means and variances.
    pub buffers: i64,
    /// Multiply-adds of one image's forward pass: those of convolutions, linear maps and attention.
    pub macs: i64,
    /// Bytes of one number of an activation.
    pub activation_size: i64,
}

impl Summary {
    /// What the model of a spec is made of, told without making it.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` or `ERR_FLATMIN_SHAPE`, naming the layer that does not fit.
    pub fn of(spec: &ModelSpec, dtype: Dtype) -> Result<Self> {
        let (plan, _) = compile(spec)?;
        let buffers = plan.norms.iter().map(|(_, channels)| 2 * channels).sum();
        Ok(Self::new(plan.rows, buffers, dtype))
    }

    pub(crate) fn new(layers: Vec<LayerSummary>, buffers: i64, dtype: Dtype) -> Self {
        Self {
            parameters: layers.iter().map(|row| row.parameters).sum(),
            buffers,
            macs: layers.iter().map(|row| row.macs).sum(),
            activation_size: dtype.compute_kind().elt_size_in_bytes() as i64,
            layers,
        }
    }
}

/// One layer. A residual's row stands after those of its layers and tells the shape of the sum.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerSummary {
    /// Dotted, as in the state dict.
    pub name: String,
    pub kind: &'static str,
    /// Of one image, without the batch.
    pub output_shape: Vec<i64>,
    /// Trainable numbers of this layer itself.
    pub parameters: i64,
    /// Multiply-adds of one image's forward pass.
    pub macs: i64,
    /// Numbers that one image's forward pass leaves in memory for the backward pass: outputs, and what layers keep besides.
    pub kept: i64,
}
