//! The table that tells what a model is made of: one row for each layer, as `model.summary()` prints it.

use serde::Serialize;

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
