//! Layers on channels-last images, on any device, whose passes copy no more than they must. Their backward passes have no derivative of
//! their own.

use tch::Tensor;

use crate::error::{Result, check};
use crate::ffi;

/// Every `stride`-th row and column of images `[batch, channels, height, width]`, between `before` and `after` channels of zeros: the
/// shortcut of option A (He 2016, section 3.3).
///
/// # Errors
/// What libtorch answers.
pub fn padded_subsample(x: &Tensor, stride: i64, before: i64, after: i64) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: the tensor lives through the call; on success `out` is a new tensor that the returned value owns.
    unsafe {
        check(ffi::flatmin_padded_subsample(x.as_ptr(), stride, before, after, &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// The mean of each channel of images of 16 bits, float32 `[batch, channels, 1, 1]`.
///
/// # Errors
/// What libtorch answers.
pub fn image_mean(x: &Tensor) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: as above.
    unsafe {
        check(ffi::flatmin_image_mean(x.as_ptr(), &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels_last;
    use tch::{Device, Kind, no_grad};

    /// Output and gradient of a function of an image, for a fixed gradient of its output.
    fn passes(x: &Tensor, function: impl Fn(&Tensor) -> Tensor) -> (Tensor, Tensor) {
        let x = x.detach().set_requires_grad(true);
        let y = function(&x);
        let weights = Tensor::arange(y.numel() as i64, (Kind::Float, Device::Cpu)).reshape_as(&y).sin();
        (&y * weights.to_kind(y.kind())).sum(Kind::Float).backward();
        (y.detach(), x.grad())
    }

    fn image(kind: Kind) -> Tensor {
        let numbers = Tensor::arange(2 * 3 * 5 * 4, (Kind::Float, Device::Cpu)).sin().reshape([2, 3, 5, 4]);
        channels_last(&numbers.to_kind(kind)).unwrap()
    }

    #[test]
    fn a_padded_subsample_is_what_slices_and_padding_give() {
        for (stride, before, after) in [(1, 0, 0), (2, 1, 2), (3, 0, 3)] {
            let composed = |x: &Tensor| {
                let seen = x.slice(2, None, None, stride).slice(3, None, None, stride);
                seen.constant_pad_nd([0, 0, 0, 0, before, after])
            };
            let own = passes(&image(Kind::Float), |x| padded_subsample(x, stride, before, after).unwrap());
            assert_eq!(own, passes(&image(Kind::Float), composed));
            assert_eq!(own.0.stride()[1], 1);
            assert_eq!(own.1.stride()[1], 1);
        }
    }

    #[test]
    fn a_mean_is_torchs_and_its_gradient_channels_last() {
        let own = passes(&image(Kind::BFloat16), |x| image_mean(x).unwrap());
        assert_eq!(own, passes(&image(Kind::BFloat16), |x| x.mean_dim(&[2i64, 3][..], true, Kind::Float)));
        assert_eq!((own.0.kind(), own.1.kind(), own.1.stride()[1]), (Kind::Float, Kind::BFloat16, 1));
        assert!(no_grad(|| image_mean(&image(Kind::BFloat16)).unwrap()) == own.0);
    }
}
