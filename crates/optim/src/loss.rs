//! The losses a model can be trained with, each with PyTorch's definition, reduced to a mean.

use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

use crate::error::{Error, Result};

/// What the logits are held against: class indices `[batch]` (int64) or values for each class `[batch, classes]`.
#[derive(Debug)]
pub enum Target {
    Classes(Tensor),
    Dense(Tensor),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Loss {
    /// Softmax cross-entropy; with label smoothing s the target is (1 - s) one-hot + s / classes (torch's form).
    CrossEntropy {
        #[serde(default)]
        label_smoothing: f64,
    },
    /// Binary cross-entropy of each logit, mean over batch and classes.
    Bce,
    /// Squared error of each logit, mean over batch and classes.
    Mse,
    /// KL divergence of softmax(logits) from the target distribution, summed over classes, mean over the batch.
    Kl,
}

impl Default for Loss {
    fn default() -> Self {
        Self::CrossEntropy { label_smoothing: 0.0 }
    }
}

impl Loss {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a smoothing outside [0, 1).
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::CrossEntropy { label_smoothing } if !(0.0..1.0).contains(label_smoothing) => Err(Error::Option {
                option: "loss.labelSmoothing".into(),
                found: label_smoothing.to_string(),
                expected: "at least 0 and below 1".into(),
            }),
            _ => Ok(()),
        }
    }

    /// The mean loss, a scalar that gradients flow through.
    ///
    /// # Errors
    /// `ERR_FLATMIN_SHAPE` if the target does not fit the logits `[batch, classes]`.
    pub fn apply(&self, logits: &Tensor, target: &Target) -> Result<Tensor> {
        target.check_shape(&logits.size())?;
        Ok(match (self, target) {
            (Self::CrossEntropy { label_smoothing }, Target::Classes(target) | Target::Dense(target)) => {
                logits.f_cross_entropy_loss(target, None::<&Tensor>, Reduction::Mean, -100, *label_smoothing)?
            }
            (Self::Bce, target) => {
                let target = target.dense(logits)?;
                logits.f_binary_cross_entropy_with_logits(&target, None::<&Tensor>, None::<&Tensor>, Reduction::Mean)?
            }
            (Self::Mse, target) => logits.f_mse_loss(&target.dense(logits)?, Reduction::Mean)?,
            (Self::Kl, target) => {
                let batch = logits.size()[0] as f64;
                let log_probabilities = logits.f_log_softmax(1, logits.kind())?;
                log_probabilities.f_kl_div(&target.dense(logits)?, Reduction::Sum, false)?.f_div_scalar(batch)?
            }
        })
    }
}

impl Loss {
    /// The loss of each sample, `[batch]`; their mean is [`Self::apply`].
    pub fn of_samples(&self, logits: &Tensor, target: &Target) -> Result<Tensor> {
        target.check_shape(&logits.size())?;
        Ok(match (self, target) {
            (Self::CrossEntropy { label_smoothing }, Target::Classes(target) | Target::Dense(target)) => {
                logits.f_cross_entropy_loss(target, None::<&Tensor>, Reduction::None, -100, *label_smoothing)?
            }
            (Self::Bce, target) => logits
                .f_binary_cross_entropy_with_logits(
                    &target.dense(logits)?,
                    None::<&Tensor>,
                    None::<&Tensor>,
                    Reduction::None,
                )?
                .f_mean_dim(1i64, false, logits.kind())?,
            (Self::Mse, target) => {
                logits.f_mse_loss(&target.dense(logits)?, Reduction::None)?.f_mean_dim(1i64, false, logits.kind())?
            }
            (Self::Kl, target) => {
                let log_probabilities = logits.f_log_softmax(1, logits.kind())?;
                let losses = log_probabilities.f_kl_div(&target.dense(logits)?, Reduction::None, false)?;
                losses.f_sum_dim_intlist(1i64, false, logits.kind())?
            }
        })
    }
}

impl Target {
    /// The entries `start..start + len` of the batch.
    pub fn narrow(&self, start: i64, len: i64) -> Result<Self> {
        Ok(match self {
            Self::Classes(labels) => Self::Classes(labels.f_narrow(0, start, len)?),
            Self::Dense(values) => Self::Dense(values.f_narrow(0, start, len)?),
        })
    }

    /// The entries at these indices of the batch, int64.
    pub fn select(&self, indices: &Tensor) -> Result<Self> {
        Ok(match self {
            Self::Classes(labels) => Self::Classes(labels.f_index_select(0, indices)?),
            Self::Dense(values) => Self::Dense(values.f_index_select(0, indices)?),
        })
    }

    /// # Errors
    /// `ERR_FLATMIN_SHAPE` unless it fits logits of this shape, `[batch, classes]`.
    pub fn check_shape(&self, logits: &[i64]) -> Result<()> {
        let (found, expected) = match self {
            Self::Classes(labels) => (labels.size(), &logits[..1]),
            Self::Dense(values) => (values.size(), logits),
        };
        if found == expected {
            return Ok(());
        }
        Err(Error::Shape { what: "labels", found, expected: format!("{expected:?}, one entry for each row of logits") })
    }

    /// One-hot rows for class indices.
    fn dense(&self, logits: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Dense(values) => values.f_to_kind(logits.kind())?,
            Self::Classes(labels) => labels.f_one_hot(logits.size()[1])?.f_to_kind(logits.kind())?,
        })
    }

    /// The class of each row, `[batch]`: the index itself, or the largest entry.
    pub fn classes(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Classes(labels) => labels.shallow_clone(),
            Self::Dense(values) => values.f_argmax(1, false)?,
        })
    }

    /// # Errors
    /// `ERR_FLATMIN_DATA` if a class index is below 0 or not below `classes`.
    pub fn check_range(&self, classes: i64) -> Result<()> {
        let Self::Classes(labels) = self else { return Ok(()) };
        if labels.kind() != Kind::Int64 {
            let reason = format!("class indices have dtype {:?}; expected int64", labels.kind());
            return Err(Error::Data { what: "labels", reason });
        }
        if labels.numel() == 0 {
            return Err(Error::Data {
                what: "labels",
                reason: "the batch is empty; expected at least one sample".into(),
            });
        }
        let (low, high) = (labels.f_min()?.f_int64_value(&[])?, labels.f_max()?.f_int64_value(&[])?);
        if low < 0 || high >= classes {
            let reason = format!("class indices run from {low} to {high}; expected 0 to {}", classes - 1);
            return Err(Error::Data { what: "labels", reason });
        }
        Ok(())
    }
}
