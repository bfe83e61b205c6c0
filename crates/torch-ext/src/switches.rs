//! How libtorch's own operations compute on a GPU: one set of switches for the whole process.

use crate::error::{Result, check};
use crate::ffi;

/// Speed, exactness and repeatability of matrix products and convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Switches {
    /// float32 matrix products in TensorFloat-32, which keeps 10 bits of the mantissa.
    pub tf32_matmul: bool,
    /// float32 convolutions, and cuDNN's other operations, in it.
    pub tf32_convolutions: bool,
    /// cuDNN times its algorithms for each new shape and keeps the fastest.
    pub cudnn_benchmark: bool,
    /// Only deterministic algorithms; a warning where an operation has none.
    pub deterministic: bool,
}

impl Switches {
    /// As they stand.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn current() -> Result<Self> {
        let mut raw = ffi::Switches::default();
        check(unsafe { ffi::flatmin_get_switches(&mut raw) })?;
        Ok(Self {
            tf32_matmul: raw.tf32_matmul != 0,
            tf32_convolutions: raw.tf32_convolutions != 0,
            cudnn_benchmark: raw.cudnn_benchmark != 0,
            deterministic: raw.deterministic != 0,
        })
    }

    /// From now on, for all threads.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn set(self) -> Result<()> {
        let raw = ffi::Switches {
            tf32_matmul: self.tf32_matmul.into(),
            tf32_convolutions: self.tf32_convolutions.into(),
            cudnn_benchmark: self.cudnn_benchmark.into(),
            deterministic: self.deterministic.into(),
        };
        check(unsafe { ffi::flatmin_set_switches(&raw) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_start_as_pytorchs_and_stay_as_they_are_set() {
        let start = Switches::current().unwrap();
        let pytorchs =
            Switches { tf32_matmul: false, tf32_convolutions: true, cudnn_benchmark: false, deterministic: false };
        assert_eq!(start, pytorchs);
        for index in 0..4 {
            let on = |position| position == index;
            let switches =
                Switches { tf32_matmul: on(0), tf32_convolutions: on(1), cudnn_benchmark: on(2), deterministic: on(3) };
            switches.set().unwrap();
            assert_eq!(Switches::current().unwrap(), switches);
        }
        start.set().unwrap();
    }
}
