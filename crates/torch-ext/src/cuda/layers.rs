//! Fused layers and the loss: [`Place::batch_norm_relu`] and [`Place::cross_entropy`] are differentiable, the passes alone
//! are here, too.

use tch::{Kind, Tensor};

use super::cut::Scratch;
use super::ffi;
use super::place::{Place, number, wide};
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

/// What a forward pass keeps for its backward pass: `[4, channels]`.
pub struct SavedNorm(Tensor);

/// The gradients of one batch norm.
pub struct NormGradients {
    pub dx: Tensor,
    pub residual: Option<Tensor>,
    pub gamma: Tensor,
    pub beta: Tensor,
}

fn rows_and_channels(x: &Tensor) -> (i64, i64) {
    let channels = x.size()[1];
    (x.numel() as i64 / channels, channels)
}

/// `act(batch_norm(x) + residual)` over a channels-last `x`; see [`Place::batch_norm_relu`]. Nothing is recorded.
pub fn norm_forward(
    place: &Place,
    x: &Tensor,
    residual: Option<&Tensor>,
    norm: &BatchNorm<'_>,
    relu: bool,
) -> Result<(Tensor, SavedNorm)> {
    let (rows, channels) = rows_and_channels(x);
    let (kind, statistics) = (x.kind(), wide(x.kind()));
    let per_channel = |what, tensor: &Tensor| place.address(what, tensor, statistics, channels as usize);
    let running = norm.running.map(|(mean, variance)| -> Result<_> {
        Ok((per_channel("running means", mean)?, per_channel("running variances", variance)?))
    });
    let (running_mean, running_variance) = running.transpose()?.unwrap_or((std::ptr::null_mut(), std::ptr::null_mut()));
    let saved = place.zeros(&[4, channels], statistics)?;
    let y = x.f_empty_like()?;
    let raw = ffi::Norm {
        gamma: per_channel("gamma", norm.gamma)?,
        beta: per_channel("beta", norm.beta)?,
        running_mean,
        running_variance,
        saved: saved.data_ptr(),
        momentum: norm.momentum,
        eps: norm.eps,
        rows,
        channels: channels as i32,
        number: number("activations", kind)?,
        relu: relu.into(),
    };
    let residual = residual.map(|residual| place.address("the residual", residual, kind, x.numel())).transpose()?;
    let scratch = Scratch::new(place, (place.kernels.norm_scratch)(rows, channels))?;
    place.check((place.kernels.norm_forward)(
        place.stream()?,
        &raw,
        place.address("activations", x, kind, x.numel())?,
        residual.unwrap_or(std::ptr::null_mut()),
        y.data_ptr(),
        &scratch.raw(),
    ))?;
    Ok((y, SavedNorm(saved)))
}

/// The gradients of [`norm_forward`]. `y` is its output if a residual was added.
pub fn norm_backward(
    place: &Place,
    x: &Tensor,
    dy: &Tensor,
    y: Option<&Tensor>,
    saved: &SavedNorm,
    relu: bool,
) -> Result<NormGradients> {
    let (rows, channels) = rows_and_channels(x);
    let (kind, statistics) = (x.kind(), wide(x.kind()));
    let y_address = y.map(|y| place.address("the output", y, kind, x.numel())).transpose()?;
    let gradients = NormGradients {
        dx: x.f_empty_like()?,
        residual: y.map(|_| x.f_empty_like()).transpose()?,
        gamma: place.zeros(&[channels], statistics)?,
        beta: place.zeros(&[channels], statistics)?,
    };
    let coefficients = place.zeros(&[3, channels], statistics)?;
    let raw = ffi::NormBackward {
        x: place.address("activations", x, kind, x.numel())?,
        dy: place.address("the output's gradient", dy, kind, x.numel())?,
        y: y_address.unwrap_or(std::ptr::null_mut()),
        saved: saved.0.data_ptr(),
        dx: gradients.dx.data_ptr(),
        residual: gradients.residual.as_ref().map_or(std::ptr::null_mut(), Tensor::data_ptr),
        dgamma: gradients.gamma.data_ptr(),
        dbeta: gradients.beta.data_ptr(),
        coefficients: coefficients.data_ptr(),
        rows,
        channels: channels as i32,
        number: number("activations", kind)?,
        relu: relu.into(),
    };
    let scratch = Scratch::new(place, (place.kernels.norm_scratch)(rows, channels))?;
    place.check((place.kernels.norm_backward)(place.stream()?, &raw, &scratch.raw()))?;
    Ok(gradients)
}

/// A loss with what its backward pass needs.
pub struct CrossEntropy<'a> {
    logits: &'a Tensor,
    labels: &'a Tensor,
    smoothing: f64,
    log_sum: Tensor,
    /// One number.
    pub loss: Tensor,
    /// Samples whose largest logit is their label: one number, int64.
    pub correct: Tensor,
}

impl<'a> CrossEntropy<'a> {
    /// See [`Place::cross_entropy`]. Nothing is recorded.
    pub fn forward(place: &Place, logits: &'a Tensor, labels: &'a Tensor, smoothing: f64) -> Result<Self> {
        let (rows, _) = logits.size2()?;
        let statistics = wide(logits.kind());
        let this = Self {
            logits,
            labels,
            smoothing,
            log_sum: place.zeros(&[rows], statistics)?,
            loss: place.zeros(&[], statistics)?,
            correct: place.zeros(&[1], Kind::Int64)?,
        };
        let scratch = Scratch::new(place, (place.kernels.cross_entropy_scratch)(rows))?;
        place.check((place.kernels.cross_entropy)(place.stream()?, &this.raw(place)?, &scratch.raw()))?;
        Ok(this)
    }

    /// The gradient of the logits for one of the loss (one number of the loss's dtype).
    pub fn backward(&self, place: &Place, dloss: &Tensor) -> Result<Tensor> {
        let dlogits = self.logits.f_empty_like()?;
        let dloss = place.address("the loss's gradient", dloss, self.loss.kind(), 1)?;
        let (stream, raw) = (place.stream()?, self.raw(place)?);
        place.check((place.kernels.cross_entropy_backward)(stream, &raw, dloss, dlogits.data_ptr()))?;
        Ok(dlogits)
    }

    fn raw(&self, place: &Place) -> Result<ffi::CrossEntropy> {
        let (rows, classes) = self.logits.size2()?;
        let kind = self.logits.kind();
        Ok(ffi::CrossEntropy {
            logits: place.address("logits", self.logits, kind, self.logits.numel())?,
            labels: place.address("labels", self.labels, Kind::Int64, rows as usize)?.cast(),
            loss: self.loss.data_ptr(),
            log_sum: self.log_sum.data_ptr(),
            correct: self.correct.data_ptr().cast(),
            smoothing: self.smoothing,
            rows,
            classes: classes as i32,
            number: number("logits", kind)?,
        })
    }
}
