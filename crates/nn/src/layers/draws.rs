//! What layers draw at random: a function of (mask seed, layer), so that both passes of a sharpness-aware step see the
//! same network, and a resumed run that of the run it resumes. Draws are made on the CPU: a seed means the same on every device.

use flatmin_torch_ext::Generator;
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// The draws of one layer.
#[derive(Debug, PartialEq)]
pub(crate) struct Draws {
    /// Counted among the layers of the model that draw.
    index: u64,
}

impl Draws {
    pub fn new(index: u64) -> Self {
        Self { index }
    }

    /// The layer's stream in a pass with this mask seed, from its beginning.
    pub fn generator(&self, mask_seed: u64) -> Result<Generator> {
        Ok(Generator::new(mix(mask_seed, self.index))?)
    }
}

/// One number for each image of a batch, broadcast over `input`: what `fill` makes of an empty tensor. Drawn in float32
/// whatever the input's dtype, so that a seed means the same in all of them.
pub(super) fn per_image(input: &Tensor, fill: impl FnOnce(&mut Tensor) -> Result<()>) -> Result<Tensor> {
    let mut shape = vec![1; input.dim()];
    shape[0] = input.size()[0];
    let mut values = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
    fill(&mut values)?;
    Ok(values.f_to_kind(input.kind())?.f_to_device(input.device())?)
}

/// A number for each element of `input`, in its layout: what `fill` makes of an empty tensor of its dtype.
pub(super) fn per_element(input: &Tensor, fill: impl FnOnce(&mut Tensor) -> Result<()>) -> Result<Tensor> {
    let like = input.f_detach()?.f_empty_like()?;
    let mut values = Tensor::f_empty_strided(like.size(), like.stride(), (like.kind(), Device::Cpu))?;
    fill(&mut values)?;
    Ok(values.f_to_device(input.device())?)
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
