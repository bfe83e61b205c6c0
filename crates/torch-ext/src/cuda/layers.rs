//! Fused layers and the loss, both differentiable.

use tch::Tensor;

use super::ffi;
use super::place::Place;
use crate::error::{self, Result};
use crate::ffi::pointer_or_null;
use crate::norm_act::BatchNorm;

impl Place {
    /// `act(batch_norm(x) + residual)` with the statistics of the batch, act being ReLU or nothing; `x` and `residual` are
    /// `[batch, channels, height, width]`, beside bfloat16 all else is float32. Updates the running statistics that `norm` has. Its
    /// backward has no derivative of its own.
    pub fn batch_norm_relu(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        norm: &BatchNorm<'_>,
        relu: bool,
    ) -> Result<Tensor> {
        self.check_device(x)?;
        let mut out = std::ptr::null_mut();
        // SAFETY: all tensors live through the call; on success `out` is a new tensor that the returned value owns.
        unsafe {
            error::check(ffi::flatmin_device_norm_act(
                self.kernels,
                x.as_ptr(),
                pointer_or_null(residual),
                norm.gamma.as_ptr(),
                norm.beta.as_ptr(),
                pointer_or_null(norm.running.map(|running| running.0)),
                pointer_or_null(norm.running.map(|running| running.1)),
                norm.momentum,
                norm.eps,
                relu.into(),
                &mut out,
            ))?;
            Ok(Tensor::from_ptr(out))
        }
    }

    /// Softmax cross-entropy of `logits` `[batch, classes]` and `labels` `[batch]` (int64), mean over the batch, float32 (float64
    /// beside float64), with torch's label smoothing. `correct` (int64, one number) gets the samples whose largest logit is
    /// their label. A label that is no class makes the loss NaN. Its backward has no derivative of its own.
    pub fn cross_entropy(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        smoothing: f64,
        correct: Option<&Tensor>,
    ) -> Result<Tensor> {
        self.check_device(logits)?;
        let correct = pointer_or_null(correct);
        let mut out = std::ptr::null_mut();
        // SAFETY: as above.
        unsafe {
            error::check(ffi::flatmin_device_cross_entropy(
                self.kernels,
                logits.as_ptr(),
                labels.as_ptr(),
                smoothing,
                correct,
                &mut out,
            ))?;
            Ok(Tensor::from_ptr(out))
        }
    }
}
