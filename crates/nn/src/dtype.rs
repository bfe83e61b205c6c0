//! The number formats a model can have. Float32 trains, bfloat16 trains faster, float16 does where there is no bfloat16,
//! float64 is for tests and measures.

use serde::{Deserialize, Serialize};
use tch::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    #[default]
    Float32,
    Float64,
    /// The network computes with bfloat16 weights and activations. Master weights, biases, batch norm's parameters and
    /// statistics are float32, and so is what the first and the last layer compute: images and logits keep their digits.
    BFloat16,
    /// As bfloat16, with more digits and a smaller range: gradients need a scaled loss.
    Float16,
}

impl Dtype {
    /// Of master weights, statistics, images and logits.
    pub fn kind(self) -> Kind {
        match self {
            Self::Float32 | Self::BFloat16 | Self::Float16 => Kind::Float,
            Self::Float64 => Kind::Double,
        }
    }

    /// Of the weights and activations the network computes with.
    pub fn compute_kind(self) -> Kind {
        match self {
            Self::BFloat16 => Kind::BFloat16,
            Self::Float16 => Kind::Half,
            Self::Float32 | Self::Float64 => self.kind(),
        }
    }

    /// Whether matrices, filters and activations have 16 bits.
    pub fn is_half(self) -> bool {
        matches!(self, Self::BFloat16 | Self::Float16)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::BFloat16 => "bfloat16",
            Self::Float16 => "float16",
        }
    }
}

/// Whether a tensor has one of the formats of 16 bits.
pub(crate) fn is_half(kind: Kind) -> bool {
    matches!(kind, Kind::BFloat16 | Kind::Half)
}
