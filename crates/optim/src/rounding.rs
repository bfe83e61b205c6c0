//! How faithful the perturbation of bfloat16 weights is, and the factor that makes it so.
//!
//! The network sees d = round(w + eps) - round(w). Where weights lie anywhere between two bfloat16 numbers, rounding to
//! nearest keeps eps on average: few weights move, each by a whole step. Where weights lie on the grid (a bfloat16 file just
//! loaded, or a further ascent from perturbed weights), every eps below half a step is lost, and a small ball shrinks to
//! half its radius. A factor c on eps brings it back: with <d(c), eps> = <eps, eps> the loss rises by rho norm(g) to first
//! order, as it should. <d(c), eps> grows with c, so c is found by bracketing.

use flatmin_torch_ext::cpu::Products;
use serde::Serialize;

/// eps is what was asked for, d what the network sees, over the weights that it reads in bfloat16.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rounding {
    /// norm2(d) / norm2(eps): above 1, for rounding adds noise.
    pub ratio: f64,
    /// Cosine of the angle between d and eps; ratio * cosine = <d, eps> / norm2(eps)^2, which is 1 within 1 %.
    pub cosine: f64,
    /// What eps was multiplied by; 1 where no correction was needed.
    pub factor: f64,
}

/// How far from 1 the projection may be without a correction.
const TOLERANCE: f64 = 0.01;
/// An eps so small that it needs more is left short.
const LARGEST_FACTOR: f64 = 16.0;
/// Passes over the weights at most.
pub(crate) const PASSES: u32 = 8;

impl Rounding {
    /// Finds the factor; `measure` answers <d, d>, <d, eps> and <eps, eps> for one. None if there is no eps.
    pub(crate) fn corrected<E>(mut measure: impl FnMut(f64) -> Result<Products, E>) -> Result<Option<Self>, E> {
        let mut best: Option<(f64, Self)> = None;
        // Factors whose projections are below and above 1.
        let (mut low, mut high): ((f64, f64), Option<(f64, f64)>) = ((0.0, 0.0), None);
        let mut factor = 1.0;
        for _ in 0..PASSES {
            let products = measure(factor)?;
            if !(products.bb > 0.0 && products.bb.is_finite()) {
                return Ok(None);
            }
            let projection = products.ab / products.bb;
            let error = (projection - 1.0).abs();
            if best.is_none_or(|(least, _)| error < least) {
                let norms = (products.aa * products.bb).sqrt();
                let cosine = if norms > 0.0 { products.ab / norms } else { 0.0 };
                best = Some((error, Self { ratio: (products.aa / products.bb).sqrt(), cosine, factor }));
            }
            if error <= TOLERANCE || factor >= LARGEST_FACTOR && projection < 1.0 {
                break;
            }
            match projection < 1.0 {
                true => low = (factor, projection),
                false => high = Some((factor, projection)),
            }
            factor = match high {
                None => (factor * (1.0 / projection.max(0.5))).min(LARGEST_FACTOR),
                // The chord, kept from its ends: the projection moves in steps.
                Some(high) => {
                    let share = ((1.0 - low.1) / (high.1 - low.1)).clamp(0.1, 0.9);
                    low.0 + share * (high.0 - low.0)
                }
            };
        }
        Ok(best.map(|(_, rounding)| rounding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// eps = sizes, weights on a grid of step 1.
    fn on_grid(sizes: &[f64]) -> impl FnMut(f64) -> Result<Products, Infallible> + '_ {
        |factor| {
            let d = |eps: &f64| (factor * eps).round();
            Ok(Products {
                aa: sizes.iter().map(|eps| d(eps).powi(2)).sum(),
                ab: sizes.iter().map(|eps| d(eps) * eps).sum(),
                bb: sizes.iter().map(|eps| eps * eps).sum(),
            })
        }
    }

    #[test]
    fn what_rounding_loses_is_made_up_for() {
        let sizes: Vec<f64> = (0..10_000).map(|index| 0.6 * f64::from(index) / 10_000.0).collect();
        let Ok(plain) = on_grid(&sizes)(1.0);
        assert!(plain.ab / plain.bb < 0.9);
        let rounding = Rounding::corrected(on_grid(&sizes)).unwrap().unwrap();
        assert!(rounding.factor > 1.0);
        assert!((rounding.ratio * rounding.cosine - 1.0).abs() <= TOLERANCE, "{rounding:?}");
    }

    #[test]
    fn a_faithful_displacement_is_left_alone() {
        let mut passes = 0;
        let rounding = Rounding::corrected(|_| {
            passes += 1;
            Ok::<_, Infallible>(Products { aa: 1.2, ab: 1.005, bb: 1.0 })
        });
        assert_eq!((passes, rounding.unwrap().unwrap().factor), (1, 1.0));
    }

    #[test]
    fn a_displacement_far_below_the_grid_is_left_short() {
        let rounding = Rounding::corrected(on_grid(&[1e-6; 100])).unwrap().unwrap();
        assert_eq!((rounding.ratio, rounding.cosine), (0.0, 0.0));
        assert!(Rounding::corrected(on_grid(&[0.0; 4])).unwrap().is_none());
    }
}
