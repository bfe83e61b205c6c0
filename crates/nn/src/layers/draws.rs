//! What layers draw at random: a function of (mask seed, layer, place), so that both passes of a sharpness-aware step see the
//! same network, and a resumed run that of the run it resumes, on every device.

use flatmin_torch_ext::{Draw, Seed, draw_like};
use tch::{Kind, Tensor};

use super::Context;
use crate::engine::Engine;
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

    /// A number for each element of `like`, in its layout.
    pub fn like(&self, like: &Tensor, draw: Draw, seed: Seed<'_>, context: &Context) -> Result<Tensor> {
        Ok(match context.engine {
            Engine::Cuda(place) => place.draw_like(like, seed, self.index, draw)?,
            Engine::Cpu | Engine::Torch(_) => draw_like(like, seed, self.index, draw)?,
        })
    }

    /// So many numbers from U(0, 1) for each image of a batch, broadcast over `input`; float32 whatever the input's dtype, so
    /// that a seed means the same in all of them.
    pub fn uniforms<const N: usize>(&self, input: &Tensor, seed: Seed<'_>, context: &Context) -> Result<[Tensor; N]> {
        let mut shape = vec![1; input.dim() + 1];
        (shape[0], shape[1]) = (N as i64, input.size()[0]);
        let like = Tensor::f_empty(shape, (Kind::Float, input.device()))?;
        let drawn = self.like(&like, Draw::Uniform { low: 0.0, high: 1.0 }, seed, context)?;
        let rows = drawn.f_unbind(0)?;
        Ok(std::array::from_fn(|row| rows[row].shallow_clone()))
    }
}
