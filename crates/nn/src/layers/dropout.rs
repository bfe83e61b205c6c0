//! Dropout with masks that are a function of (mask seed, layer): both passes of a sharpness-aware step drop the same
//! values, and a resumed run drops those of the run it resumes.

use flatmin_torch_ext::Generator;
use tch::{Tensor, no_grad};

use super::{Context, Pass};
use crate::error::Result;
use crate::site::Site;
use crate::spec;

#[derive(Debug)]
pub(crate) struct Dropout {
    drop: f64,
    /// Counted among the dropout layers of the model.
    index: u64,
}

impl Dropout {
    pub fn compile(spec: &spec::Dropout, site: &Site, index: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&spec.p) {
            return Err(site.option("p", spec.p, "a share of at least 0 and below 1"));
        }
        Ok(Self { drop: spec.p, index })
    }

    pub fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        let Pass::Train { mask_seed, .. } = context.pass else { return Ok(input) };
        if self.drop == 0.0 {
            return Ok(input);
        }
        let keep = 1.0 - self.drop;
        let mask = no_grad(|| -> Result<Tensor> {
            let mut mask = input.f_detach()?.f_empty_like()?;
            Generator::new(mix(mask_seed, self.index))?.bernoulli_(&mut mask, keep)?;
            Ok(mask.f_div_scalar_(keep)?)
        })?;
        Ok(input.f_mul(&mask)?)
    }
}

/// splitmix64 (Steele 2014) of both numbers: torch's generator reads only the lower half of a seed, so all bits must
/// reach it.
fn mix(seed: u64, index: u64) -> u64 {
    let scramble = |value: u64| {
        let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    scramble(scramble(seed) ^ index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn seeds_and_layers_have_streams_of_their_own() {
        let seeds = [0, 1, 2, 1 << 32, 1 << 63];
        let streams: HashSet<u32> =
            seeds.iter().flat_map(|&seed| (0..20).map(move |index| mix(seed, index) as u32)).collect();
        assert_eq!(streams.len(), 100);
    }
}
