//! A random generator of one's own (torch's Mersenne twister on the CPU): initial weights then depend on their seed alone, not
//! on what else in the process draws random numbers.

use std::ffi::c_void;

use tch::Tensor;

use crate::error::{Result, check};
use crate::ffi;

/// Same streams as `torch.Generator().manual_seed(seed)`.
pub struct Generator(*mut c_void);

// SAFETY: the generator behind the pointer is used through &self by one thread at a time (it is Send, not Sync).
unsafe impl Send for Generator {}

impl Generator {
    /// # Errors
    /// If libtorch cannot allocate it.
    pub fn new(seed: u64) -> Result<Self> {
        let mut raw = std::ptr::null_mut();
        check(unsafe { ffi::flatmin_generator_new(seed, &mut raw) })?;
        Ok(Self(raw))
    }

    /// Fills with U(low, high).
    pub fn uniform_(&self, tensor: &mut Tensor, low: f64, high: f64) -> Result<()> {
        check(unsafe { ffi::flatmin_generator_uniform(self.0, tensor.as_mut_ptr(), low, high) })
    }

    /// Fills with N(mean, deviation^2).
    pub fn normal_(&self, tensor: &mut Tensor, mean: f64, deviation: f64) -> Result<()> {
        check(unsafe { ffi::flatmin_generator_normal(self.0, tensor.as_mut_ptr(), mean, deviation) })
    }

    /// Fills with 1 with the given probability, else 0.
    pub fn bernoulli_(&self, tensor: &mut Tensor, probability: f64) -> Result<()> {
        check(unsafe { ffi::flatmin_generator_bernoulli(self.0, tensor.as_mut_ptr(), probability) })
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        unsafe { ffi::flatmin_generator_free(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn equals_torch_manual_seed() {
        tch::manual_seed(7);
        let global = Tensor::f_randn([100], (Kind::Double, Device::Cpu)).unwrap();
        let mut own = Tensor::f_empty([100], (Kind::Double, Device::Cpu)).unwrap();
        Generator::new(7).unwrap().normal_(&mut own, 0.0, 1.0).unwrap();
        assert_eq!(global, own);
    }

    #[test]
    fn a_seed_names_its_stream() {
        let draw = |generator: &Generator| {
            let mut mask = Tensor::f_empty([1000], (Kind::Float, Device::Cpu)).unwrap();
            generator.bernoulli_(&mut mask, 0.3).unwrap();
            mask
        };
        let generator = Generator::new(1).unwrap();
        let first = draw(&generator);
        assert_ne!(first, draw(&generator));
        assert_eq!(first, draw(&Generator::new(1).unwrap()));
    }
}
