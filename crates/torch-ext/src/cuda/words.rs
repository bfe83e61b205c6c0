//! What the host tells a device again and again: 64-bit words that lie together, so that one copy brings them all and nobody waits
//! for it.

use std::ops::Range;

use tch::{Device, Kind, Tensor, no_grad};

use super::place::Place;
use super::stream::{Stream, pinned_like};
use crate::error::{Error, Result};

pub struct Words {
    place: Place,
    /// Page-locked, on a GPU.
    host: Tensor,
    device: Tensor,
}

impl Words {
    /// So many zeros. Not while a graph is captured.
    pub fn new(place: &Place, len: usize) -> Result<Self> {
        let device = place.zeros(&[len as i64], Kind::Int64)?;
        let host = Tensor::f_zeros([len as i64], (Kind::Int64, Device::Cpu))?;
        let host = place.cuda().map_or_else(|| Ok(host.shallow_clone()), |cuda| pinned_like(cuda, &host))?;
        Ok(Self { place: *place, host, device })
    }

    /// Some of them where they lie on the device, as int64.
    pub fn integers(&self, range: Range<usize>) -> Result<Tensor> {
        Ok(self.device.f_narrow(0, range.start as i64, range.len() as i64)?)
    }

    /// Some of them where they lie on the device, as float64.
    pub fn floats(&self, range: Range<usize>) -> Result<Tensor> {
        Ok(self.integers(range)?.f_view_dtype(Kind::Double)?)
    }

    /// Queues a copy of new words in the current stream; those sent before must have arrived.
    pub fn send(&mut self, words: &[u64]) -> Result<()> {
        if words.len() != self.device.numel() {
            let (found, expected) = (words.len().to_string(), self.device.numel().to_string());
            return Err(Error::Argument { what: "words", found, expected });
        }
        let words: Vec<i64> = words.iter().map(|word| word.cast_signed()).collect();
        no_grad(|| -> Result<()> {
            self.host.f_copy_(&Tensor::f_from_slice(&words)?)?;
            match (self.place.cuda(), self.place.device()) {
                (Some(cuda), Device::Cuda(index)) => Stream::current(cuda, index)?.copy(&mut self.device, &self.host),
                _ => Ok(self.device.f_copy_(&self.host)?),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_both_kinds_show_what_was_sent_last() {
        let mut words = Words::new(&Place::twin(), 3).unwrap();
        let (floats, integers) = (words.floats(0..2).unwrap(), words.integers(2..3).unwrap());
        for (first, second, third) in [(0.1, f64::INFINITY, 7), (-2.0, 0.5, -1)] {
            words.send(&[f64::to_bits(first), f64::to_bits(second), i64::cast_unsigned(third)]).unwrap();
            assert_eq!(Vec::<f64>::try_from(&floats).unwrap(), [first, second]);
            assert_eq!(integers.int64_value(&[0]), third);
        }
        assert_eq!(words.send(&[1]).unwrap_err().code(), "ERR_FLATMIN_TORCH");
    }
}
