//! Safe faces of what tch lacks on a tensor: version counter, undefined gradient, memory format.

use tch::Tensor;

use crate::error::{Result, check};
use crate::ffi;

/// Tells autograd that the storage was written through a raw pointer. All views of the storage share the counter, so a
/// backward pass over values saved before the write fails instead of using wrong numbers.
pub fn bump_version(tensor: &Tensor) {
    unsafe { ffi::flatmin_bump_version(tensor.as_ptr()) }
}

/// Makes `.grad` undefined: the next backward pass then stores its own tensor there without adding or copying.
pub fn clear_grad(tensor: &Tensor) {
    // SAFETY: only the gradient slot changes, which torch guards by autograd's own rules; the tensor is not aliased
    // as Rust data.
    unsafe { ffi::flatmin_clear_grad(tensor.as_ptr().cast_mut()) }
}

/// Puts a tensor of the same shape, dtype and layout into `.grad`: the next backward pass adds to it in place.
pub fn set_grad(tensor: &Tensor, grad: &Tensor) {
    // SAFETY: as in `clear_grad`.
    unsafe { ffi::flatmin_set_grad(tensor.as_ptr().cast_mut(), grad.as_ptr()) }
}

/// The same values, `[batch, channels, height, width]`, with channels lying last in memory. No copy if they do already.
///
/// # Errors
/// If the tensor is not 4-D.
pub fn channels_last(tensor: &Tensor) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: on success `out` is a new tensor that the returned value owns.
    unsafe {
        check(ffi::flatmin_channels_last(tensor.as_ptr(), &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}
