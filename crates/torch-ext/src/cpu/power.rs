//! Powers of many numbers by libtorch's vectorised function: the standard library's takes one at a time.

use tch::{Device, Tensor};

use super::slab::Real;

/// Raises each number.
pub(super) fn raise<T: Real>(values: &mut [T], exponent: f64) {
    // SAFETY: a dense array that outlives the tensor over it.
    let powers =
        unsafe { Tensor::f_from_blob(values.as_mut_ptr().cast(), &[values.len() as i64], &[1], T::KIND, Device::Cpu) };
    if let Err(error) = powers.and_then(|mut all| all.f_pow_(exponent)) {
        unreachable!("powers of plain numbers: {error}");
    }
}
