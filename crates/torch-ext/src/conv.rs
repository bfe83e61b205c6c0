//! A convolution whose backward pass is faster than libtorch's where that one is slow: 3 x 3 filters over bfloat16 images
//! with few channels.

use std::ffi::c_void;

use tch::{Kind, Tensor};

use crate::cpu::Slab;
use crate::cpu::conv::{Convolution, KERNEL, weight_gradient};
use crate::error::{Result, check};
use crate::ffi;

/// The convolution of `x [batch, in, height, width]` with `weight [out, in, 3, 3]`, both bfloat16 on the CPU; None where
/// libtorch's own serves better. Its backward pass has no derivative of its own.
///
/// # Errors
/// If libtorch cannot (shapes that do not fit, no memory).
pub fn conv2d(x: &Tensor, weight: &Tensor, stride: i64, padding: i64) -> Result<Option<Tensor>> {
    let (&[batch, in_channels, height, width], &[out_channels, filter_channels, filter_height, filter_width]) =
        (&x.size()[..], &weight.size()[..])
    else {
        return Ok(None);
    };
    let kernel = KERNEL as i64;
    if stride < 1 || padding < 0 {
        return Ok(None);
    }
    let fits = [x.kind(), weight.kind()] == [Kind::BFloat16; 2]
        && [filter_channels, filter_height, filter_width] == [in_channels, kernel, kernel]
        && height.min(width) + 2 * padding >= kernel;
    let output = [height, width].map(|size| (size + 2 * padding - kernel) / stride + 1);
    let sizes = [batch, height, width, output[0], output[1], in_channels, out_channels, stride, padding];
    if !(fits && convolution(&sizes).is_supported()) {
        return Ok(None);
    }
    let mut out = std::ptr::null_mut();
    // SAFETY: both tensors live through the call; on success `out` is a new tensor that the returned value owns.
    unsafe {
        check(ffi::flatmin_conv2d(kernel_of_shim, x.as_ptr(), weight.as_ptr(), stride, padding, &mut out))?;
        Ok(Some(Tensor::from_ptr(out)))
    }
}

fn convolution(sizes: &[i64; 9]) -> Convolution {
    let [batch, height, width, out_height, out_width, in_channels, out_channels, stride, padding] =
        sizes.map(|size| size as usize);
    let (input, output) = ([height, width], [out_height, out_width]);
    Convolution { batch, input, output, in_channels, out_channels, stride, padding }
}

extern "C" fn kernel_of_shim(sizes: *const i64, x: *const c_void, dy: *const c_void, dw: *mut c_void) {
    // SAFETY: the shim passes nine sizes and dense arrays of those sizes, alive through the call.
    let convolution = convolution(unsafe { &*sizes.cast() });
    let Convolution { batch, input, output, in_channels, out_channels, .. } = convolution;
    let slab = |data: *const c_void, [height, width]: [usize; 2], images, channels| {
        Slab::from_raw(data.cast_mut().cast(), images * height * width * channels)
    };
    let (x, dy) = (slab(x, input, batch, in_channels), slab(dy, output, batch, out_channels));
    weight_gradient(&convolution, x, dy, slab(dw, [KERNEL; 2], out_channels, in_channels));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generator, channels_last};
    use tch::Device;

    fn random(shape: [i64; 4]) -> Tensor {
        let mut values = Tensor::empty(shape, (Kind::Float, Device::Cpu));
        Generator::new(4).unwrap().normal_(&mut values, 0.0, 1.0).unwrap();
        channels_last(&values.to_kind(Kind::BFloat16)).unwrap().set_requires_grad(true)
    }

    #[test]
    fn value_and_gradients_are_libtorchs() {
        let gradients = [true, false].map(|fused| {
            let (x, weight) = (random([6, 16, 12, 10]), random([32, 16, 3, 3]));
            let own = conv2d(&x, &weight, 2, 1).unwrap().filter(|_| fused);
            let y = own.unwrap_or_else(|| x.conv2d(&weight, None::<&Tensor>, [2, 2], [1, 1], [1, 1], 1));
            (&y * &y.detach()).sum(Kind::Float).backward();
            [y.detach(), x.grad(), weight.grad()].map(|tensor| tensor.to_kind(Kind::Double))
        });
        let [fused, composite] = gradients;
        assert_eq!(fused[0], composite[0]);
        assert_eq!(fused[1], composite[1]);
        let error = f64::try_from((&fused[2] - &composite[2]).norm() / composite[2].norm()).unwrap();
        assert!(error < 0.004, "{error}");
    }

    #[test]
    fn what_it_is_not_made_for_is_left_to_libtorch() {
        let [x, weight] = [random([2, 16, 8, 8]), random([16, 16, 3, 3])];
        let wide = |tensor: &Tensor| tensor.to_kind(Kind::Float);
        assert!(conv2d(&wide(&x), &wide(&weight), 1, 1).unwrap().is_none());
        assert!(conv2d(&x, &random([16, 16, 5, 5]), 1, 1).unwrap().is_none());
        assert!(conv2d(&x, &random([16, 8, 3, 3]), 1, 1).unwrap().is_none());
    }

    #[test]
    fn a_second_derivative_is_refused() {
        let [x, weight] = [random([2, 16, 8, 8]), random([16, 16, 3, 3])];
        let Some(y) = conv2d(&x, &weight, 1, 1).unwrap() else { return };
        let loss = (&y * &y).sum(Kind::Float);
        let error = Tensor::f_run_backward(&[loss], &[&weight], true, true).unwrap_err();
        assert!(error.to_string().contains("second derivative"), "{error}");
    }
}
