//! How parameters start: PyTorch's default initialisations, drawn from a generator of the model's own. The draws are
//! made in float32 whatever the model's dtype, so that a seed means the same weights in float32 and float64.

use flatmin_torch_ext::Generator;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::spec::{GammaInit, Init};

/// The initialisation of one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ParamInit {
    /// Of a weight `[out, in, ...]`.
    Weight(Init),
    /// U(-b, b), b = 1 / sqrt(fan in).
    Bias {
        fan_in: i64,
    },
    /// N(0, deviation^2).
    Normal {
        deviation: f64,
    },
    Constant(f64),
}

impl ParamInit {
    /// The bias beside a weight that starts so.
    pub(crate) fn bias(init: Init, fan_in: i64) -> Self {
        match init {
            Init::KaimingUniform | Init::KaimingNormal => Self::Bias { fan_in },
            Init::KaimingNormalFanOut | Init::Normal | Init::UniformFanOut => Self::Constant(0.0),
        }
    }

    /// The gamma of a normalisation.
    pub(crate) fn gamma(init: GammaInit) -> Self {
        match init {
            GammaInit::Ones => Self::Constant(1.0),
            GammaInit::Zeros => Self::Constant(0.0),
        }
    }

    /// Initial values of the given shape, float32, contiguous: what `torch.nn.init` draws at this point of the stream.
    pub(crate) fn draw(self, shape: &[i64], generator: &Generator) -> Result<Tensor> {
        let mut values = Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?;
        match self {
            Self::Weight(init) => draw_weight(init, &mut values, generator)?,
            Self::Bias { fan_in } => {
                let bound = 1.0 / (fan_in as f64).sqrt();
                generator.uniform_(&mut values, -bound, bound)?;
            }
            Self::Normal { deviation } => generator.normal_(&mut values, 0.0, deviation)?,
            Self::Constant(value) => {
                let _ = values.f_fill_(value)?;
            }
        }
        Ok(values)
    }
}

/// `_calculate_fan_in_and_fan_out` of PyTorch knows no groups, and neither do these.
fn draw_weight(init: Init, weight: &mut Tensor, generator: &Generator) -> Result<()> {
    let shape = weight.size();
    let fan_in = shape[1..].iter().product::<i64>() as f64;
    let fan_out = (shape[0] * shape[2..].iter().product::<i64>()) as f64;
    match init {
        Init::KaimingUniform => {
            let gain = (2.0 / (1.0 + 5f64.sqrt().powi(2))).sqrt();
            let bound = 3f64.sqrt() * (gain / fan_in.sqrt());
            generator.uniform_(weight, -bound, bound)?;
        }
        Init::KaimingNormal => generator.normal_(weight, 0.0, 2f64.sqrt() / fan_in.sqrt())?,
        Init::KaimingNormalFanOut => generator.normal_(weight, 0.0, 2f64.sqrt() / fan_out.sqrt())?,
        Init::Normal => generator.normal_(weight, 0.0, 0.02)?,
        Init::UniformFanOut => generator.uniform_(weight, -1.0 / fan_out.sqrt(), 1.0 / fan_out.sqrt())?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(init: ParamInit, seed: u64) -> Tensor {
        init.draw(&[64, 16, 3, 3], &Generator::new(seed).unwrap()).unwrap()
    }

    #[test]
    fn kaiming_uniform_fills_its_range_evenly() {
        let bound = 1.0 / 144f64.sqrt();
        for init in [ParamInit::Weight(Init::KaimingUniform), ParamInit::Bias { fan_in: 144 }] {
            let values = draw(init, 1);
            let largest = f64::try_from(values.abs().max()).unwrap();
            assert!(largest <= bound + 1e-7 && largest > 0.99 * bound, "{largest} of {bound}");
            let deviation = f64::try_from(values.std(true)).unwrap();
            assert!((deviation / (bound / 3f64.sqrt()) - 1.0).abs() < 0.02, "{deviation}");
        }
    }

    #[test]
    fn kaiming_normal_has_variance_two_over_fan() {
        for (init, fan) in [(Init::KaimingNormal, 144f64), (Init::KaimingNormalFanOut, 576.0)] {
            let values = draw(ParamInit::Weight(init), 1);
            let deviation = f64::try_from(values.std(true)).unwrap();
            assert!((deviation / (2.0 / fan).sqrt() - 1.0).abs() < 0.03, "{deviation}");
            assert!(f64::try_from(values.abs().max()).unwrap() > 3.0 * deviation);
        }
    }

    #[test]
    fn those_of_transformers_and_efficientnets_have_their_scale() {
        let largest = |values: &Tensor| f64::try_from(values.abs().max()).unwrap();
        let normal = draw(ParamInit::Weight(Init::Normal), 1);
        assert!((f64::try_from(normal.std(true)).unwrap() / 0.02 - 1.0).abs() < 0.03 && largest(&normal) > 0.06);
        let uniform = draw(ParamInit::Weight(Init::UniformFanOut), 1);
        let bound = 1.0 / 576f64.sqrt();
        assert!(largest(&uniform) <= bound && largest(&uniform) > 0.99 * bound);
        assert_eq!(ParamInit::bias(Init::Normal, 144), ParamInit::Constant(0.0));
    }

    #[test]
    fn a_seed_names_its_weights() {
        let init = ParamInit::Weight(Init::KaimingNormal);
        assert_eq!(draw(init, 5), draw(init, 5));
        assert_ne!(draw(init, 5), draw(init, 6));
        assert_eq!(f64::try_from(draw(ParamInit::Constant(1.0), 0).min()).unwrap(), 1.0);
    }
}
