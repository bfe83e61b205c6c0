//! Convolutions whose passes are faster than libtorch's: as products of matrices where there are few pixels, and with 3 x 3
//! filters by kernels of our own, Winograd's for stride 1 and a weight gradient for bfloat16 images with few channels.

use std::ffi::c_void;
use std::marker::PhantomData;

use half::bf16;
use tch::{Kind, Tensor};

use crate::cpu::conv::{Convolution, KERNEL, has_matrix_tiles, weight_gradient_of_pairs};
#[cfg(target_arch = "x86_64")]
use crate::cpu::conv::{Lanes, winograd};
use crate::cpu::{Number, Slab};
use crate::error::{Result, check};
use crate::ffi::{self, ConvolutionKernels};

/// The convolution of `x [batch, in, height, width]` with `weight [out, in, side, side]`, float32 or bfloat16 on the CPU; None
/// where libtorch's own serves better. Its backward pass has no derivative of its own.
///
/// # Errors
/// If libtorch cannot (shapes that do not fit, no memory).
pub fn conv2d(x: &Tensor, weight: &Tensor, stride: i64, padding: i64) -> Result<Option<Tensor>> {
    let (&[batch, in_channels, height, width], &[out_channels, filter_channels, side, filter_width]) =
        (&x.size()[..], &weight.size()[..])
    else {
        return Ok(None);
    };
    let fits = stride >= 1
        && padding >= 0
        && x.kind() == weight.kind()
        && [filter_channels, filter_width] == [in_channels, side]
        && height.min(width) + 2 * padding >= side;
    if !fits {
        return Ok(None);
    }
    let output = [height, width].map(|size| (size + 2 * padding - side) / stride + 1);
    let sizes = [batch, height, width, output[0], output[1], in_channels, out_channels, side, stride, padding];
    let Some(kernels) = kernels(&sizes, x.kind()) else { return Ok(None) };
    let mut out = std::ptr::null_mut();
    // SAFETY: both tensors live through the call; on success `out` is a new tensor that the returned value owns.
    unsafe {
        check(ffi::flatmin_conv2d(kernels, x.as_ptr(), weight.as_ptr(), stride, padding, &mut out))?;
        Ok(Some(Tensor::from_ptr(out)))
    }
}

/// What is faster than libtorch for a convolution of these sizes over numbers of this kind.
fn kernels(sizes: &Sizes, kind: Kind) -> Option<&'static ConvolutionKernels> {
    static OF_PAIRS: ConvolutionKernels =
        ConvolutionKernels { forward: None, input_gradient: None, weight_gradient: Some(pairs) };
    let &[batch, _, _, height, width, _, out_channels, side, ..] = sizes;
    // Where there are fewer pixels than filters, bringing these into an order of its own, as libtorch does in each pass, takes
    // longer than unfolding the image.
    if kind == Kind::Float && (1..=out_channels).contains(&(batch * height * width)) {
        // SAFETY: a constant of the shim.
        return Some(unsafe { &ffi::flatmin_unfolded });
    }
    // No vector instructions keep up with matrix tiles.
    if side != KERNEL as i64 || kind == Kind::BFloat16 && has_matrix_tiles() {
        return None;
    }
    let convolution = convolution(sizes);
    #[cfg(target_arch = "x86_64")]
    if convolution.suits_winograd() {
        match kind {
            Kind::Float => return Some(const { &of_winograd::<f32>() }),
            // Where the products dominate, libtorch's instructions for bfloat16 do twice as many.
            Kind::BFloat16 if convolution.has_few_weights() => return Some(const { &of_winograd::<bf16>() }),
            _ => {}
        }
    }
    (kind == Kind::BFloat16 && convolution.can_pair()).then_some(&OF_PAIRS)
}

#[cfg(target_arch = "x86_64")]
const fn of_winograd<E: Lanes>() -> ConvolutionKernels {
    extern "C" fn forward<E: Lanes>(sizes: *const i64, x: *const c_void, weight: *const c_void, y: *mut c_void) {
        let call = Call::<E>::new(sizes);
        winograd::forward(&call.convolution, call.input(x), call.weight(weight), call.output(y));
    }
    extern "C" fn input_gradient<E: Lanes>(
        sizes: *const i64,
        dy: *const c_void,
        weight: *const c_void,
        dx: *mut c_void,
    ) {
        let call = Call::<E>::new(sizes);
        winograd::input_gradient(&call.convolution, call.output(dy), call.weight(weight), call.input(dx));
    }
    extern "C" fn weight_gradient<E: Lanes>(sizes: *const i64, x: *const c_void, dy: *const c_void, dw: *mut c_void) {
        let call = Call::<E>::new(sizes);
        winograd::weight_gradient(&call.convolution, call.input(x), call.output(dy), call.weight(dw));
    }
    ConvolutionKernels {
        forward: Some(forward::<E>),
        input_gradient: Some(input_gradient::<E>),
        weight_gradient: Some(weight_gradient::<E>),
    }
}

extern "C" fn pairs(sizes: *const i64, x: *const c_void, dy: *const c_void, dw: *mut c_void) {
    let call = Call::<bf16>::new(sizes);
    weight_gradient_of_pairs(&call.convolution, call.input(x), call.output(dy), call.weight(dw));
}

/// Batch, input height and width, output height and width, input channels, output channels, side of the filters, stride, padding.
type Sizes = [i64; 10];

/// What the shim hands to a kernel: sizes, and dense arrays of those sizes, alive through the call.
struct Call<E> {
    convolution: Convolution,
    element: PhantomData<E>,
}

impl<E: Number> Call<E> {
    fn new(sizes: *const i64) -> Self {
        // SAFETY: as above.
        Self { convolution: convolution(unsafe { &*sizes.cast() }), element: PhantomData }
    }

    fn input(&self, data: *const c_void) -> Slab<E> {
        Slab::from_raw(data.cast_mut().cast(), self.convolution.input_len())
    }

    fn output(&self, data: *const c_void) -> Slab<E> {
        Slab::from_raw(data.cast_mut().cast(), self.convolution.output_len())
    }

    fn weight(&self, data: *const c_void) -> Slab<E> {
        Slab::from_raw(data.cast_mut().cast(), self.convolution.weight_len())
    }
}

/// Of filters of the side that our own kernels are made for.
fn convolution(sizes: &Sizes) -> Convolution {
    let [batch, height, width, out_height, out_width, in_channels, out_channels, _, stride, padding] =
        sizes.map(|size| size as usize);
    let (input, output) = ([height, width], [out_height, out_width]);
    Convolution { batch, input, output, in_channels, out_channels, stride, padding }
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
    fn few_pixels_are_unfolded() {
        // [side, stride, padding] of filters, and images with fewer windows than there are filters.
        for ([side, stride, padding], size) in
            [([1, 1, 0], 5), ([1, 2, 0], 7), ([3, 1, 1], 4), ([3, 2, 1], 7), ([5, 3, 2], 9)]
        {
            let results = [Kind::Float, Kind::Double].map(|kind| {
                let leaf =
                    |shape| channels_last(&random(shape).detach().to_kind(kind)).unwrap().set_requires_grad(true);
                let (x, weight) = (leaf([2, 16, size, size]), leaf([64, 16, side, side]));
                let y = match kind {
                    Kind::Float => conv2d(&x, &weight, stride, padding).unwrap().unwrap(),
                    _ => x.conv2d(&weight, None::<&Tensor>, [stride; 2], [padding; 2], [1, 1], 1),
                };
                (&y * &y.detach()).sum(kind).backward();
                assert!(side == 1 || weight.grad().stride() == weight.stride());
                [y.detach(), x.grad(), weight.grad()].map(|tensor| tensor.to_kind(Kind::Double))
            });
            for (found, expected) in results[0].iter().zip(&results[1]) {
                assert_eq!(found.size(), expected.size());
                let error = f64::try_from((found - expected).norm() / expected.norm()).unwrap();
                assert!(error < 1e-6, "side {side}, stride {stride}: {error}");
            }
        }
        let [x, weight] = [random([1, 8, 2, 2]), random([16, 8, 3, 3])].map(|tensor| tensor.to_kind(Kind::Float));
        let y = conv2d(&x, &weight, 1, 1).unwrap().unwrap();
        let error = Tensor::f_run_backward(&[(&y * &y).sum(Kind::Float)], &[&weight], true, true).unwrap_err();
        assert!(error.to_string().contains("second derivative"), "{error}");
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
