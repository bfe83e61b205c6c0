//! Batch norm + ReLU as one differentiable function of training time, for channels-last activations on the CPU.
//!
//! It replaces `batch_norm`, an addition if there is one, and `relu`: two passes over memory forward and two backward
//! instead of three and four (or four and five). Its backward has no derivative of its own: under `create_graph` it fails;
//! the composite operations are its twin.

use std::ffi::c_void;

use half::bf16;
use tch::Tensor;

use crate::cpu::Slab;
use crate::cpu::norm_act::{self, Gate, Rows};
use crate::cpu::stored::Stored;
use crate::error::{Result, check};
use crate::ffi;

/// What batch norm needs besides its input `[batch, channels, height, width]`.
pub struct BatchNorm<'a> {
    /// `[channels]`.
    pub gamma: &'a Tensor,
    /// `[channels]`.
    pub beta: &'a Tensor,
    /// Running mean and variance, `[channels]` each, to be updated; None leaves statistics alone.
    pub running: Option<(&'a Tensor, &'a Tensor)>,
    pub momentum: f64,
    pub eps: f64,
}

/// `relu(batch_norm(x) + residual)` with the statistics of the batch. All tensors have one dtype, float32 or float64; beside
/// bfloat16 activations gamma, beta and statistics are float32.
///
/// # Errors
/// If libtorch cannot (one value per channel, no memory).
pub fn batch_norm_relu(x: &Tensor, residual: Option<&Tensor>, norm: &BatchNorm<'_>) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: all tensors live through the call; on success `out` is a new tensor that the returned value owns.
    unsafe {
        check(ffi::flatmin_norm_act(
            &KERNELS,
            x.as_ptr(),
            ffi::pointer_or_null(residual),
            norm.gamma.as_ptr(),
            norm.beta.as_ptr(),
            ffi::pointer_or_null(norm.running.map(|running| running.0)),
            ffi::pointer_or_null(norm.running.map(|running| running.1)),
            norm.momentum,
            norm.eps,
            &mut out,
        ))?;
        Ok(Tensor::from_ptr(out))
    }
}

static KERNELS: ffi::NormActKernels = ffi::NormActKernels { moments, forward, sums, gradient };

/// Calls a generic function for the number format of the activations, as the shim counts them.
macro_rules! by_number {
    ($number:expr, $function:ident ( $($argument:expr),* $(,)? )) => {
        match $number {
            ffi::FLOAT64 => $function::<f64>($($argument),*),
            ffi::BFLOAT16 => $function::<bf16>($($argument),*),
            _ => $function::<f32>($($argument),*),
        }
    };
}

/// The arrays of one call, as the shim hands them over.
#[derive(Clone, Copy)]
struct Arrays {
    x: *const c_void,
    dy: *const c_void,
    y: *const c_void,
    len: usize,
    channels: usize,
}

impl Arrays {
    fn rows(self) -> Rows {
        Rows::new(self.channels, self.len)
    }

    fn slab<E: Stored>(self, data: *const c_void) -> Slab<E> {
        Slab::from_raw(data.cast::<E>().cast_mut(), self.len)
    }

    fn optional<E: Stored>(self, data: *const c_void) -> Option<Slab<E>> {
        (!data.is_null()).then(|| self.slab(data))
    }

    /// Per-channel numbers.
    fn per_channel<'a>(self, data: *const f64, each: usize) -> &'a [f64] {
        // SAFETY: the shim passes arrays of `each` numbers for each channel, alive through the call.
        unsafe { std::slice::from_raw_parts(data, self.channels * each) }
    }

    fn per_channel_mut<'a>(self, data: *mut f64, each: usize) -> &'a mut [f64] {
        // SAFETY: as above, and written by nobody else.
        unsafe { std::slice::from_raw_parts_mut(data, self.channels * each) }
    }

    fn gate<'a, E: Stored>(self, scale: *const f64, shift: *const f64) -> Gate<'a, E> {
        match self.optional(self.y) {
            Some(y) => Gate::Output(y),
            None => Gate::Input { scale: self.per_channel(scale, 1), shift: self.per_channel(shift, 1) },
        }
    }
}

extern "C" fn moments(number: u8, x: *const c_void, len: i64, channels: i64, mean: *mut f64, variance: *mut f64) {
    fn run<E: Stored>(arrays: Arrays, mean: *mut f64, variance: *mut f64) {
        let moments = norm_act::batch_moments(arrays.rows(), arrays.slab::<E>(arrays.x));
        let (mean, variance) = (arrays.per_channel_mut(mean, 1), arrays.per_channel_mut(variance, 1));
        for ((mean, variance), moments) in mean.iter_mut().zip(variance).zip(moments) {
            (*mean, *variance) = moments;
        }
    }
    let none = std::ptr::null();
    let arrays = Arrays { x, dy: none, y: none, len: len as usize, channels: channels as usize };
    by_number!(number, run(arrays, mean, variance));
}

extern "C" fn forward(
    number: u8,
    x: *const c_void,
    residual: *const c_void,
    y: *mut c_void,
    len: i64,
    channels: i64,
    scale: *const f64,
    shift: *const f64,
) {
    fn run<E: Stored>(arrays: Arrays, residual: *const c_void, scale: *const f64, shift: *const f64) {
        let (scale, shift) = (arrays.per_channel(scale, 1), arrays.per_channel(shift, 1));
        let (x, y) = (arrays.slab::<E>(arrays.x), arrays.slab(arrays.y));
        let coefficient = |channel: usize| (scale[channel], shift[channel]);
        norm_act::scale_shift_relu(arrays.rows(), x, arrays.optional(residual), y, coefficient);
    }
    let arrays = Arrays { x, dy: std::ptr::null(), y, len: len as usize, channels: channels as usize };
    by_number!(number, run(arrays, residual, scale, shift));
}

extern "C" fn sums(
    number: u8,
    x: *const c_void,
    dy: *const c_void,
    y: *const c_void,
    len: i64,
    channels: i64,
    scale: *const f64,
    shift: *const f64,
    mean: *const f64,
    sums: *mut f64,
) {
    fn run<E: Stored>(arrays: Arrays, scale: *const f64, shift: *const f64, mean: *const f64, out: *mut f64) {
        let (x, dy) = (arrays.slab::<E>(arrays.x), arrays.slab(arrays.dy));
        let mean = arrays.per_channel(mean, 1);
        let sums = norm_act::gradient_sums(arrays.rows(), x, dy, arrays.gate(scale, shift), mean);
        arrays.per_channel_mut(out, 2).copy_from_slice(sums.as_flattened());
    }
    let arrays = Arrays { x, dy, y, len: len as usize, channels: channels as usize };
    by_number!(number, run(arrays, scale, shift, mean, sums));
}

extern "C" fn gradient(
    number: u8,
    x: *const c_void,
    dy: *const c_void,
    y: *const c_void,
    dx: *mut c_void,
    passed: *mut c_void,
    len: i64,
    channels: i64,
    scale: *const f64,
    shift: *const f64,
    coefficients: *const f64,
) {
    fn run<E: Stored>(
        arrays: Arrays,
        (dx, passed): (*mut c_void, *mut c_void),
        (scale, shift): (*const f64, *const f64),
        coefficients: *const f64,
    ) {
        let coefficients = arrays.per_channel(coefficients, 3);
        norm_act::input_gradient::<E>(
            arrays.rows(),
            arrays.slab(arrays.x),
            arrays.slab(arrays.dy),
            arrays.gate(scale, shift),
            |channel| [0, 1, 2].map(|part| coefficients[3 * channel + part]),
            arrays.slab(dx),
            arrays.optional(passed),
        );
    }
    let arrays = Arrays { x, dy, y, len: len as usize, channels: channels as usize };
    by_number!(number, run(arrays, (dx, passed), (scale, shift), coefficients));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::with_num_threads;
    use crate::{Generator, channels_last};
    use tch::{Device, Kind};

    struct Outcome {
        y: Tensor,
        gradients: Vec<Tensor>,
        running: [Tensor; 2],
    }

    /// With bfloat16 activations all else is float32, and the composite form computes in float32 throughout.
    fn case(kind: Kind, shape: [i64; 4], with_residual: bool, fused: bool) -> Outcome {
        let wide = if kind == Kind::BFloat16 { Kind::Float } else { kind };
        let options = (wide, Device::Cpu);
        let generator = Generator::new(11).unwrap();
        let randn = |shape: &[i64]| {
            let mut values = Tensor::empty(shape, options);
            generator.normal_(&mut values, 0.0, 1.0).unwrap();
            values
        };
        let leaf = |tensor: Tensor| tensor.detach().set_requires_grad(true);
        let activation = |tensor: Tensor| leaf(channels_last(&tensor.to_kind(kind)).unwrap());
        // A mean far from zero: sums of squares must not cancel.
        let x = activation(randn(&shape) * 0.5 + 30.0);
        let residual = with_residual.then(|| activation(randn(&shape)));
        let gamma = leaf(randn(&[shape[1]]));
        let beta = leaf(randn(&[shape[1]]));
        let running = [Tensor::zeros([shape[1]], options), Tensor::ones([shape[1]], options)];
        let y = if fused {
            let norm = BatchNorm {
                gamma: &gamma,
                beta: &beta,
                running: Some((&running[0], &running[1])),
                momentum: 0.1,
                eps: 1e-5,
            };
            batch_norm_relu(&x, residual.as_ref(), &norm).unwrap()
        } else {
            let [mean, variance] = &running;
            let y = x.to_kind(wide).batch_norm(
                Some(&gamma),
                Some(&beta),
                Some(mean),
                Some(variance),
                true,
                0.1,
                1e-5,
                false,
            );
            residual.as_ref().map_or_else(|| y.shallow_clone(), |residual| &y + residual).relu()
        };
        // What comes back from the next layer is rounded too.
        let weights = randn(&y.size()).to_kind(kind).to_kind(wide);
        (y.to_kind(wide) * weights).sum(wide).backward();
        let leaves = [Some(x), Some(gamma), Some(beta), residual];
        let gradients = leaves.into_iter().flatten().map(|leaf| leaf.grad().to_kind(wide)).collect();
        Outcome { y: y.detach().to_kind(wide), gradients, running }
    }

    /// norm2(a - b) / norm2(b). In f32 the two forms round differently, and a few gates near zero open the other way.
    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).norm().double_value(&[]) / b.norm().double_value(&[]).max(1e-3)
    }

    #[test]
    fn equals_its_composite_twin() {
        for (kind, tolerance) in [(Kind::Double, 1e-10), (Kind::Float, 5e-3), (Kind::BFloat16, 1e-2)] {
            // Channels that divide a chunk, that a chunk divides, and neither; more than one block of rows.
            for shape in [[8, 16, 32, 32], [3, 128, 5, 7], [5, 24, 9, 3], [6, 3, 2, 1], [130, 1, 17, 19]] {
                for with_residual in [false, true] {
                    let run = |fused| with_num_threads(2, || case(kind, shape, with_residual, fused));
                    let (fused, composite) = (run(true), run(false));
                    assert!(distance(&fused.y, &composite.y) < tolerance, "{kind:?} {shape:?} y");
                    for (index, (a, b)) in fused.gradients.iter().zip(&composite.gradients).enumerate() {
                        let distance = distance(a, b);
                        assert!(distance < tolerance, "{kind:?} {shape:?} gradient {index}: {distance}");
                    }
                    for (a, b) in fused.running.iter().zip(&composite.running) {
                        assert!(distance(a, b) < tolerance, "{kind:?} {shape:?} running statistics");
                    }
                }
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_threads() {
        let run = |threads| with_num_threads(threads, || case(Kind::Float, [16, 16, 32, 32], true, true));
        let (one, three) = (run(1), run(3));
        assert_eq!(one.y, three.y);
        assert_eq!(one.gradients, three.gradients);
    }

    #[test]
    fn a_second_derivative_is_refused() {
        let options = (Kind::Double, Device::Cpu);
        let x = Tensor::randn([4, 3, 2, 2], options).set_requires_grad(true);
        let (gamma, beta) = (Tensor::ones([3], options), Tensor::zeros([3], options));
        let norm = BatchNorm { gamma: &gamma, beta: &beta, running: None, momentum: 0.1, eps: 1e-5 };
        let y = batch_norm_relu(&x, None, &norm).unwrap();
        let error = Tensor::f_run_backward(&[(&y * &y).sum(Kind::Double)], &[&x], true, true).unwrap_err();
        assert!(error.to_string().contains("second derivative"), "{error}");
    }

    #[test]
    fn one_value_per_channel_cannot_be_normalised() {
        let options = (Kind::Float, Device::Cpu);
        let ones = Tensor::ones([3], options);
        let norm = BatchNorm { gamma: &ones, beta: &ones, running: None, momentum: 0.1, eps: 1e-5 };
        assert!(batch_norm_relu(&Tensor::ones([1, 3, 1, 1], options), None, &norm).is_err());
    }
}
