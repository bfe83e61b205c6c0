//! What random layers draw, made where it is used: the numbers of [`crate::draw_like`], bit for bit.

use tch::{Kind, Tensor};

use super::ffi;
use super::place::{Place, number};
use crate::draw::{Draw, Seed, laid_out_as};
use crate::error::Result;

impl Place {
    /// As [`crate::draw_like`], without a word to the host: a captured draw reads its seed anew at each replay, if it lies in
    /// memory.
    pub fn draw_like(&self, like: &Tensor, seed: Seed<'_>, stream: u64, draw: Draw) -> Result<Tensor> {
        self.check_device(like)?;
        let mut out = like.f_detach()?.f_empty_like()?;
        // The kernels know no float16.
        let kind = if like.kind() == Kind::Half { Kind::Float } else { like.kind() };
        let drawn = laid_out_as(&out, (kind, self.device()))?;
        let (value, seed) = match seed {
            Seed::Value(value) => (value, std::ptr::null_mut()),
            Seed::Memory(seed) => (0, self.address("a seed", seed, Kind::Int64, 1)?),
        };
        let (low, high, keep) = match draw {
            Draw::Mask { keep } => (0.0, 0.0, keep),
            Draw::Uniform { low, high } => (low, high, 0.0),
        };
        let raw = ffi::Draw {
            seed: seed.cast(),
            value,
            stream,
            low,
            high,
            keep,
            out: drawn.data_ptr(),
            len: drawn.numel() as i64,
            number: number("random numbers", kind)?,
        };
        self.check((self.kernels.draw)(self.stream()?, &raw))?;
        out.f_copy_(&drawn)?;
        Ok(out)
    }
}
