//! The losses a model can be trained with, each with PyTorch's definition, reduced to a mean.

use flatmin_nn::Engine;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Reduction, Tensor};

use crate::class_weights::ClassWeights;
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
    /// Softmax cross-entropy; with label smoothing s the target t becomes (1 - s) t + s / classes (torch's form).
    CrossEntropy {
        #[serde(default)]
        label_smoothing: f64,
        /// One weight a class, as torch's `weight`: the mean over class indices is divided by the sum of their weights,
        /// that over distributions by the batch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class_weights: Option<ClassWeights>,
    },
    /// `-w_c t_c (1 - p_c)^gamma log p_c` summed over classes, p = softmax(logits), mean over the batch (Lin 2017,
    /// equation 5 for one class a sample; w is its alpha).
    Focal {
        #[serde(default = "default_gamma")]
        gamma: f64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class_weights: Option<ClassWeights>,
    },
    /// Binary cross-entropy of each logit, mean over batch and classes.
    Bce,
    /// Squared error of each logit, mean over batch and classes.
    Mse,
    /// KL divergence of softmax(logits) from the target distribution, summed over classes, mean over the batch.
    Kl,
}

fn default_gamma() -> f64 {
    2.0
}

impl Default for Loss {
    fn default() -> Self {
        Self::CrossEntropy { label_smoothing: 0.0, class_weights: None }
    }
}

impl Loss {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a smoothing outside [0, 1), a negative gamma, or weights that are negative or all 0.
    pub fn validate(&self) -> Result<()> {
        let wrong = |option: &str, found: &dyn ToString, expected: &str| {
            Err(Error::Option { option: format!("loss.{option}"), found: found.to_string(), expected: expected.into() })
        };
        match self {
            Self::CrossEntropy { label_smoothing, .. } if !(0.0..1.0).contains(label_smoothing) => {
                wrong("labelSmoothing", label_smoothing, "at least 0 and below 1")
            }
            Self::Focal { gamma, .. } if !(gamma.is_finite() && *gamma >= 0.0) => {
                wrong("gamma", gamma, "a finite number of at least 0")
            }
            _ => match self.class_weights() {
                Some(weights) if !are_weights(weights.values()) => {
                    let expected = "one finite number of at least 0 for each class, not all 0";
                    wrong("classWeights", &format!("{weights:?}"), expected)
                }
                _ => Ok(()),
            },
        }
    }

    /// # Errors
    /// `ERR_FLATMIN_OPTION` if there are class weights and not one for each class.
    pub fn check_classes(&self, classes: i64) -> Result<()> {
        match self.class_weights() {
            Some(weights) if weights.values().len() as i64 != classes => Err(Error::Option {
                option: "loss.classWeights".into(),
                found: format!("a list of {}", weights.values().len()),
                expected: format!("a list of {classes}, one weight for each class of the model"),
            }),
            _ => Ok(()),
        }
    }

    /// Whether classes have weights of their own.
    pub fn has_class_weights(&self) -> bool {
        self.class_weights().is_some()
    }

    /// Makes what the loss needs on a device ahead, for logits of this dtype: it then copies nothing there.
    pub(crate) fn bring(&self, device: Device, kind: Kind) -> Result<()> {
        self.weights(device, kind).map(drop)
    }

    fn class_weights(&self) -> Option<&ClassWeights> {
        match self {
            Self::CrossEntropy { class_weights, .. } | Self::Focal { class_weights, .. } => class_weights.as_ref(),
            Self::Bce | Self::Mse | Self::Kl => None,
        }
    }

    /// The mean loss, a scalar that gradients flow through.
    ///
    /// # Errors
    /// `ERR_FLATMIN_SHAPE` if the target does not fit the logits `[batch, classes]`, `ERR_FLATMIN_OPTION` if the class
    /// weights do not.
    pub fn apply(&self, logits: &Tensor, target: &Target) -> Result<Tensor> {
        self.mean(&self.of_samples(logits, target)?, target)
    }

    /// The mean of what [`Self::of_samples`] gave for this target.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn mean(&self, losses: &Tensor, target: &Target) -> Result<Tensor> {
        match (self, self.weights(losses.device(), losses.kind())?, target) {
            (Self::CrossEntropy { .. }, Some(weights), Target::Classes(labels)) => {
                let of_labels = weights.f_index_select(0, labels)?;
                Ok(losses.f_sum(losses.kind())?.f_div(&of_labels.f_sum(losses.kind())?)?)
            }
            _ => Ok(losses.f_mean(losses.kind())?),
        }
    }

    /// The loss of each sample, `[batch]`.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn of_samples(&self, logits: &Tensor, target: &Target) -> Result<Tensor> {
        target.check_shape(&logits.size())?;
        self.check_classes(logits.size()[1])?;
        let weights = self.weights(logits.device(), logits.kind())?;
        let over_classes = |terms: Tensor| terms.f_sum_dim_intlist(1i64, false, logits.kind());
        Ok(match (self, target) {
            (Self::CrossEntropy { label_smoothing, .. }, Target::Classes(labels)) => {
                logits.f_cross_entropy_loss(labels, weights.as_ref(), Reduction::None, -100, *label_smoothing)?
            }
            (Self::CrossEntropy { label_smoothing, .. }, target) => {
                let target = target.dense(logits)?;
                logits.f_cross_entropy_loss(&target, weights.as_ref(), Reduction::None, -100, *label_smoothing)?
            }
            (Self::Focal { gamma, .. }, target) => {
                let log_probabilities = logits.f_log_softmax(1, logits.kind())?;
                // 1 - p without cancellation; away from 0, where a power below 1 has no derivative.
                let rest = log_probabilities.f_expm1()?.f_neg()?.f_clamp_min(1e-12)?;
                let terms =
                    rest.f_pow_tensor_scalar(*gamma)?.f_mul(&log_probabilities)?.f_mul(&target.dense(logits)?)?;
                let weighted = weights.map(|weights| terms.f_mul(&weights)).transpose()?;
                over_classes(weighted.unwrap_or(terms))?.f_neg()?
            }
            (Self::Bce, target) => {
                let target = target.dense(logits)?;
                let no_weights = None::<&Tensor>;
                let terms =
                    logits.f_binary_cross_entropy_with_logits(&target, no_weights, no_weights, Reduction::None)?;
                terms.f_mean_dim(1i64, false, logits.kind())?
            }
            (Self::Mse, target) => {
                logits.f_mse_loss(&target.dense(logits)?, Reduction::None)?.f_mean_dim(1i64, false, logits.kind())?
            }
            (Self::Kl, target) => {
                let log_probabilities = logits.f_log_softmax(1, logits.kind())?;
                over_classes(log_probabilities.f_kl_div(&target.dense(logits)?, Reduction::None, false)?)?
            }
        })
    }

    fn weights(&self, device: Device, kind: Kind) -> Result<Option<Tensor>> {
        self.class_weights().map(|weights| weights.tensor(device, kind)).transpose()
    }
}

fn are_weights(weights: &[f64]) -> bool {
    weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0) && weights.iter().any(|weight| *weight > 0.0)
}

impl Target {
    /// The same where an engine computes. No copy if it is there already.
    ///
    /// # Errors
    /// What libtorch answers.
    pub fn on(&self, engine: Engine) -> Result<Self> {
        Ok(match self {
            Self::Classes(labels) => Self::Classes(engine.bring(labels)?),
            Self::Dense(values) => Self::Dense(engine.bring(values)?),
        })
    }

    /// Class indices or values.
    pub fn tensor(&self) -> &Tensor {
        match self {
            Self::Classes(tensor) | Self::Dense(tensor) => tensor,
        }
    }

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

    /// The class of each row, `[batch]`: the index itself, or the largest entry (of a mixed label the larger share).
    pub fn classes(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Classes(labels) => labels.shallow_clone(),
            Self::Dense(values) => values.f_argmax(1, false)?,
        })
    }

    /// Class indices are looked at on the CPU only: elsewhere that would wait for the device. Whoever brought them there has
    /// checked them, or made them of a set that has no more classes than the model.
    ///
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
        if labels.device() != Device::Cpu {
            return Ok(());
        }
        let (low, high) = (labels.f_min()?.f_int64_value(&[])?, labels.f_max()?.f_int64_value(&[])?);
        if low < 0 || high >= classes {
            let reason = format!("class indices run from {low} to {high}; expected 0 to {}", classes - 1);
            return Err(Error::Data { what: "labels", reason });
        }
        Ok(())
    }
}
