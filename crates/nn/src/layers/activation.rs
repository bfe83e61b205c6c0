//! Functions of each value alone, other than the ReLU that batch norm can take along.

use tch::Tensor;

use crate::error::Result;
use crate::site::Site;
use crate::spec::{self, Approximation};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    Silu,
    Gelu(Approximation),
    Hardswish,
    Sigmoid,
    Tanh,
    LeakyRelu { negative_slope: f64 },
}

impl Activation {
    pub fn leaky_relu(spec: &spec::LeakyRelu, site: &Site) -> Result<Self> {
        let negative_slope = spec.negative_slope;
        if !negative_slope.is_finite() {
            return Err(site.option("negativeSlope", negative_slope, "a finite number"));
        }
        Ok(Self::LeakyRelu { negative_slope })
    }

    /// Whether the backward pass needs the output, so that nobody may overwrite it.
    pub fn keeps_output(self) -> bool {
        matches!(self, Self::Sigmoid | Self::Tanh)
    }

    pub fn forward(self, input: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Silu => input.f_silu()?,
            Self::Gelu(approximation) => input.f_gelu(approximation.name())?,
            Self::Hardswish => input.f_hardswish()?,
            Self::Sigmoid => input.f_sigmoid()?,
            Self::Tanh => input.f_tanh()?,
            // tch's leaky_relu has one slope; a PReLU of a constant has any.
            Self::LeakyRelu { negative_slope } => {
                input.f_prelu(&Tensor::f_full([1], negative_slope, (input.kind(), input.device()))?)?
            }
        })
    }
}
